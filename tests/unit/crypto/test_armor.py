from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdguard.crypto.armor import ArmorReader, looks_armored
from etcdguard.crypto.errors import ArmorInvalid

_BEGIN = b"-----BEGIN AGE ENCRYPTED FILE-----\n"
_END = b"-----END AGE ENCRYPTED FILE-----\n"


def _read(text: bytes, piece: int = 1) -> bytes:
    reader = ArmorReader()
    data = b"".join(reader.update(text[start : start + piece]) for start in range(0, len(text), piece))
    reader.finish()
    return data


def _body(data: bytes) -> bytes:
    text = base64.b64encode(data)
    return b"".join(text[start : start + 64] + b"\n" for start in range(0, len(text), 64))


@given(
    data=st.binary(max_size=300),
    piece=st.integers(1, 400),
    crlf=st.booleans(),
    before=st.text(" \t\r\n").map(str.encode),
    behind=st.text(" \t\r\n").map(str.encode),
)
def test_round_trip(data: bytes, piece: int, crlf: bool, before: bytes, behind: bytes) -> None:
    text = _BEGIN + _body(data) + _END
    if crlf:
        text = text.replace(b"\n", b"\r\n")
    leading = before + b"\n" if before else b""
    assert _read(leading + text + behind, piece) == data


def test_the_end_line_needs_no_line_end() -> None:
    assert _read(_BEGIN + _body(b"data") + _END.rstrip()) == b"data"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n\n",
        _BEGIN,
        _BEGIN + _body(b"data"),
        _BEGIN + _body(b"data")[:-1],
        _BEGIN + _body(b"data") + _END[:-2],
        _BEGIN + _body(b"data") + _END + b"x",
        _BEGIN + _body(b"data") + _END + _BEGIN + _END,
        b"x\n" + _BEGIN + _END,
        b" " + _BEGIN + _END,
        _BEGIN.replace(b"\n", b" \n") + _END,
        _BEGIN + _END.replace(b"\n", b" \n"),
        _BEGIN.lower() + _END,
        _BEGIN.replace(b"AGE", b"PGP") + _END.replace(b"AGE", b"PGP"),
        _BEGIN + b"\n" + _body(b"data") + _END,
        _BEGIN + _body(b"data") + b"\n" + _END,
        _BEGIN + b"Version: 1\n\n" + _body(b"data") + _END,
        _BEGIN + _body(b"ab") + _body(b"cd") + _END,
        _BEGIN + b"A" * 60 + b"\n" + b"A" * 64 + b"\n" + _END,
        _BEGIN + b"A" * 68 + b"\n" + _END,
        _BEGIN + b"QQ\n" + _END,
        _BEGIN + b"QR==\n" + _END,
        _BEGIN + b"QQ==QQ==\n" + _END,
        _BEGIN + b"QUJ_\n" + _END,
        _BEGIN + b" QUJD\n" + _END,
        _BEGIN + b"QUJD\r\r\n" + _END,
        _BEGIN + b"\xff\xff\xff\xff\n" + _END,
    ],
)
def test_refuses_every_other_form(text: bytes) -> None:
    for piece in (1, 1000):
        with pytest.raises(ArmorInvalid) as caught:
            _read(text, piece)
        assert caught.value.hint


def test_a_padded_full_line_is_the_last() -> None:
    full = base64.b64encode(bytes(46)) + b"\n"
    assert _read(_BEGIN + full + _END) == bytes(46)
    with pytest.raises(ArmorInvalid):
        _read(_BEGIN + full + _body(b"more") + _END)


def test_a_line_without_end_is_not_collected() -> None:
    reader = ArmorReader()
    reader.update(_BEGIN)
    with pytest.raises(ArmorInvalid, match="too long"):
        reader.update(b"A" * 2000)


@pytest.mark.parametrize(
    ("first", "armored"), [(b"-", True), (b"\n", True), (b" ", True), (b"a", False), (b"X", False)]
)
def test_detection(first: bytes, armored: bool) -> None:
    assert looks_armored(first[0]) is armored
