"""A strict reader of protobuf fields for the few places where generated messages will not do.

The snapshot stream reads its frames with it because a view into the frame costs nothing where a parsed
message copies every blob, and the WAL reader because a damaged record must be told apart from an odd one.
Malformed input raises ValueError; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["LENGTH_DELIMITED", "VARINT", "fields"]

VARINT = 0
LENGTH_DELIMITED = 2

_FIXED_SIZES = {1: 8, 5: 4}
_LONGEST_VARINT = 10


def fields(data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Yield ``(field number, wire type, value)`` in order of appearance.

    The value is an int for VARINT and a view into ``data`` for everything else.
    """
    position = 0
    end = len(data)
    while position < end:
        key, position = _varint(data, position)
        number, wire_type = key >> 3, key & 7
        if number == 0:
            raise ValueError("field number 0")
        if wire_type == VARINT:
            value, position = _varint(data, position)
            yield number, wire_type, value
            continue
        if wire_type == LENGTH_DELIMITED:
            size, position = _varint(data, position)
        elif wire_type in _FIXED_SIZES:
            size = _FIXED_SIZES[wire_type]
        else:
            raise ValueError(f"wire type {wire_type}")
        if size > end - position:
            raise ValueError("field longer than its message")
        yield number, wire_type, data[position : position + size]
        position += size


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """The unsigned 64-bit number at ``position`` and the position after it."""
    if position < len(data) and (only := data[position]) < 0x80:  # most are that short
        return only, position + 1
    value = 0
    for shift, byte in enumerate(data[position : position + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            if value >> 64:
                raise ValueError("number longer than 64 bits")
            return value, position + shift + 1
    raise ValueError("number cut short")
