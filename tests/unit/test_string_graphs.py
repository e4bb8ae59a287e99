"""The lookup and decode graphs against a reference in plain Python."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recommender.string_graphs import build_decode, build_lookup

VOCABULARY = ["a", "b", "c", "d", "e", "ü", "日本", "item 7"]
MAX_LENGTH, MAX_SEEN = 4, 6


def session(model: Any) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


LOOKUP = session(build_lookup(VOCABULARY, MAX_LENGTH, MAX_SEEN))


def compact(ids: list[str], width: int) -> list[int]:
    known = [VOCABULARY.index(item) + 1 for item in ids if item in VOCABULARY][-width:]
    return [0] * (width - len(known)) + known


def strings(rows: list[list[str]]) -> np.ndarray:
    width = max(map(len, rows), default=0)
    table = np.full((len(rows), width), "", dtype=object)
    for row, ids in zip(table, rows, strict=True):
        row[: len(ids)] = ids
    return table


def run(rows: list[list[str]], exclude: list[list[str]] | None = None) -> tuple[Any, Any]:
    feed = {"history": strings(rows)}
    if exclude is not None:
        feed["exclude"] = strings(exclude)
    history_ids, seen_ids = LOOKUP.run(["history_ids", "seen_ids"], feed)
    return history_ids, seen_ids


item_ids = st.lists(st.sampled_from([*VOCABULARY, "", "unknown", "A"]), max_size=12)


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(st.tuples(item_ids, item_ids), min_size=1, max_size=4), absent=st.booleans())
def test_lookup_equals_the_reference(rows: list[tuple[list[str], list[str]]], absent: bool) -> None:
    histories = [list(history) for history, _ in rows]
    excludes = [[] if absent else list(exclude) for _, exclude in rows]
    history_ids, seen_ids = run(histories, None if absent else excludes)
    assert history_ids.tolist() == [compact(history, MAX_LENGTH) for history in histories]
    assert seen_ids.tolist() == [
        compact(history + exclude, MAX_SEEN)
        for history, exclude in zip(histories, excludes, strict=True)
    ]


def test_empty_history_is_all_padding() -> None:
    history_ids, seen_ids = run([[], []])
    assert history_ids.shape == (2, MAX_LENGTH)
    assert seen_ids.shape == (2, MAX_SEEN)
    assert not history_ids.any()
    assert not seen_ids.any()


def test_exclude_outlives_an_overlong_history() -> None:
    _, seen_ids = run([["a", "b"] * 10], [["c"]])
    assert seen_ids[0].tolist() == [2, 1, 2, 1, 2, 3]


def test_decode() -> None:
    (item_ids,) = session(build_decode(VOCABULARY, 4)).run(
        None, {"item_indices": np.array([[1, 7, 0, 99], [8, 6, 2, 3]])}
    )
    assert item_ids.tolist() == [["a", "日本", "", ""], ["item 7", "ü", "b", "c"]]


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [([], "is empty"), (["a", ""], "empty item id"), (["a", "b", "a"], "'a' is in the vocabulary")],
)
def test_unusable_vocabulary(vocabulary: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_lookup(vocabulary, 4, 6)


def test_exclude_stays_an_optional_input_of_open_shape() -> None:
    """What lets Triton's C++ backend take a request without it."""
    assert [each.name for each in LOOKUP.get_inputs()] == ["history"]
    (exclude,) = LOOKUP.get_overridable_initializers()
    assert (exclude.name, exclude.shape) == ("exclude", ["B_exclude", "E"])
