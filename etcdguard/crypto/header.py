"""The age v1 header: a version line, one stanza a recipient, and a MAC over both.

Parsing is strict (one accepted form for every header) and bounded (`MAX_HEADER_BYTES`, `MAX_STANZAS`).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from etcdguard.crypto.errors import HeaderInvalid, MacMismatch
from etcdguard.crypto.primitives import decode_base64, encode_base64, hkdf_sha256

__all__ = ["MAX_HEADER_BYTES", "MAX_STANZAS", "Header", "Stanza", "find_end", "parse", "write"]

MAX_HEADER_BYTES = 256 * 1024
MAX_STANZAS = 128

_INTRO = b"age-encryption.org/v1\n"
_COLUMNS = 64
_STANZA_LINE = re.compile(rb"->((?: [\x21-\x7e]+)+)")
_MAC_LINE = re.compile(rb"--- ([A-Za-z0-9+/]{43})")


@dataclass(frozen=True)
class Stanza:
    """The file key wrapped for one recipient: a type, arguments of visible ASCII, and a body."""

    type: str
    args: tuple[str, ...]
    body: bytes


@dataclass(frozen=True)
class Header:
    """A parsed header. Nothing in it is to be trusted before `check_mac`."""

    stanzas: tuple[Stanza, ...]
    mac: bytes
    covered: bytes
    """The bytes the MAC is made over: everything up to and including ``---``."""

    def check_mac(self, file_key: bytes) -> None:
        """Raise MacMismatch unless the header is as the holder of ``file_key`` wrote it."""
        if not hmac.compare_digest(self.mac, _mac(file_key, self.covered)):
            raise MacMismatch("the header of the encrypted file was altered: its MAC does not match")


def write(stanzas: Sequence[Stanza], file_key: bytes) -> bytes:
    """The complete header, MAC line included."""
    covered = _INTRO + b"".join(map(_write_stanza, stanzas)) + b"---"
    return covered + f" {encode_base64(_mac(file_key, covered))}\n".encode("ascii")


def find_end(data: bytes | bytearray) -> int | None:
    """The offset just behind the header that ``data`` begins with, or None while more bytes are needed.

    Raises HeaderInvalid as soon as ``data`` cannot be the beginning of a header within the limits.
    """
    if not _INTRO.startswith(bytes(data[: len(_INTRO)])):
        raise HeaderInvalid("this is not an age v1 file")
    mac_line = data.find(b"\n---")
    end = data.find(b"\n", mac_line + 1) + 1 if mac_line >= 0 else 0
    if (end or len(data)) > MAX_HEADER_BYTES:
        raise HeaderInvalid(f"the header of the encrypted file is longer than {MAX_HEADER_BYTES} bytes")
    return end or None


def parse(data: bytes) -> Header:
    """Read a complete header as cut out by `find_end`; raises HeaderInvalid."""
    if not data.startswith(_INTRO) or not data.endswith(b"\n"):
        raise HeaderInvalid("the header of the encrypted file is incomplete")
    *stanza_lines, mac_line = data[len(_INTRO) : -1].split(b"\n")
    mac = _MAC_LINE.fullmatch(mac_line)
    if mac is None:
        raise HeaderInvalid("the MAC line of the header is malformed")
    stanzas = tuple(_parse_stanzas(stanza_lines))
    if not 0 < len(stanzas) <= MAX_STANZAS:
        raise HeaderInvalid(f"the header has {len(stanzas)} stanzas, not 1 to {MAX_STANZAS}")
    covered = data[: -len(mac_line) - 1] + b"---"
    return Header(stanzas=stanzas, mac=_decode(mac[1], "MAC"), covered=covered)


def _mac(file_key: bytes, covered: bytes) -> bytes:
    return hmac.digest(hkdf_sha256(file_key, salt=b"", info=b"header"), covered, "sha256")


def _write_stanza(stanza: Stanza) -> bytes:
    body = encode_base64(stanza.body)
    # The line after the last full one is always there, even if empty: it is what ends the body.
    lines = [body[start : start + _COLUMNS] for start in range(0, len(body) + 1, _COLUMNS)]
    return "\n".join([" ".join(("->", stanza.type, *stanza.args)), *lines, ""]).encode("ascii")


def _parse_stanzas(lines: Sequence[bytes]) -> Iterator[Stanza]:
    remaining = iter(lines)
    for line in remaining:
        match = _STANZA_LINE.fullmatch(line)
        if match is None:
            raise HeaderInvalid("a stanza of the header does not begin as one")
        kind, *args = match[1].decode("ascii").split(" ")[1:]
        yield Stanza(type=kind, args=tuple(args), body=_decode(_read_body(remaining), "stanza body"))


def _read_body(lines: Iterator[bytes]) -> bytes:
    body = []
    for line in lines:
        body.append(line)
        if len(line) < _COLUMNS:
            return b"".join(body)
        if len(line) > _COLUMNS:
            break
    raise HeaderInvalid(f"a stanza body is not wrapped at {_COLUMNS} columns or has no last line")


def _decode(text: bytes, what: str) -> bytes:
    try:
        return decode_base64(text.decode("ascii"))
    except ValueError as e:
        raise HeaderInvalid(f"a {what} in the header is not canonical base64") from e
