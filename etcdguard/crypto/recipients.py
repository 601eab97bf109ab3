"""Who may open an age file: the two protocols, the supported types, and their text forms.

A further type (such as the post-quantum ``age1pq1...``) is a class that fits the protocols and an entry in
`parse_recipient` and `parse_identity`; nothing else knows the types.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from etcdguard.crypto import bech32
from etcdguard.crypto.header import Stanza
from etcdguard.crypto.keyfile import read_key_text
from etcdguard.crypto.scrypt import ScryptIdentity, ScryptRecipient
from etcdguard.crypto.x25519 import IDENTITY_HRP, KEY_BYTES, RECIPIENT_HRP, X25519Identity, X25519Recipient
from etcdguard.errors import ConfigError

__all__ = [
    "Identity",
    "Recipient",
    "ScryptIdentity",
    "ScryptRecipient",
    "X25519Identity",
    "X25519Recipient",
    "generate_identity",
    "parse_identity",
    "parse_recipient",
    "read_identities_file",
    "read_passphrase_file",
    "read_recipients_file",
]

_Key = TypeVar("_Key")


class Recipient(Protocol):
    """Someone to encrypt to."""

    @property
    def fingerprint(self) -> str:
        """Names the recipient in a manifest without giving away the recipient itself."""

    def wrap(self, file_key: bytes) -> Sequence[Stanza]:
        """Wrap the file key so that only the matching identity can unwrap it; never the same bytes twice."""


class Identity(Protocol):
    """Someone who can decrypt."""

    def unwrap(self, stanzas: Sequence[Stanza]) -> bytes | None:
        """The file key, or None if no stanza is for this identity.

        Stanzas of a foreign type are passed over; HeaderInvalid for a malformed one of the own type.
        """


def generate_identity() -> X25519Identity:
    """A new X25519 key pair from the system's random source."""
    return X25519Identity(os.urandom(32))


def parse_recipient(text: str) -> X25519Recipient:
    """The recipient written as ``age1...``; ConfigError for anything else. Messages never quote the text."""
    if text.upper().startswith(IDENTITY_HRP):
        raise ConfigError(
            "a secret age identity stands where a public recipient belongs",
            hint="put the `age1...` line there; if others could read that place, make a new identity",
        )
    return X25519Recipient(_decode(text, RECIPIENT_HRP, "recipient"))


def parse_identity(text: str) -> X25519Identity:
    """The identity written as ``AGE-SECRET-KEY-1...``; ConfigError for anything else."""
    return X25519Identity(_decode(text, IDENTITY_HRP, "identity"))


def read_recipients_file(path: Path) -> list[X25519Recipient]:
    """One recipient a line; blank lines and ``#`` comments are passed over.

    Raises WrongKey if the file cannot be read and ConfigError if a line is malformed or none is there.
    """
    return _read_lines(path, "recipient", parse_recipient)


def read_identities_file(path: Path) -> list[X25519Identity]:
    """One identity a line, as age-keygen writes it; otherwise as `read_recipients_file`."""
    return _read_lines(path, "identity", parse_identity)


def read_passphrase_file(path: Path) -> str:
    """The content without its last line end; WrongKey if it cannot be read, ConfigError if it is not text."""
    return read_key_text(path, "passphrase").removesuffix("\n").removesuffix("\r")


def _decode(text: str, hrp: str, what: str) -> bytes:
    hint = f"an age {what} is one word that begins with {hrp}1, with nothing lost or added in copying"
    try:
        found, key = bech32.decode(text)
    except bech32.Bech32Error as e:
        raise ConfigError(f"the age {what} is malformed: {e}", hint=hint) from e
    if found != hrp or len(key) != KEY_BYTES:
        raise ConfigError(f"the age {what} is not of the supported type, X25519", hint=hint)
    return key


def _read_lines(path: Path, what: str, parse: Callable[[str], _Key]) -> list[_Key]:
    keys: list[_Key] = []
    for number, line in enumerate(read_key_text(path, what).splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            keys.append(parse(text))
        except ConfigError as e:
            raise ConfigError(f"{path} line {number}: {e.message}", hint=e.hint) from e
    if not keys:
        raise ConfigError(f"there is no age {what} in {path}", hint=f"write one {what} a line")
    return keys
