from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdguard.crypto import bech32
from etcdguard.crypto.bech32 import Bech32Error, decode, encode

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALID = encode("age", bytes(range(32)))


@given(data=st.binary(max_size=64), hrp=st.sampled_from(["age", "AGE-SECRET-KEY-", "age1pq", "a"]))
def test_round_trip(data: bytes, hrp: str) -> None:
    assert decode(encode(hrp, data)) == (hrp, data)


@pytest.mark.parametrize(
    "text",  # the valid ones of BIP-173 that hold whole bytes
    [
        "A12UEL5L",
        "an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1tt5tgs",
        "split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w",
    ],
)
def test_accepts_the_published_examples(text: str) -> None:
    hrp, data = decode(text)
    assert encode(hrp, data) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "age1",
        "age1qqqqq",  # too short for a checksum
        "10a06t8",  # no human-readable part
        "1qzzfhee",
        "pzry9x0s0muk",  # no separator
        "A1G7SGD8",  # checksum of the lower-case part over an upper-case one
        "x1b4n0q5v",  # b is not in the alphabet
        "de1lg7wt\xff",
        "\x201nwldj5",
        "\x7f1axkwrx",
        "age\u20131qqqqqqqq",
        "de\n1lg7wt",
        encode("age", bytes(5000)),  # right in all but its length
    ],
)
def test_refuses_what_is_not_bech32(text: str) -> None:
    with pytest.raises(Bech32Error):
        decode(text)


def test_refuses_a_foreign_character_although_the_checksum_fits() -> None:
    foreign = "ag\u00e9"
    text = foreign + "1" + "".join(_ALPHABET[value] for value in bech32._checksum(foreign, []))
    with pytest.raises(Bech32Error, match="ASCII"):
        decode(text)


def test_refuses_mixed_case() -> None:
    with pytest.raises(Bech32Error, match="case"):
        decode(_VALID[:-1] + _VALID[-1].upper())


@given(position=st.integers(0, len(_VALID) - 1), character=st.characters())
def test_refuses_every_single_change(position: int, character: str) -> None:
    changed = _VALID[:position] + character + _VALID[position + 1 :]
    if changed != _VALID:
        with pytest.raises(Bech32Error):
            decode(changed)


@given(first=st.integers(0, len(_VALID) - 1), second=st.integers(0, len(_VALID) - 1))
def test_refuses_swapped_and_missing_characters(first: int, second: int) -> None:
    swapped = list(_VALID)
    swapped[first], swapped[second] = swapped[second], swapped[first]
    if "".join(swapped) != _VALID:
        with pytest.raises(Bech32Error):
            decode("".join(swapped))
    with pytest.raises(Bech32Error):
        decode(_VALID[:first] + _VALID[first + 1 :])


@pytest.mark.parametrize("values", [[0], [0, 1], [0, 0, 0], [31, 31]])
def test_refuses_padding_that_is_not_minimal_and_zero(values: list[int]) -> None:
    # The checksum is right: only the padding is wrong, which no other test would see.
    text = "age1" + "".join(_ALPHABET[value] for value in [*values, *bech32._checksum("age", values)])
    with pytest.raises(Bech32Error, match=r"^its last bits are not zero padding$"):
        decode(text)


@given(text=st.text())
def test_raises_nothing_else_and_never_quotes_the_text(text: str) -> None:
    with pytest.raises(Bech32Error) as caught:  # a random checksum fits once in a billion times
        decode(f"AGE-SECRET-KEY-1{text}")
    assert "AGE-SECRET-KEY-" not in str(caught.value)


def test_a_text_may_have_every_character_of_the_alphabet() -> None:
    data = sum(value << 5 * value for value in range(32)).to_bytes(20, "big")
    text = encode("age", data)
    assert set(text[4:]) == set(_ALPHABET)
    assert decode(text) == ("age", data)
