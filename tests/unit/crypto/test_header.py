from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdguard.crypto import header
from etcdguard.crypto.errors import HeaderInvalid, MacMismatch
from etcdguard.crypto.header import MAX_HEADER_BYTES, MAX_STANZAS, Stanza, find_end, parse, write

_FILE_KEY = bytes(range(16))
_INTRO = b"age-encryption.org/v1\n"
_MAC = b"--- " + b"A" * 43 + b"\n"

_words = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20)
_stanzas = st.lists(
    st.builds(
        Stanza, type=_words, args=st.lists(_words, max_size=3).map(tuple), body=st.binary(max_size=200)
    ),
    min_size=1,
    max_size=4,
)


@given(stanzas=_stanzas, behind=st.binary(max_size=40))
def test_round_trip(stanzas: list[Stanza], behind: bytes) -> None:
    written = write(stanzas, _FILE_KEY)
    assert find_end(written + behind) == len(written)
    parsed = parse(written)
    assert parsed.stanzas == tuple(stanzas)
    parsed.check_mac(_FILE_KEY)
    with pytest.raises(MacMismatch):
        parsed.check_mac(bytes(16))


@given(stanzas=_stanzas)
def test_every_beginning_needs_more(stanzas: list[Stanza]) -> None:
    written = write(stanzas, _FILE_KEY)
    assert {find_end(written[:length]) for length in range(len(written))} == {None}


@given(data=st.binary(max_size=100))
def test_only_one_form_is_accepted(data: bytes) -> None:
    text = _INTRO + b"-> a " + data + b"\n" + data + b"\n" + _MAC
    try:
        parsed = parse(text)
    except HeaderInvalid:
        return
    rewritten = write(parsed.stanzas, _FILE_KEY)
    assert rewritten.rpartition(b"---")[0] == text.rpartition(b"---")[0]


@pytest.mark.parametrize("size", [0, 1, 47, 48, 49, 96])
def test_bodies_end_in_a_short_line(size: int) -> None:
    lines = write([Stanza("a", (), bytes(size))], _FILE_KEY).split(b"\n")[2:-2]
    assert [len(line) for line in lines[:-1]] == [64] * (len(lines) - 1)
    assert len(lines[-1]) < 64


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"age-encryption.org/v2\n-> a\n\n" + _MAC,
        _INTRO[:-1] + b"\r\n-> a\n\n" + _MAC,
        _INTRO + b"-> a\n\n" + _MAC[:-1],
        _INTRO + b"-> a\n\n" + _MAC[:-1] + b"A",
        _INTRO + _MAC,
        _INTRO + b"-> a\n\n",
        _INTRO + b"-> a\n" + _MAC,
        _INTRO + b"-> a\n" + b"A" * 64 + b"\n" + _MAC,
        _INTRO + b"-> a\n" + b"A" * 65 + b"\n" + _MAC,
        _INTRO + b"-> a\n" + b"A" * 68 + b"\n\n" + _MAC,
        _INTRO + b"-> a\nAA\nAA\n" + _MAC,
        _INTRO + b"-> a\nAA==\n" + _MAC,
        _INTRO + b"-> a\nAB\n" + _MAC,
        _INTRO + b"-> a\nA\n" + _MAC,
        _INTRO + b"-> a\n\xff\n" + _MAC,
        _INTRO + b"-> a\n\r\n" + _MAC,
        _INTRO + b"->\n\n" + _MAC,
        _INTRO + b"-> \n\n" + _MAC,
        _INTRO + b"->a\n\n" + _MAC,
        _INTRO + b"-> a \n\n" + _MAC,
        _INTRO + b"-> a  b\n\n" + _MAC,
        _INTRO + b"-> a\tb\n\n" + _MAC,
        _INTRO + b"-> \xc3\xa9\n\n" + _MAC,
        _INTRO + b"--> a\n\n" + _MAC,
        _INTRO + b"\n-> a\n\n" + _MAC,
        _INTRO + b"-> a\n\n---" + b"A" * 43 + b"\n",
        _INTRO + b"-> a\n\n--- " + b"A" * 42 + b"\n",
        _INTRO + b"-> a\n\n--- " + b"A" * 42 + b"B\n",
        _INTRO + b"-> a\n\n--- " + b"A" * 43 + b" \n",
        _INTRO + b"-> a\n\n--- " + b"A" * 43 + b"\r\n",
        _INTRO + b"-> a\n\n--- " + b"A" * 43 + b"=\n",
        _INTRO + b"-> a\n\n--- " + b"A" * 44 + b"\n",
        _INTRO + b"-> a\n\n" + _MAC + b"-> a\n\n" + _MAC,
    ],
)
def test_refuses_every_other_form(text: bytes) -> None:
    with pytest.raises(HeaderInvalid) as caught:
        parse(text)
    assert caught.value.hint


@pytest.mark.parametrize("data", [b"b", b"age-encryption.org/v2", b"Age", b"\x00" * 100])
def test_a_foreign_file_is_refused_at_its_first_bytes(data: bytes) -> None:
    with pytest.raises(HeaderInvalid, match="not an age v1 file"):
        find_end(data)


def test_size_is_bounded() -> None:
    assert find_end(_INTRO + b"A" * (MAX_HEADER_BYTES - len(_INTRO))) is None
    with pytest.raises(HeaderInvalid, match="longer"):
        find_end(_INTRO + b"A" * (MAX_HEADER_BYTES - len(_INTRO) + 1))
    with pytest.raises(HeaderInvalid, match="longer"):
        find_end(_INTRO + b"A" * MAX_HEADER_BYTES + b"\n" + _MAC)


def test_the_number_of_stanzas_is_bounded() -> None:
    stanza = Stanza("a", (), b"")
    assert len(parse(write([stanza] * MAX_STANZAS, _FILE_KEY)).stanzas) == MAX_STANZAS
    with pytest.raises(HeaderInvalid, match="stanzas"):
        parse(write([stanza] * (MAX_STANZAS + 1), _FILE_KEY))


def test_any_change_of_the_covered_bytes_breaks_the_mac() -> None:
    written = write([Stanza("a", ("b",), b"c")], _FILE_KEY)
    grown = written.replace(b"-> a b\n", b"-> z\n\n-> a b\n")
    with pytest.raises(MacMismatch):
        header.parse(grown).check_mac(_FILE_KEY)


def test_the_header_ends_at_the_first_mac_line_whatever_the_payload_looks_like() -> None:
    written = write([Stanza("X25519", ("a",), b"body")], _FILE_KEY)
    for payload in (b"", b"\n--- x\n", b"\n---", written):
        assert find_end(written + payload) == len(written)


@pytest.mark.parametrize("size", [0, 47, 48, 49, 96, 200])
def test_a_body_of_any_length_comes_back_as_it_was(size: int) -> None:
    body = bytes(number % 256 for number in range(size))
    parsed = parse(write([Stanza("x", (), body)], _FILE_KEY))
    assert [stanza.body for stanza in parsed.stanzas] == [body]
