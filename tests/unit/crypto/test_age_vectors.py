"""Every official age vector behaves as its header says."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from etcdguard.crypto import header
from etcdguard.crypto.errors import (
    ArmorInvalid,
    HeaderInvalid,
    MacMismatch,
    NoIdentityMatched,
    PayloadInvalid,
)
from etcdguard.crypto.recipients import Identity, ScryptIdentity, parse_identity
from etcdguard.crypto.stream import StreamWriter
from etcdguard.errors import EtcdGuardError
from tests.support.age_files import decrypt_into
from tests.support.age_vectors import AgeVector, load_vector, vector_paths, vectors_directory

_FAILURES: dict[str, type[EtcdGuardError]] = {
    "no match": NoIdentityMatched,
    "HMAC failure": MacMismatch,
    "header failure": HeaderInvalid,
    "armor failure": ArmorInvalid,
    "payload failure": PayloadInvalid,
}

_every_vector = pytest.mark.parametrize("path", vector_paths(), ids=lambda path: path.name)


def _identities(vector: AgeVector) -> list[Identity]:
    return [
        *(parse_identity(text) for text in vector.identities),
        *(ScryptIdentity(passphrase) for passphrase in vector.passphrases),
    ]


def _pieces(vector: AgeVector) -> list[int]:
    whole = len(vector.file) + 1
    return [1, 37, whole] if len(vector.file) < 10_000 else [4001, 65_536, whole]


def test_the_vectors_are_there() -> None:
    names = {path.name for path in vector_paths()}
    assert {"x25519", "scrypt", "armor_crlf", "stream_three_chunks"} <= names, (
        f"the age test vectors are not in {vectors_directory()}: set ETCDGUARD_AGE_VECTORS to their directory"
    )


@_every_vector
def test_vector(path: Path) -> None:
    vector = load_vector(path)
    for piece in _pieces(vector):
        released = bytearray()
        if vector.expect == "success":
            decrypt_into(released, vector.file, _identities(vector), piece=piece, armored=vector.armored)
            assert hashlib.sha256(released).hexdigest() == vector.payload_sha256
            continue
        with pytest.raises(EtcdGuardError) as caught:
            decrypt_into(released, vector.file, _identities(vector), piece=piece, armored=vector.armored)
        assert type(caught.value) is _FAILURES[vector.expect]
        if vector.expect == "payload failure":
            _check_prefix(vector, bytes(released))
        else:
            assert not released


def _check_prefix(vector: AgeVector, released: bytes) -> None:
    # The hash is of all a reader may release; the one here, which learns of an error as it gets the next
    # piece, may keep back the chunk before the damage but never release anything else.
    readable = vector.readable_plaintext()
    assert hashlib.sha256(readable).hexdigest() == vector.payload_sha256
    assert readable.startswith(released)


@_every_vector
def test_armor_is_recognised(path: Path) -> None:
    vector = load_vector(path)
    if vector.expect == "success":
        released = bytearray()
        decrypt_into(released, vector.file, _identities(vector))
        assert hashlib.sha256(released).hexdigest() == vector.payload_sha256


@_every_vector
def test_what_the_vectors_hold_is_written_byte_for_byte(path: Path) -> None:
    vector = load_vector(path)
    if vector.expect in ("success", "payload failure"):
        head, payload = vector.header_and_payload()
        assert header.write(header.parse(head).stanzas, vector.file_key) == head
        if vector.expect == "success":
            writer = StreamWriter(vector.file_key, payload[:16])
            plaintext = vector.readable_plaintext()
            assert writer.update(plaintext) + writer.finish() == payload[16:]
