"""Columns of an offline table as the bytes of Feast's Values.

The same bytes as Feast's own conversion gives, which goes value by value through Python objects
that it checks and copies. Here a column's numbers and texts become Python's in one call each.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.stores.base import EncodedRows

_LENGTH_DELIMITED = 2  # protobuf's wire type
_NULL = b""  # a Value without any field


def encode_rows(
    table: pa.Table, join_key: str, event_time: str, types: Mapping[str, str]
) -> EncodedRows:
    """Rows of an offline table as a store keeps them.

    Args:
        join_key, event_time: columns of strings and of timestamps.
        types: the view's features, each a column, and the names of their Feast ValueTypes.
    """
    return EncodedRows(
        ids=_texts(_whole(table[join_key])),
        times_us=_microseconds(_whole(table[event_time])).to_numpy(zero_copy_only=False).tolist(),
        values={name: encode(_whole(table[name]), kind) for name, kind in types.items()},
    )


def encode(column: pa.Array, kind: str) -> list[bytes]:
    """Serialised Values of a column, by the name of a Feast ValueType."""
    if pa.types.is_fixed_size_list(column.type):
        column = column.cast(pa.list_(column.type.value_type))
    if kind == "STRING_LIST":
        return list(_encode_string_lists(column))
    if kind in _LISTS:
        return list(_encode_lists(column, kind))
    if kind in _SCALARS:
        return list(_encode_scalars(column, kind))
    from feast import ValueType
    from feast.type_map import python_values_to_proto_values

    protos = python_values_to_proto_values(column.to_pylist(), ValueType[kind])
    return [proto.SerializeToString() for proto in protos]


def _encode_scalars(column: pa.Array, kind: str) -> Iterator[bytes]:
    from feast.protos.feast.types.Value_pb2 import Value

    field, prepare = _SCALARS[kind]
    for value, is_null in zip(prepare(column), _nulls(column), strict=True):
        yield _NULL if is_null else Value(**{field: value}).SerializeToString()


def _encode_lists(column: pa.Array, kind: str) -> Iterator[bytes]:
    from feast.protos.feast.types import Value_pb2

    field, message, pack = _LISTS[kind]
    offsets = column.offsets.to_numpy()
    first = offsets[0]
    elements = _filled(column.values.slice(first, offsets[-1] - first)).to_numpy()
    width, data = pack(elements)
    if width:
        yield from _packed(column, (offsets - first) * width, data, _outer_tag(field))
        return
    list_of, value_of = getattr(Value_pb2, message), Value_pb2.Value
    numbers = elements.tolist()
    for (start, end), is_null in zip(pairwise(offsets - first), _nulls(column), strict=True):
        values = numbers[start:end]
        yield _NULL if is_null else value_of(**{field: list_of(val=values)}).SerializeToString()


def _packed(column: pa.Array, starts: Any, data: bytes, outer: bytes) -> Iterator[bytes]:
    """Lists of numbers in protobuf's wire format, cut from the encoded column at `starts`."""
    for (start, end), is_null in zip(pairwise(starts.tolist()), _nulls(column), strict=True):
        if is_null:
            yield _NULL
        elif start == end:
            yield outer + b"\0"
        else:
            size = _varint(end - start)
            message = _varint(1 + len(size) + end - start)
            yield b"%b%b\n%b%b" % (outer, message, size, data[start:end])


def _pack_varints(values: Any) -> tuple[int, bytes]:
    """Bytes of each number and all of them, if all take as many: as times of an age do, and 0."""
    if not len(values) or values.min() < 0:
        return 0, b""
    width, longest = (len(_varint(int(each))) for each in (values.min(), values.max()))
    if width != longest:
        return 0, b""
    digits = (values.astype(np.int64)[:, None] >> np.arange(0, 7 * width, 7)) & 127
    digits[:, :-1] |= 128
    return width, digits.astype(np.uint8).tobytes()


def _pack_floats(values: Any) -> tuple[int, bytes]:
    return 4, values.astype("<f4").tobytes()


def _outer_tag(field: str) -> bytes:
    from feast.protos.feast.types.Value_pb2 import Value

    return _varint(Value.DESCRIPTOR.fields_by_name[field].number << 3 | _LENGTH_DELIMITED)


def _encode_string_lists(column: pa.Array) -> Iterator[bytes]:
    """In protobuf's wire format: all elements of the column in one go, then cut row by row."""
    outer = _outer_tag("string_list_val")
    offsets = column.offsets.to_numpy().tolist()
    elements = _elements(column.values.slice(offsets[0], offsets[-1] - offsets[0]))
    starts = np.frombuffer(elements.buffers()[1], np.int64)[elements.offset :]
    data = elements.buffers()[2].to_pybytes() if elements.buffers()[2] else b""
    for (first, last), is_null in zip(pairwise(offsets), _nulls(column), strict=True):
        if is_null:
            yield _NULL
        else:
            message = data[starts[first - offsets[0]] : starts[last - offsets[0]]]
            yield b"%b%b%b" % (outer, _varint(len(message)), message)


def _elements(texts: pa.Array) -> pa.Array:
    """Each text as an element of StringList: its field 1, the length, and itself."""
    raws = pc.fill_null(texts, "").cast(pa.large_binary())
    lengths = pc.binary_length(raws)
    longest = pc.max(lengths).as_py() or 0
    heads = [b"\n" + _varint(length) for length in range(longest + 1)]
    head = pa.array(heads, pa.large_binary()).take(lengths)
    return pc.binary_join_element_wise(head, raws, pa.scalar(b"", pa.large_binary()))


def _varint(value: int) -> bytes:
    """As protobuf encodes unsigned numbers (protobuf.dev, "Encoding")."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _nulls(column: pa.Array) -> Iterable[bool]:
    if not column.null_count:
        return (False for _ in range(len(column)))
    return [bool(each) for each in pc.is_null(column).to_numpy(zero_copy_only=False)]


def _numbers(column: pa.Array) -> list[Any]:
    return list(_filled(column).to_numpy(zero_copy_only=False).tolist())


def _filled(column: pa.Array) -> pa.Array:
    return pc.fill_null(column, 0) if column.null_count else column


def _texts(column: pa.Array) -> list[str]:
    """One Python string for each different text."""
    filled = pc.fill_null(column, "") if column.null_count else column
    encoded = filled.dictionary_encode()
    words = np.array([*encoded.dictionary.to_pylist(), None], dtype=object)
    return list(words[encoded.indices.to_numpy()].tolist())


def _microseconds(column: pa.Array) -> pa.Array:
    return column.cast(pa.timestamp("us", tz=column.type.tz)).cast(pa.int64())


def _seconds(column: pa.Array) -> list[int]:
    """As Feast has them: the part below a second is cut off, towards zero."""
    us = _numbers(_microseconds(column))
    return [value // 1_000_000 if value >= 0 else -(-value // 1_000_000) for value in us]


_Prepare = Callable[[pa.Array], Sequence[Any]]
_SCALARS: dict[str, tuple[str, _Prepare]] = {
    "STRING": ("string_val", _texts),
    "INT64": ("int64_val", _numbers),
    "UNIX_TIMESTAMP": ("unix_timestamp_val", _seconds),
}
_LISTS: dict[str, tuple[str, str, Callable[[Any], tuple[int, bytes]]]] = {
    "INT64_LIST": ("int64_list_val", "Int64List", _pack_varints),
    "FLOAT_LIST": ("float_list_val", "FloatList", _pack_floats),
}
