"""Encrypting and decrypting age v1 files, push-style and in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Sequence

from etcdguard.crypto import header
from etcdguard.crypto.armor import ArmorReader, looks_armored
from etcdguard.crypto.errors import HeaderInvalid, NoIdentityMatched
from etcdguard.crypto.primitives import FILE_KEY_BYTES
from etcdguard.crypto.recipients import Identity, Recipient, ScryptRecipient
from etcdguard.crypto.scrypt import SCRYPT_TYPE
from etcdguard.crypto.stream import NONCE_BYTES, StreamReader, StreamWriter
from etcdguard.errors import ConfigError

__all__ = ["Decryptor", "Encryptor"]


class Encryptor:
    """One age file in the making: ``start`` once, ``update`` as often as needed, ``finish`` once.

    The file is the concatenation of all that they return. Raises ConfigError at once for recipients that no
    age file can have together.
    """

    def __init__(self, recipients: Sequence[Recipient]) -> None:
        if not 0 < len(recipients) <= header.MAX_STANZAS:
            raise ConfigError(
                f"an encrypted file needs 1 to {header.MAX_STANZAS} recipients, not {len(recipients)}",
                hint="list at least one age recipient or set a passphrase",
            )
        if len(recipients) > 1 and any(isinstance(recipient, ScryptRecipient) for recipient in recipients):
            raise ConfigError(
                "a passphrase cannot be combined with other recipients",
                hint="use either one passphrase or a list of age recipients",
            )
        self._recipients = tuple(recipients)
        self._writer: StreamWriter | None = None

    def start(self) -> bytes:
        """Draw fresh keys, wrap them for every recipient, return the header and the payload nonce."""
        if self._writer is not None:
            raise RuntimeError("the encryptor was started before")
        file_key, nonce = os.urandom(FILE_KEY_BYTES), os.urandom(NONCE_BYTES)
        self._writer = StreamWriter(file_key, nonce)
        stanzas = [stanza for recipient in self._recipients for stanza in recipient.wrap(file_key)]
        return header.write(stanzas, file_key) + nonce

    def update(self, data: bytes | memoryview) -> bytes:
        """Take plaintext, return what became ready of the ciphertext; at most 64 KiB is held back."""
        return self._started().update(data)

    def finish(self) -> bytes:
        """The rest of the ciphertext."""
        return self._started().finish()

    def _started(self) -> StreamWriter:
        if self._writer is None:
            raise RuntimeError("the encryptor was not started")
        return self._writer


class Decryptor:
    """One age file being read: ``update`` as often as needed, ``finish`` once.

    Returns authenticated plaintext only; it is complete only when ``finish`` has returned. ``armored`` says
    whether the file is in ASCII armor; None finds out from its first byte. Raises Corruption (HeaderInvalid,
    MacMismatch, PayloadInvalid, ArmorInvalid) and WrongKey (NoIdentityMatched); after an error it refuses to
    go on, so nothing behind the damage is ever released.
    """

    def __init__(self, identities: Sequence[Identity], *, armored: bool | None = None) -> None:
        self._identities = tuple(identities)
        self._armored = armored
        self._armor = ArmorReader()
        self._head = bytearray()
        self._reader: StreamReader | None = None
        self._closed = False

    def update(self, data: bytes | memoryview) -> bytes:
        """Take ciphertext, return what became known of the plaintext."""
        self._close()  # and stay closed if anything below raises
        plaintext = self._advance(data) if len(data) else b""
        self._closed = False
        return plaintext

    def finish(self) -> bytes:
        """The rest of the plaintext; raises if the file was cut short."""
        self._close()
        if self._armored:
            self._armor.finish()
        if self._reader is None:
            raise HeaderInvalid("the encrypted file ends within its header")
        return self._reader.finish()

    def _close(self) -> None:
        if self._closed:
            raise RuntimeError("the decryptor has finished or failed")
        self._closed = True

    def _advance(self, data: bytes | memoryview) -> bytes:
        if self._armored is None:
            self._armored = looks_armored(data[0])
        if self._armored:
            data = self._armor.update(data)
        if self._reader is not None:
            return self._reader.update(data)
        self._head += data
        end = header.find_end(self._head)
        if end is None or len(self._head) < end + NONCE_BYTES:
            return b""
        return self._open(end)

    def _open(self, header_end: int) -> bytes:
        payload_start = header_end + NONCE_BYTES
        file_key = self._find_file_key(header.parse(bytes(self._head[:header_end])))
        self._reader = StreamReader(file_key, bytes(self._head[header_end:payload_start]))
        payload = bytes(self._head[payload_start:])
        self._head.clear()
        return self._reader.update(payload)

    def _find_file_key(self, parsed: header.Header) -> bytes:
        if len(parsed.stanzas) > 1 and any(stanza.type == SCRYPT_TYPE for stanza in parsed.stanzas):
            raise HeaderInvalid("the header combines a passphrase with other recipients")
        for identity in self._identities:
            file_key = identity.unwrap(parsed.stanzas)
            if file_key is not None:
                parsed.check_mac(file_key)
                return file_key
        raise NoIdentityMatched(
            f"none of the {len(self._identities)} identities or passphrases given opens this encrypted file"
        )
