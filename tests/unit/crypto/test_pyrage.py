"""Files made here open with pyrage (the Rust implementation), and the other way round."""

from __future__ import annotations

import random

import pyrage
import pytest

from etcdguard.crypto.recipients import (
    ScryptIdentity,
    ScryptRecipient,
    generate_identity,
    parse_identity,
    parse_recipient,
)
from tests.support.age_files import decrypt, encrypt

_CHUNK = 64 * 1024
_every_size = pytest.mark.parametrize(
    "size", [0, 1, _CHUNK - 1, _CHUNK, _CHUNK + 1, 2 * _CHUNK, 2 * _CHUNK + 1, 10**6]
)


def _plaintext(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@_every_size
def test_pyrage_opens_ours(size: int) -> None:
    identities = [generate_identity(), generate_identity()]
    file = encrypt(_plaintext(size), [identity.recipient for identity in identities])
    for identity in identities:
        theirs = pyrage.x25519.Identity.from_str(identity.secret_text())
        assert str(theirs.to_public()) == str(identity.recipient)
        assert pyrage.decrypt(file, [theirs]) == _plaintext(size)


@_every_size
@pytest.mark.parametrize("armored", [False, True])
def test_we_open_pyrages(size: int, armored: bool) -> None:
    theirs = pyrage.x25519.Identity.generate()
    ours = parse_identity(str(theirs))
    assert parse_recipient(str(theirs.to_public())) == ours.recipient
    file = pyrage.encrypt(_plaintext(size), [generate_their_recipient(), theirs.to_public()], armored=armored)
    assert decrypt(file, [ours]) == _plaintext(size)


def generate_their_recipient() -> object:
    return pyrage.x25519.Identity.generate().to_public()


def test_passphrases() -> None:
    file = encrypt(b"data", [ScryptRecipient("pässphrase", log_n=10)])
    assert pyrage.passphrase.decrypt(file, "pässphrase") == b"data"
    theirs = pyrage.passphrase.encrypt(b"data", "pässphrase")
    assert decrypt(theirs, [ScryptIdentity("pässphrase")]) == b"data"
