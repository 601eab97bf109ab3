"""The scrypt recipient type of age: one passphrase, alone in its file."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from etcdguard.crypto.errors import HeaderInvalid
from etcdguard.crypto.header import Stanza
from etcdguard.crypto.primitives import (
    WRAPPED_FILE_KEY_BYTES,
    decode_base64,
    encode_base64,
    unwrap_file_key,
    wrap_file_key,
)
from etcdguard.errors import ConfigError

__all__ = ["DEFAULT_LOG_N", "MAX_LOG_N", "SCRYPT_TYPE", "ScryptIdentity", "ScryptRecipient"]

SCRYPT_TYPE = "scrypt"
DEFAULT_LOG_N = 18
"""About a second and 256 MiB of memory; both double with each step."""
MAX_LOG_N = 22
"""What a file may ask of its reader unless the caller says otherwise: 4 GiB of memory."""

_SALT_BYTES = 16
_LABEL = b"age-encryption.org/v1/scrypt"
_DECIMAL = re.compile(r"[1-9][0-9]?")


class ScryptRecipient:
    """A passphrase to encrypt with; must be the only recipient of its file."""

    fingerprint = "scrypt"
    """A constant: a digest of a passphrase would invite guessing it."""

    def __init__(self, passphrase: str, *, log_n: int = DEFAULT_LOG_N) -> None:
        self._passphrase = _encode(passphrase)
        self._log_n = log_n

    def __repr__(self) -> str:
        return f"ScryptRecipient(log_n={self._log_n})"

    def wrap(self, file_key: bytes) -> Sequence[Stanza]:
        """One stanza, made with a fresh salt."""
        salt = os.urandom(_SALT_BYTES)
        wrap_key = _wrap_key(self._passphrase, salt, self._log_n)
        return [
            Stanza(SCRYPT_TYPE, (encode_base64(salt), str(self._log_n)), wrap_file_key(wrap_key, file_key))
        ]


class ScryptIdentity:
    """A passphrase to decrypt with. Refuses files that ask for more than 2^``max_log_n`` rounds."""

    def __init__(self, passphrase: str, *, max_log_n: int = MAX_LOG_N) -> None:
        self._passphrase = _encode(passphrase)
        self._max_log_n = max_log_n

    def __repr__(self) -> str:
        return f"ScryptIdentity(max_log_n={self._max_log_n})"

    def unwrap(self, stanzas: Sequence[Stanza]) -> bytes | None:
        """The file key if it was wrapped with this passphrase; HeaderInvalid if the stanza is malformed."""
        for stanza in stanzas:
            if stanza.type == SCRYPT_TYPE:
                salt, log_n = self._parameters(stanza)
                return unwrap_file_key(_wrap_key(self._passphrase, salt, log_n), stanza.body)
        return None

    def _parameters(self, stanza: Stanza) -> tuple[bytes, int]:
        try:
            salt_text, log_n_text = stanza.args
            salt = decode_base64(salt_text)
        except ValueError as e:
            raise HeaderInvalid("the scrypt stanza does not have a valid salt and work factor") from e
        if len(salt) != _SALT_BYTES or len(stanza.body) != WRAPPED_FILE_KEY_BYTES:
            raise HeaderInvalid("the salt or the body of the scrypt stanza does not have the right size")
        if not _DECIMAL.fullmatch(log_n_text) or int(log_n_text) > self._max_log_n:
            raise HeaderInvalid(
                f"the work factor of the scrypt stanza is not a number from 1 to {self._max_log_n}"
            )
        return salt, int(log_n_text)


def _encode(passphrase: str) -> bytes:
    try:
        encoded = passphrase.encode("utf-8")
    except UnicodeEncodeError:
        encoded = b""  # the exception would carry the passphrase: let it go no further
    if not encoded:
        raise ConfigError(
            "the passphrase is empty or not UTF-8 text", hint="set a passphrase of several random words"
        )
    return encoded


def _wrap_key(passphrase: bytes, salt: bytes, log_n: int) -> bytes:
    return Scrypt(salt=_LABEL + salt, length=32, n=1 << log_n, r=8, p=1).derive(passphrase)
