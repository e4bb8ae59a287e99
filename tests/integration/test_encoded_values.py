"""Values encoded by column: the bytes that Feast's own conversion gives."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.store import import_feast

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
INT64 = st.integers(-(2**63), 2**63 - 1)
TIMES = st.integers(1_600_000_000_000_000, 1_800_000_000_000_000)
FLOAT = st.floats(width=32, allow_nan=False, allow_infinity=False)


def lists(elements: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(st.none() | st.lists(elements, max_size=8), max_size=12)


@pytest.fixture(scope="module", autouse=True)
def feast() -> None:
    import_feast()


def check(kind: str, values: list, arrow: pa.DataType, cut: int) -> None:
    from feast import ValueType
    from feast.type_map import python_values_to_proto_values

    from feature_repo.materialize.encode import encode

    column = pa.array([*values[:cut], *values], arrow).slice(min(cut, len(values)))
    protos = python_values_to_proto_values(column.to_pylist(), ValueType[kind])
    assert encode(column, kind) == [proto.SerializeToString() for proto in protos]


CUT = st.integers(0, 3)


@given(lists(TEXTS), CUT)
@settings(deadline=None, max_examples=60)
def test_lists_of_texts(values: list, cut: int) -> None:
    check("STRING_LIST", values, pa.list_(pa.string()), cut)


@given(lists(INT64) | lists(TIMES) | lists(st.just(0)), CUT)
@settings(deadline=None, max_examples=90)
def test_lists_of_numbers(values: list, cut: int) -> None:
    check("INT64_LIST", values, pa.list_(pa.int64()), cut)


@given(lists(FLOAT), CUT)
@settings(deadline=None, max_examples=60)
def test_vectors(values: list, cut: int) -> None:
    check("FLOAT_LIST", values, pa.list_(pa.float32()), cut)


@given(st.lists(TEXTS | st.none()), st.lists(INT64 | st.none()), CUT)
@settings(deadline=None, max_examples=60)
def test_texts_and_numbers(texts: list, numbers: list, cut: int) -> None:
    check("STRING", texts, pa.string(), cut)
    check("INT64", numbers, pa.int64(), cut)


@given(st.lists(st.integers(-(10**16), 4 * 10**15) | st.none()), CUT)
@settings(deadline=None, max_examples=60)
def test_times(values: list, cut: int) -> None:
    check("UNIX_TIMESTAMP", values, pa.timestamp("us", tz="UTC"), cut)


def test_vectors_of_one_length_and_short_numbers() -> None:
    check("FLOAT_LIST", [[1.0, 0.5], None, [2.0, 0.0]], pa.list_(pa.float32(), 2), 0)
    check("INT64_LIST", [[2**31 - 1, 2**30], [], [2**29]], pa.list_(pa.int32()), 0)


def test_another_type_goes_by_feast() -> None:
    check("DOUBLE_LIST", [[0.1], None, [1.0, 2.0]], pa.list_(pa.float64()), 0)
