"""Reading age's ASCII armor: strict PEM of one accepted form, apart from CRLF and blank lines around it."""

from __future__ import annotations

import base64
from typing import Literal

from etcdguard.crypto.errors import ArmorInvalid

__all__ = ["ArmorReader", "looks_armored"]

_BEGIN = b"-----BEGIN AGE ENCRYPTED FILE-----"
_END = b"-----END AGE ENCRYPTED FILE-----"
_COLUMNS = 64
_WHITE_SPACE = b" \t\r\n"
# No valid line is near this long; it only bounds how much of a bad one is kept.
_MAX_LINE_BYTES = 1024


def looks_armored(first_byte: int) -> bool:
    """Whether a file that begins with this byte can only be armored; a binary one begins with a letter."""
    return first_byte in b"-" + _WHITE_SPACE


class ArmorReader:
    """Takes armored text in pieces, returns the bytes inside; holds at most one line.

    Raises ArmorInvalid, after which it must not be used again.
    """

    def __init__(self) -> None:
        self._pending = b""
        self._region: Literal["before", "inside", "behind"] = "before"
        self._last_line_seen = False

    def update(self, data: bytes | memoryview) -> bytes:
        """Take armored text, return the bytes of every line that is complete."""
        *lines, self._pending = (self._pending + data).split(b"\n")
        decoded = b"".join(map(self._take_line, lines))
        if len(self._pending) > _MAX_LINE_BYTES:
            raise ArmorInvalid("a line of the armored file is too long")
        return decoded

    def finish(self) -> None:
        """The text is complete: raise ArmorInvalid unless the armor is. Its END line needs no line end."""
        if self._pending:
            self._take_line(self._pending)
        if self._region != "behind":
            raise ArmorInvalid("the armored file has no END line")

    def _take_line(self, line: bytes) -> bytes:
        text = line[:-1] if line.endswith(b"\r") else line
        if self._region == "inside" and text != _END:
            return self._decode(text)
        if self._region == "inside":
            self._region = "behind"
        elif self._region == "before" and text == _BEGIN:
            self._region = "inside"
        elif text.strip(_WHITE_SPACE):
            raise ArmorInvalid(f"there is something other than white space {self._region} the armor")
        return b""

    def _decode(self, text: bytes) -> bytes:
        if not 0 < len(text) <= _COLUMNS or self._last_line_seen:
            raise ArmorInvalid(f"the lines of the armored file are not wrapped at {_COLUMNS} columns")
        self._last_line_seen = len(text) < _COLUMNS or text.endswith(b"=")
        try:
            data = base64.b64decode(text, validate=True)
        except ValueError as e:
            raise ArmorInvalid("a line of the armored file is not base64") from e
        if base64.b64encode(data) != text:
            raise ArmorInvalid("a line of the armored file is not canonical base64")
        return data
