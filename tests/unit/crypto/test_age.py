"""Whole files: what is refused, and that nothing comes out before it is authenticated."""

from __future__ import annotations

import base64
import random
import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etcdguard.crypto import header
from etcdguard.crypto.age import Decryptor, Encryptor
from etcdguard.crypto.errors import (
    ArmorInvalid,
    HeaderInvalid,
    MacMismatch,
    NoIdentityMatched,
    PayloadInvalid,
)
from etcdguard.crypto.header import MAX_STANZAS, Stanza
from etcdguard.crypto.recipients import (
    Identity,
    Recipient,
    ScryptIdentity,
    ScryptRecipient,
    generate_identity,
)
from etcdguard.errors import ConfigError, Corruption, WrongKey
from tests.support.age_files import cut_every, decrypt, decrypt_into, encrypt

_CHUNK = 64 * 1024
_SEALED = _CHUNK + 16

_identity = generate_identity()
_plaintext = random.Random(1).randbytes(2 * _CHUNK + 100)
_file = encrypt(_plaintext, [_identity.recipient])
_payload_start = len(_file) - 2 * _SEALED - 116
_header = _file[: _payload_start - 16]

_sizes = st.builds(
    lambda chunks, offset: max(0, chunks * _CHUNK + offset), st.integers(0, 3), st.integers(-2, 2)
)


def _refused(file: bytes, piece: int = 100_000) -> int:
    """Assert that ``file`` is refused, and only a beginning of the plaintext released; its length."""
    released = bytearray()
    with pytest.raises((Corruption, WrongKey)) as caught:
        decrypt_into(released, file, [_identity], piece=piece)
    assert caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint
    assert _plaintext.startswith(released)
    return len(released)


@settings(deadline=None)
@given(size=_sizes, piece=st.integers(1000, 200_000), seed=st.integers(0, 99))
def test_round_trip(size: int, piece: int, seed: int) -> None:
    plaintext = random.Random(seed).randbytes(size)
    encryptor, decryptor = Encryptor([_identity.recipient]), Decryptor([_identity])
    parts = [
        encryptor.start(),
        *(encryptor.update(part) for part in cut_every(plaintext, piece)),
        encryptor.finish(),
    ]
    opened = b"".join(decryptor.update(memoryview(part)) for part in cut_every(b"".join(parts), piece + seed))
    assert opened + decryptor.finish() == plaintext


def test_a_header_fed_byte_by_byte() -> None:
    released = bytearray()
    decrypt_into(released, encrypt(b"data", [_identity.recipient]), [_identity], piece=1)
    assert released == b"data"


def test_every_recipient_can_open_it_and_nobody_else() -> None:
    identities = [generate_identity() for _ in range(3)]
    file = encrypt(b"data", [identity.recipient for identity in identities])
    stranger = generate_identity()
    for identity in identities:
        assert decrypt(file, [stranger, identity]) == b"data"
    strangers: list[list[Identity]] = [[], [stranger], [stranger, ScryptIdentity("password")]]
    for others in strangers:
        with pytest.raises(NoIdentityMatched) as caught:
            decrypt(file, others)
        assert caught.value.exit_code == 12


def test_a_passphrase() -> None:
    file = encrypt(b"data", [ScryptRecipient("password", log_n=4)])
    assert decrypt(file, [_identity, ScryptIdentity("password")]) == b"data"
    with pytest.raises(NoIdentityMatched):
        decrypt(file, [ScryptIdentity("Password")])


def test_two_files_share_nothing() -> None:
    first, second = (encrypt(b"data", [_identity.recipient]) for _ in range(2))
    assert (
        header.parse(first[: header.find_end(first)]).stanzas
        != header.parse(second[: header.find_end(second)]).stanzas
    )
    assert first[-36:-20] != second[-36:-20]  # the nonces
    assert first[-20:] != second[-20:]


@pytest.mark.parametrize(
    "recipients",
    [
        [],
        [_identity.recipient] * (MAX_STANZAS + 1),
        [ScryptRecipient("password", log_n=4), _identity.recipient],
        [ScryptRecipient("password", log_n=4), ScryptRecipient("word", log_n=4)],
    ],
)
def test_recipients_that_cannot_be_together_are_refused(recipients: Sequence[Recipient]) -> None:
    with pytest.raises(ConfigError):
        Encryptor(recipients)


def test_as_many_recipients_as_allowed_can_be_read_again() -> None:
    assert decrypt(encrypt(b"data", [_identity.recipient] * MAX_STANZAS), [_identity]) == b"data"


@pytest.mark.parametrize("piece", [7, 100_000])
def test_any_flipped_bit_of_the_header_is_refused_by_the_header(piece: int) -> None:
    file = encrypt(b"secret", [_identity.recipient])
    for place in range(len(file) - 16 - len(b"secret") - 16):
        for bit in range(8):
            damaged = bytearray(file)
            damaged[place] ^= 1 << bit
            released = bytearray()
            with pytest.raises((HeaderInvalid, MacMismatch, NoIdentityMatched)):
                decrypt_into(released, bytes(damaged), [_identity], piece=piece, armored=False)
            assert not released


@pytest.mark.parametrize("region", ["nonce", "chunk 0", "chunk 1", "last chunk"])
def test_any_flipped_bit_of_the_payload_is_refused(region: str) -> None:
    places, released = {
        "nonce": (range(len(_header), _payload_start), 0),
        "chunk 0": (
            [_payload_start, _payload_start + 999, *range(_payload_start + _CHUNK, _payload_start + _SEALED)],
            0,
        ),
        "chunk 1": ([_payload_start + _SEALED, _payload_start + 2 * _SEALED - 1], _CHUNK),
        "last chunk": (range(_payload_start + 2 * _SEALED, len(_file)), 2 * _CHUNK),
    }[region]
    for place in places:
        damaged = bytearray(_file)
        damaged[place] ^= 1 << place % 8
        assert _refused(bytes(damaged)) == released


def test_truncation_is_refused_wherever_it_falls() -> None:
    borders = [_payload_start, _payload_start + _SEALED, _payload_start + 2 * _SEALED, len(_file)]
    lengths = {
        *range(_payload_start + 20),
        *(border + offset for border in borders for offset in range(-20, 20)),
    }
    for length in lengths & set(range(len(_file))):
        _refused(_file[:length])


def test_what_is_cut_within_the_header_is_a_bad_header() -> None:
    for length in (0, 10, len(_header) - 1, len(_header), len(_header) + 15):
        with pytest.raises(HeaderInvalid, match="within its header"):
            decrypt(_file[:length], [_identity])


def test_bytes_behind_the_end_are_refused() -> None:
    for extra in (b"\x00", b"\n", _file):
        _refused(_file + extra)


def test_the_header_of_one_file_does_not_open_another() -> None:
    other = encrypt(_plaintext, [_identity.recipient])
    with pytest.raises(PayloadInvalid):
        decrypt(_header + other[len(_header) :], [_identity])


@pytest.mark.parametrize("extra", [b"-> grease x\n\n", b"-> X25519 " + b"A" * 43 + b"\n" + b"A" * 43 + b"\n"])
def test_an_added_stanza_is_refused(extra: bytes) -> None:
    # At the end, because an X25519 stanza in front would be refused for its share before the MAC is reached.
    with pytest.raises(MacMismatch) as caught:
        decrypt(_file.replace(b"\n---", b"\n" + extra + b"---", 1), [_identity])
    assert caught.value.exit_code == 13


def test_unknown_stanzas_are_passed_over() -> None:
    file_key = bytes(range(16))
    stanzas = [Stanza("mlkem768x25519", ("A" * 1500,), bytes(32)), *_identity.recipient.wrap(file_key)]
    released = bytearray()
    with pytest.raises(PayloadInvalid):  # only the header matters here: nothing was sealed with this key
        decrypt_into(released, header.write(stanzas, file_key) + bytes(16) + bytes(40), [_identity])


def test_a_passphrase_stanza_beside_others_is_refused_whoever_reads() -> None:
    file_key = bytes(range(16))
    stanzas = [*_identity.recipient.wrap(file_key), *ScryptRecipient("password", log_n=4).wrap(file_key)]
    file = header.write(stanzas, file_key) + bytes(16) + bytes(16)
    for identity in (_identity, ScryptIdentity("password")):
        with pytest.raises(HeaderInvalid, match="passphrase"):
            decrypt(file, [identity])


def test_after_an_error_nothing_more_is_released() -> None:
    decryptor = Decryptor([_identity])
    decryptor.update(_file[:_payload_start])
    with pytest.raises(PayloadInvalid):
        decryptor.update(bytes(2 * _SEALED))
    with pytest.raises(RuntimeError):
        decryptor.update(_file[_payload_start:])
    with pytest.raises(RuntimeError):
        decryptor.finish()


def test_calls_out_of_order_are_refused() -> None:
    encryptor = Encryptor([_identity.recipient])
    with pytest.raises(RuntimeError):
        encryptor.update(b"data")
    with pytest.raises(RuntimeError):
        encryptor.finish()
    file = encryptor.start() + encryptor.finish()
    for call in (encryptor.start, encryptor.finish, lambda: encryptor.update(b"")):
        with pytest.raises(RuntimeError):
            call()
    decryptor = Decryptor([_identity])
    assert decryptor.update(file) + decryptor.update(b"") + decryptor.finish() == b""
    with pytest.raises(RuntimeError):
        decryptor.finish()


def test_an_armored_file_that_is_not_age_inside() -> None:
    text = b"-----BEGIN AGE ENCRYPTED FILE-----\nQUJD\n-----END AGE ENCRYPTED FILE-----\n"
    with pytest.raises(HeaderInvalid):
        decrypt(text, [_identity])


@pytest.mark.parametrize("ending", [b"", b"-----END AGE", b"-----END AGE ENCRYPTED FILE-----\ngarbage"])
def test_a_whole_file_in_a_broken_armor_is_refused(ending: bytes) -> None:
    file = base64.b64encode(encrypt(b"data", [_identity.recipient]))
    lines = b"".join(line + b"\n" for line in cut_every(file, 64))
    begin, end = b"-----BEGIN AGE ENCRYPTED FILE-----\n", b"-----END AGE ENCRYPTED FILE-----\n"
    assert decrypt(begin + lines + end, [_identity]) == b"data"
    with pytest.raises(ArmorInvalid):
        decrypt(begin + lines + ending, [_identity])


def test_memory_does_not_grow_with_the_file() -> None:
    piece = bytes(1 << 20)
    encryptor, decryptor = Encryptor([_identity.recipient]), Decryptor([_identity])
    tracemalloc.start()
    decryptor.update(encryptor.start())
    for _ in range(64):
        decryptor.update(encryptor.update(piece))
    decryptor.update(encryptor.finish())
    decryptor.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 << 20
