"""The X25519 recipient type of age: a key pair whose public half is shown as ``age1...``."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from etcdguard.crypto import bech32
from etcdguard.crypto.errors import HeaderInvalid
from etcdguard.crypto.header import Stanza
from etcdguard.crypto.primitives import (
    WRAPPED_FILE_KEY_BYTES,
    decode_base64,
    encode_base64,
    fingerprint,
    hkdf_sha256,
    unwrap_file_key,
    wrap_file_key,
)
from etcdguard.errors import ConfigError

__all__ = ["IDENTITY_HRP", "KEY_BYTES", "RECIPIENT_HRP", "X25519Identity", "X25519Recipient"]

RECIPIENT_HRP = "age"
IDENTITY_HRP = "AGE-SECRET-KEY-"
KEY_BYTES = 32

_TYPE = "X25519"
_INFO = b"age-encryption.org/v1/X25519"


class X25519Recipient:
    """A public key to encrypt to. ``str()`` gives its text, ``age1...``."""

    def __init__(self, public_key: bytes) -> None:
        if not _is_usable(public_key):
            raise ConfigError(
                "the age recipient is not a usable X25519 public key",
                hint="copy the line `age1...` that belongs to the identity once more",
            )
        self._public_key = public_key

    def __str__(self) -> str:
        return bech32.encode(RECIPIENT_HRP, self._public_key)

    def __repr__(self) -> str:
        return f"X25519Recipient({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, X25519Recipient) and self._public_key == other._public_key

    def __hash__(self) -> int:
        return hash(self._public_key)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the recipient's text."""
        return fingerprint(str(self).encode("ascii"))

    def wrap(self, file_key: bytes) -> Sequence[Stanza]:
        """One stanza, made with a fresh ephemeral key."""
        ephemeral = X25519PrivateKey.generate()
        share = ephemeral.public_key().public_bytes_raw()
        shared_secret = ephemeral.exchange(X25519PublicKey.from_public_bytes(self._public_key))
        wrap_key = _wrap_key(shared_secret, share, self._public_key)
        return [Stanza(_TYPE, (encode_base64(share),), wrap_file_key(wrap_key, file_key))]


class X25519Identity:
    """A private key to decrypt with. Only `secret_text` gives it away."""

    def __init__(self, private_key: bytes) -> None:
        self._private_key = X25519PrivateKey.from_private_bytes(private_key)
        self._public_key = self._private_key.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"X25519Identity(recipient={str(self.recipient)!r})"

    @property
    def recipient(self) -> X25519Recipient:
        """The public half."""
        return X25519Recipient(self._public_key)

    def secret_text(self) -> str:
        """``AGE-SECRET-KEY-1...``: for a file of mode 0600 and nothing else."""
        return bech32.encode(IDENTITY_HRP, self._private_key.private_bytes_raw())

    def unwrap(self, stanzas: Sequence[Stanza]) -> bytes | None:
        """The file key, if a stanza is for this identity; HeaderInvalid if an X25519 stanza is malformed."""
        for stanza in stanzas:
            if stanza.type == _TYPE:
                file_key = unwrap_file_key(self._agree(stanza), stanza.body)
                if file_key is not None:
                    return file_key
        return None

    def _agree(self, stanza: Stanza) -> bytes:
        """The wrap key this identity shares with whoever wrote the stanza."""
        try:
            (argument,) = stanza.args
            share = decode_base64(argument)
            # Refuses a share of the wrong size, and one of low order (which makes the secret all zero).
            shared_secret = self._private_key.exchange(X25519PublicKey.from_public_bytes(share))
        except ValueError as e:
            raise HeaderInvalid("an X25519 stanza does not have one valid share") from e
        # Before decrypting: a longer body could be made to open under more than one key.
        if len(stanza.body) != WRAPPED_FILE_KEY_BYTES:
            raise HeaderInvalid("the body of an X25519 stanza does not have the size of a wrapped file key")
        return _wrap_key(shared_secret, share, self._public_key)


def _is_usable(public_key: bytes) -> bool:
    """Whether it is 32 bytes and not of low order, which would give the same secret to every private key."""
    try:
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(public_key))
    except ValueError:
        return False
    return True


def _wrap_key(shared_secret: bytes, share: bytes, public_key: bytes) -> bytes:
    return hkdf_sha256(shared_secret, salt=share + public_key, info=_INFO)
