"""Groups of test users whose quality is reported, and guarded, by itself.

Every group is known from training data, history and target's item alone, and is the same for every
ranker. Groups of one kind may share users: a film has more than one genre.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from recommender.evaluation.catalogue import Catalogue
from recommender.sequences import Split
from recommender.settings import EvaluationConfig

ACTIVITY = "activity"
NO_LANGUAGE = ("", "und")


@dataclass(frozen=True)
class Slice:
    """Attributes:
    by, name: what the group is by, and which of them it is.
    users: bool [U].
    as_new: its users are ranked from their latest `evaluation.new_user_events` events alone.
    """

    by: str
    name: str
    users: np.ndarray
    as_new: bool = False


def make_slices(
    test: Split, counts_N1: np.ndarray, config: EvaluationConfig, catalogue: Catalogue | None = None
) -> list[Slice]:
    """All groups that have users.

    Args:
        counts_N1: training events of each item, entry 0 is 0.
        catalogue: without it there are no categories and languages.
    """
    slices = [*_activity(test, config), *_popularity(test, counts_N1, config)]
    cold_U = counts_N1[test.targets] < config.cold_item_events
    name = f"targets with fewer than {_events(config.cold_item_events)} in training"
    slices.append(Slice("cold items", name, cold_U))
    if catalogue is not None:
        slices.extend(_by_word("category", test, catalogue.categories, config))
        if catalogue.languages is not None:
            words = [[w] if w not in NO_LANGUAGE else [] for w in catalogue.languages]
            languages = _by_word("language", test, words, config)
            slices.extend(languages if len(languages) > 1 else [])
    return [group for group in slices if group.users.any()]


def popularity_groups(counts_N1: np.ndarray, head: float, tail: float) -> np.ndarray:
    """0 head, 1 mid, 2 long tail of each item, int64 [N+1]; entry 0 means nothing.

    Items from the most to the least popular: the head begins the list and holds the first `head` of
    all training events, the long tail ends it and holds the last `tail`.
    """
    order = np.argsort(-counts_N1[1:], kind="stable") + 1
    before = np.cumsum(counts_N1[order]) - counts_N1[order]
    total = max(int(counts_N1[1:].sum()), 1)
    groups = np.ones(len(counts_N1), dtype=np.int64)
    groups[order[before < head * total]] = 0
    groups[order[before >= (1 - tail) * total]] = 2
    return groups


def _activity(test: Split, config: EvaluationConfig) -> list[Slice]:
    events_U = np.array([len(history) for history in test.histories])
    name = f"new users (everyone, by the latest {_events(config.new_user_events)} alone)"
    slices = [Slice(ACTIVITY, name, np.ones(len(test), dtype=bool), as_new=True)]
    bounds = [0, *config.activity_bounds]
    for low, high in zip(bounds, [*bounds[1:], None], strict=True):
        if high is None:
            name, users_U = f"{_events(low)} and more", events_U >= low
        else:
            name = f"{low} to {high - 1} events" if low else f"fewer than {_events(high)}"
            users_U = (events_U >= low) & (events_U < high)
        slices.append(Slice(ACTIVITY, name, users_U))
    return slices


def _popularity(test: Split, counts_N1: np.ndarray, config: EvaluationConfig) -> list[Slice]:
    groups_U = popularity_groups(counts_N1, config.head_share, config.tail_share)[test.targets]
    return [
        Slice("item popularity", name, groups_U == group)
        for group, name in enumerate(("head", "mid", "long tail"))
    ]


def _by_word(
    by: str, test: Split, words_N1: list[list[str]], config: EvaluationConfig
) -> list[Slice]:
    """The commonest words of the targets that are of enough users, but not of nearly all."""
    common = Counter(word for target in test.targets for word in dict.fromkeys(words_N1[target]))
    slices = []
    for word, users in sorted(common.items(), key=lambda entry: (-entry[1], entry[0])):
        # "Beauty" of every item of Amazon Beauty is no slice.
        if config.min_slice_users <= users <= config.max_category_share * len(test):
            has_U = np.array([word in words_N1[target] for target in test.targets])
            slices.append(Slice(by, word, has_U))
        if len(slices) == config.max_categories:
            break
    return slices


def _events(count: int) -> str:
    return f"{count} event" if count == 1 else f"{count} events"
