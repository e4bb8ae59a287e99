"""The rules of `source.cleaning`, in the order in which they are applied.

Order decides what a row's reason is, and what later rules count. Bad rows go first: duplicates,
then times that cannot be. Repeats within a window are one event before bots are judged, or a
person who double-clicks would be one. The k-core is last, because whatever is dropped after it
may leave less than the core: any other rule is applied before these, or at the least before it.
What is late is told by the partitions that events came in: ingestion.incremental.lateness.
"""

from datetime import UTC, datetime

from ingestion.cleaning.bots import bots
from ingestion.cleaning.kcore import k_core
from ingestion.cleaning.repeats import duplicate_rows
from ingestion.cleaning.repeats_in_time import repeats_in_time
from ingestion.cleaning.rule import Rule
from ingestion.cleaning.times import out_of_time
from ingestion.sources import SourceConfig
from recommender import schema


def event_rules(config: SourceConfig) -> list[Rule]:
    """What drops events that could be read and mapped; the first rule is that of duplicates."""
    cleaning = config.cleaning
    rules: list[Rule | None] = [duplicate_rows("duplicates", None, "exact duplicate")]
    rules += out_of_time(cleaning, datetime.now(UTC))
    if cleaning.repeat_window_s:
        rules.append(repeats_in_time(cleaning.repeat_window_s))
    rules += [bots(cleaning.bots), k_core(cleaning.k_core)]
    return [rule for rule in rules if rule is not None]


def item_rules(config: SourceConfig) -> list[Rule]:
    """What drops items that could be read and mapped, their texts cleaned."""
    return [_one_row_an_id("items", schema.ITEM_ID)]


def user_rules(config: SourceConfig) -> list[Rule]:
    """What drops users that could be read and mapped."""
    return [_one_row_an_id("users", schema.USER_ID)]


def _one_row_an_id(table: str, column: str) -> Rule:
    return duplicate_rows(f"duplicate_{table}", [column], f"duplicate {column}")
