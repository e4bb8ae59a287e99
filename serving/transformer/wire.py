"""BYTES tensors as they travel: each value after its length, a 32-bit little-endian number."""

import functools
import struct
from collections.abc import Iterable, Sequence

import numpy as np

_LENGTH = struct.Struct("<I")
_PADDING = _LENGTH.pack(0)


# Ids repeat from request to request; requests bound their length, so this stays small.
@functools.lru_cache(maxsize=1 << 16)
def _packed(value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return _LENGTH.pack(len(raw)) + raw


def pack_rows(rows: Sequence[Sequence[bytes | str]]) -> tuple[list[int], bytes]:
    """Rows of any lengths as one tensor [B, longest], padded with "": (shape, content)."""
    width = max(1, *(len(row) for row in rows)) if rows else 1
    parts: list[bytes] = []
    for row in rows:
        parts += map(_packed, row)
        parts.append(_PADDING * (width - len(row)))
    return [len(rows), width], b"".join(parts)


def pack_times(rows: Sequence[Sequence[int] | None], width: int) -> tuple[list[int], bytes]:
    """Rows of times as one INT64 tensor [B, width], padded with 0 as their histories with ""."""
    times = np.zeros((len(rows), width), dtype="<i8")
    for row, known in enumerate(rows):
        if known:
            times[row, : len(known)] = known
    return [len(rows), width], times.tobytes()


def pack(values: Iterable[str]) -> bytes:
    """One row of texts."""
    return b"".join(map(_packed, values))


def first_columns(content: bytes, rows: int, width: int, columns: int) -> bytes:
    """Of a BYTES tensor [rows, width], the content of its first `columns` columns."""
    if columns == width:
        return content
    kept, offset = [], 0
    for row in range(rows):
        begin = offset
        for column in range(width):
            if column == columns:
                kept.append(content[begin:offset])
                if row == rows - 1:
                    break
            offset += 4 + _LENGTH.unpack_from(content, offset)[0]
    return b"".join(kept)


def split_rows(content: bytes, counts: Sequence[int], width: int) -> list[bytes]:
    """A BYTES tensor [sum of counts, width] as tensors of so many rows each."""
    if len(counts) == 1:
        return [content]
    parts, offset = [], 0
    for count in counts:
        begin = offset
        for _ in range(count * width):
            offset += 4 + _LENGTH.unpack_from(content, offset)[0]
        parts.append(content[begin:offset])
    return parts


def short_rows(content: bytes, width: int) -> int:
    """How many rows of a BYTES tensor [rows, width] have a "", which pads short answers."""
    if _PADDING not in content:  # nearly always, and quickly told
        return 0
    values = unpack(content)
    return sum(b"" in values[begin : begin + width] for begin in range(0, len(values), width))


def unpack(content: bytes) -> list[bytes]:
    """All values, row by row."""
    values, offset = [], 0
    while offset < len(content):
        (length,) = _LENGTH.unpack_from(content, offset)
        values.append(content[offset + 4 : offset + 4 + length])
        offset += 4 + length
    return values
