"""Training windows: leave-one-out cut-offs on the k-core, and the histories as of them.

Per user of the core, the last first-time event is the test target, the one before it the valid
target; a target's history is everything strictly before it, of any item. The latest train history
is the valid target's; those before it, `features.train_windows` of them at most, reach back over
what the later ones leave out.
"""

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from feature_repo.config import FeatureConfig
from feature_repo.offline.cutoffs import FeatureError
from feature_repo.offline.histories import Known, at, strictly_before, train_cut
from recommender import schema
from recommender.engines.base import TableEngine

__all__ = ["WINDOWS", "FeatureError", "window_rows"]

WINDOWS = pa.schema(
    [
        ("user_id", pa.string()),
        ("cutoff", pa.timestamp("us", tz="UTC")),  # no event of the history is at or after it
        ("split", pa.string()),
        ("history", pa.list_(pa.string())),
        ("target", pa.string()),
        ("overlap", pa.int64()),  # events at the start that the user's train row before ends with
        ("history_times", pa.list_(pa.int64())),  # of each event: its timestamp, µs since 1970
    ]
)


def window_rows(
    engine: TableEngine, lists: ir.Table, config: FeatureConfig, known: Known = strictly_before
) -> ir.Table:
    """Rows of windows.parquet, by user: train, oldest first, then valid and test.

    `leaks`, a column more, is whether the history is any other than the latest events that are
    before the cut-off by their times; it is cut by their numbers.

    Args:
        lists: of feature_repo.offline.histories.
        known: replaced in tests, to show that a leak is noticed.
    """
    rows = lists.filter(lists.windows > 0).order_by("user")
    rows = rows.mutate(place=ibis.range(0, rows.windows + 2).unnest())
    is_train, is_valid = rows.place < rows.windows, rows.place == rows.windows
    rows = rows.mutate(
        cut=ibis.cases(
            (is_train, train_cut(rows, config)), (is_valid, rows.valid), else_=rows.test
        ),
        split=ibis.cases((is_train, "train"), (is_valid, "valid"), else_="test"),
    )
    length = config.history_length
    end = known(rows.cut)
    start = ibis.greatest(end - length, 0)
    rows = rows.mutate(
        history=rows["items"][start:end],
        history_times=rows.times[start:end],
        known=end,
        cutoff_us=at(rows.moments, rows.cut),
    )
    before = rows.moments.filter(lambda moment: moment < rows.cutoff_us).length()
    is_train = rows.split == "train"
    return rows.select(
        schema.USER_ID,
        "split",
        "history",
        cutoff=engine.moment(rows.cutoff_us),
        target=ibis.ifelse(is_train, ibis.null("string"), at(rows["items"], rows.cut)),
        overlap=ibis.ifelse(is_train & (rows.place > 0), config.train_overlap, 0).cast("int64"),
        history_times=rows.history_times,
        leaks=(rows.known != before) | (rows.history.length() != ibis.least(rows.known, length)),
    )
