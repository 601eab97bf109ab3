"""Bech32 (BIP-173) as age uses it: without the 90-character limit, and for whole bytes only."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Bech32Error", "decode", "encode"]

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM_LENGTH = 6
# Twice the length of a post-quantum recipient: the work on a hostile line stays small.
_MAX_LENGTH = 4096


class Bech32Error(ValueError):
    """The text is not Bech32. The message never quotes it, because it may be a secret key."""


def encode(hrp: str, data: bytes) -> str:
    """Encode ``data`` behind the human-readable part ``hrp``; the result is in the case of ``hrp``."""
    values = _to_groups(data)
    lower = hrp.lower()
    text = f"{lower}1" + "".join(_ALPHABET[value] for value in (*values, *_checksum(lower, values)))
    return text if hrp == lower else text.upper()


def decode(text: str) -> tuple[str, bytes]:
    """The human-readable part, in the case it was written, and the bytes; strict, or Bech32Error."""
    if len(text) > _MAX_LENGTH or not text.isascii() or not text.isprintable() or " " in text:
        raise Bech32Error("it is too long or holds characters outside printable ASCII")
    lower = text.lower()
    if text not in (lower, text.upper()):
        raise Bech32Error("it mixes upper and lower case")
    hrp, _, coded = lower.rpartition("1")
    if not hrp or len(coded) < _CHECKSUM_LENGTH:
        raise Bech32Error("it is too short or has no separator")
    if not set(coded) <= _VALUES.keys():
        raise Bech32Error("it holds a character outside the Bech32 alphabet")
    coded_values = [_VALUES[character] for character in coded]
    values, checksum = coded_values[:-_CHECKSUM_LENGTH], coded_values[-_CHECKSUM_LENGTH:]
    if checksum != _checksum(hrp, values):
        raise Bech32Error("its checksum does not match: a character was lost or changed")
    return text[: len(hrp)], _to_bytes(values)


def _to_groups(data: bytes) -> list[int]:
    """Regroup bytes into 5-bit values, the last one filled up with zero bits."""
    padding = -len(data) * 8 % 5
    number = int.from_bytes(data, "big") << padding
    return [number >> shift & 31 for shift in range(len(data) * 8 + padding - 5, -1, -5)]


def _to_bytes(values: Sequence[int]) -> bytes:
    """Undo `_to_groups`; refuses a padding that is longer than needed or not zero."""
    size, padding = divmod(len(values) * 5, 8)
    number = 0
    for value in values:
        number = number << 5 | value
    if padding > 4 or number & ((1 << padding) - 1):
        raise Bech32Error("its last bits are not zero padding")
    return (number >> padding).to_bytes(size, "big")


def _checksum(hrp: str, values: Sequence[int]) -> list[int]:
    expanded = [ord(character) >> 5 for character in hrp] + [0] + [ord(character) & 31 for character in hrp]
    state = _polymod([*expanded, *values, *[0] * _CHECKSUM_LENGTH]) ^ 1
    return [state >> shift & 31 for shift in range(25, -1, -5)]


def _polymod(values: Sequence[int]) -> int:
    state = 1
    for value in values:
        top = state >> 25
        state = (state & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATOR):
            if top >> bit & 1:
                state ^= generator
    return state
