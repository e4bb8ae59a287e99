"""Image vectors that came with the items: checked, and brought to length one."""

import numpy as np
import pyarrow as pa
import pytest

from recommender.errors import KuberecError
from recommender.text.images import image_vectors


def items(column: pa.Array) -> pa.Table:
    ids = [f"i{row}" for row in range(len(column))]
    return pa.table({"item_id": ids, "photo": column})


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float64()),
        pa.large_list(pa.float32()),
        pa.list_(pa.float32(), 2),
        pa.list_(pa.int32()),
        pa.list_(pa.float16()),
    ],
)
def test_lists_of_any_number_become_unit_vectors(kind):
    rows = [[3, 4], None, [0, 2], [0, 0]]
    table = items(pa.array(rows, pa.list_(pa.int32())).cast(pa.list_(kind.value_type)).cast(kind))
    made = image_vectors(table, "photo")
    assert made.column.type == pa.large_list(pa.float32())
    given = made.column.to_pylist()
    np.testing.assert_allclose(given[0], [0.6, 0.8], rtol=1e-6)
    assert given[1:] == [None, [0, 1], None]  # zeros have no direction
    assert made.description == {"column": "photo", "dim": 2, "count": 2}


def test_chunks_and_slices_of_a_table_are_read_right():
    whole = items(pa.array([[9, 9], None, [3, 4], [0, 2], None], pa.list_(pa.float32())))
    table = pa.concat_tables([whole.slice(1, 2), whole.slice(3, 2)])
    given = image_vectors(table, "photo").column.to_pylist()
    np.testing.assert_allclose(given[1], [0.6, 0.8], rtol=1e-6)
    assert [given[0], *given[2:]] == [None, [0, 1], None]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["a", "b"], r"items.photo is string: .* must hold lists of numbers"),
        ([["a"]], r"items.photo is list<.*string>: .* lists of numbers"),
        ([[1.0, 2.0], [1.0, 2.0], [1.0]], r"of item 'i2' has 1 numbers, most have 2"),
        (pa.array([[], []], pa.list_(pa.float32())), r"of item 'i0' has 0 numbers"),
        ([[1.0, 2.0], None, [1.0, float("nan")]], r"of item 'i2' holds a null, NaN or infinite"),
        ([[1.0, None]], r"of item 'i0' holds a null"),
        (pa.array([None, None], pa.list_(pa.float32())), r"has no vector at all"),
    ],
)
def test_what_is_no_image_vector_is_named(column, message):
    with pytest.raises(KuberecError, match=message):
        image_vectors(items(pa.array(column)), "photo")


def test_a_column_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(KuberecError, match=r"is 'image', which .*: item_id, photo"):
        image_vectors(items(pa.array([[1.0]])), "image")
