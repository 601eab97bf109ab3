from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from etcdguard.crypto import bech32, recipients
from etcdguard.crypto.errors import HeaderInvalid
from etcdguard.crypto.header import Stanza
from etcdguard.crypto.primitives import encode_base64
from etcdguard.crypto.recipients import (
    ScryptIdentity,
    ScryptRecipient,
    X25519Identity,
    X25519Recipient,
    generate_identity,
    parse_identity,
    parse_recipient,
    read_identities_file,
    read_passphrase_file,
    read_recipients_file,
)
from etcdguard.errors import ConfigError, WrongKey

_FILE_KEY = bytes(range(16))
_identity = X25519Identity(bytes(range(32)))  # fixed: test names must not differ between workers
# Points whose order divides 8, u-coordinates little-endian (RFC 7748, section 6.1 and its errata).
_LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


def test_identity_text_round_trip() -> None:
    text = _identity.secret_text()
    assert text.startswith("AGE-SECRET-KEY-1")
    assert parse_identity(text).secret_text() == text
    assert parse_identity(text).recipient == _identity.recipient
    assert generate_identity().secret_text() != text


def test_recipient_text_round_trip() -> None:
    text = str(_identity.recipient)
    parsed = parse_recipient(text)
    assert str(parsed) == text
    assert parsed == _identity.recipient
    assert hash(parsed) == hash(_identity.recipient)
    assert parsed != generate_identity().recipient
    assert parsed != text


def test_fingerprints() -> None:
    recipient = _identity.recipient
    assert recipient.fingerprint == "sha256:" + hashlib.sha256(str(recipient).encode()).hexdigest()[:32]
    assert ScryptRecipient("one").fingerprint == ScryptRecipient("two").fingerprint == "scrypt"


def test_repr_tells_no_secret() -> None:
    keys = [_identity, ScryptRecipient("hunter2", log_n=7), ScryptIdentity("hunter2", max_log_n=9)]
    shown = repr(keys) + "".join(map(str, keys))
    assert "SECRET" not in shown
    assert "hunter2" not in shown
    assert str(_identity.recipient) in repr(_identity)
    assert str(_identity.recipient) in repr(_identity.recipient)
    assert "log_n=7" in shown
    assert "max_log_n=9" in shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "age1",
        str(_identity.recipient)[:-1],
        str(_identity.recipient).upper(),
        str(_identity.recipient) + "q",
        " " + str(_identity.recipient),
        bech32.encode("age", bytes(range(31))),
        bech32.encode("age", bytes(range(33))),
        bech32.encode("age1pq", bytes(range(32))),
        bech32.encode("bc", bytes(range(32))),
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN",
    ],
)
def test_malformed_recipients(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_recipient(text)
    assert "\n" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("text", [_identity.secret_text(), _identity.secret_text().lower()])
def test_an_identity_in_place_of_a_recipient_is_named_as_such_and_not_shown(text: str) -> None:
    with pytest.raises(ConfigError, match="secret age identity") as caught:
        parse_recipient(text)
    assert text not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "",
        _identity.secret_text().lower(),
        _identity.secret_text()[:-1],
        _identity.secret_text().replace("1", "1Q", 1),
        str(_identity.recipient),
        bech32.encode("AGE-SECRET-KEY-", bytes(range(31))),
        bech32.encode("AGE-SECRET-KEY-PQ-", bytes(range(32))),
    ],
)
def test_malformed_identities_are_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_identity(text)
    message = caught.value.message + caught.value.hint + str(caught.value.__cause__)
    assert not text or text not in message
    assert _identity.secret_text()[16:40] not in message


@pytest.mark.parametrize("point", _LOW_ORDER)
def test_low_order_points_are_refused(point: bytes) -> None:
    with pytest.raises(ConfigError):
        parse_recipient(bech32.encode("age", point))
    with pytest.raises(HeaderInvalid):
        _identity.unwrap([Stanza("X25519", (encode_base64(point),), bytes(32))])


def test_x25519_wrapping() -> None:
    stanzas = _identity.recipient.wrap(_FILE_KEY)
    assert [(stanza.type, len(stanza.args), len(stanza.body)) for stanza in stanzas] == [("X25519", 1, 32)]
    assert _identity.unwrap(stanzas) == _FILE_KEY
    assert stanzas != _identity.recipient.wrap(_FILE_KEY)
    assert generate_identity().unwrap(stanzas) is None
    other = generate_identity().recipient.wrap(_FILE_KEY)
    assert _identity.unwrap([Stanza("x25519", (), b""), *other, *stanzas]) == _FILE_KEY
    assert _identity.unwrap([]) is None


_SHARE = encode_base64(X25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw())


@pytest.mark.parametrize(
    ("args", "body"),
    [
        ((), bytes(32)),
        ((_SHARE, _SHARE), bytes(32)),
        (("",), bytes(32)),
        ((_SHARE[:-2],), bytes(32)),
        ((_SHARE + "A",), bytes(32)),
        ((_SHARE + "=",), bytes(32)),
        (("A" * 42 + "B",), bytes(32)),
        ((_SHARE,), bytes(31)),
        ((_SHARE,), bytes(33)),
    ],
)
def test_malformed_x25519_stanzas(args: tuple[str, ...], body: bytes) -> None:
    with pytest.raises(HeaderInvalid):
        _identity.unwrap([Stanza("X25519", args, body)])


def test_scrypt_wrapping() -> None:
    (stanza,) = ScryptRecipient("päss", log_n=4).wrap(_FILE_KEY)
    assert (stanza.type, stanza.args[1], len(stanza.body)) == ("scrypt", "4", 32)
    assert ScryptIdentity("päss").unwrap([Stanza("X25519", (), b""), stanza]) == _FILE_KEY
    assert ScryptIdentity("pass").unwrap([stanza]) is None
    assert ScryptIdentity("päss").unwrap(_identity.recipient.wrap(_FILE_KEY)) is None
    assert [stanza] != ScryptRecipient("päss", log_n=4).wrap(_FILE_KEY)


def test_the_default_work_factor() -> None:
    assert "log_n=18" in repr(ScryptRecipient("password"))
    assert "max_log_n=22" in repr(ScryptIdentity("password"))


def test_a_work_factor_above_the_cap_is_refused_before_any_work() -> None:
    (stanza,) = ScryptRecipient("password", log_n=5).wrap(_FILE_KEY)
    assert ScryptIdentity("password", max_log_n=5).unwrap([stanza]) == _FILE_KEY
    with pytest.raises(HeaderInvalid, match="work factor"):
        ScryptIdentity("password", max_log_n=4).unwrap([stanza])


_SALT = encode_base64(bytes(range(16)))


@pytest.mark.parametrize(
    ("args", "body"),
    [
        ((), bytes(32)),
        ((_SALT,), bytes(32)),
        ((_SALT, "4", "4"), bytes(32)),
        ((_SALT + "==", "4"), bytes(32)),
        ((encode_base64(bytes(15)), "4"), bytes(32)),
        ((encode_base64(bytes(17)), "4"), bytes(32)),
        ((_SALT, "4"), bytes(31)),
        ((_SALT, "4"), bytes(33)),
        *(
            ((_SALT, work), bytes(32))
            for work in ("", "0", "04", "+4", "-4", "0x4", "4 ", "4\n", "٤", "23", "9" * 5000)
        ),
    ],
)
def test_malformed_scrypt_stanzas(args: tuple[str, ...], body: bytes) -> None:
    with pytest.raises(HeaderInvalid):
        ScryptIdentity("password").unwrap([Stanza("scrypt", args, body)])


@pytest.mark.parametrize("passphrase", ["", "\udc80secret"])
@pytest.mark.parametrize("kind", [ScryptRecipient, ScryptIdentity])
def test_unusable_passphrases(kind: type[ScryptRecipient | ScryptIdentity], passphrase: str) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(passphrase)
    assert caught.value.__cause__ is None
    assert "secret" not in caught.value.message


def test_key_files(tmp_path: Path) -> None:
    other = generate_identity()
    identities = tmp_path / "identities"
    identities.write_text(
        f"# created: 2026\n# public key: {_identity.recipient}\n"
        f"{_identity.secret_text()}\r\n\n{other.secret_text()}"
    )
    assert [key.recipient for key in read_identities_file(identities)] == [
        _identity.recipient,
        other.recipient,
    ]
    public = tmp_path / "recipients"
    public.write_text(f"\n# ops\n  {_identity.recipient}  \n{other.recipient}\n")
    assert read_recipients_file(public) == [_identity.recipient, other.recipient]


@pytest.mark.parametrize("read", [read_identities_file, read_recipients_file])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "there is no age"),
        (b"# nothing here\n\n", "there is no age"),
        (b"# one\nAGE-SECRET-KEY-1SECRETSECRET\n", "line 2"),
        (b"age1secretsecret\n", "line 1"),
        (b"\xffsecretsecret", "not a text file"),
        (b"#" * (1024 * 1024 + 1), "too large"),
    ],
)
def test_unusable_key_files(
    tmp_path: Path,
    read: Callable[[Path], list[X25519Identity] | list[X25519Recipient]],
    content: bytes,
    message: str,
) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read(path)
    assert str(path) in caught.value.message
    assert (
        "secretsecret" not in f"{caught.value.message}{caught.value.hint}{caught.value.__cause__!r}".lower()
    )


@pytest.mark.parametrize("read", [read_identities_file, read_recipients_file, read_passphrase_file])
def test_unreadable_key_files_are_missing_keys(tmp_path: Path, read: Callable[[Path], object]) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(WrongKey, match=str(path)):
            read(path)


@pytest.mark.parametrize(
    ("content", "passphrase"),
    [(b"a b\n", "a b"), (b"a b", "a b"), (b"a\r\n", "a"), (b" a\n\n", " a\n"), (b"\xc3\xa4\n", "ä")],
)
def test_passphrase_files(tmp_path: Path, content: bytes, passphrase: str) -> None:
    path = tmp_path / "passphrase"
    path.write_bytes(content)
    assert read_passphrase_file(path) == passphrase


def test_the_types_fit_the_protocols() -> None:
    # mypy checks the assignments; that the names are exported is checked here.
    everyone: list[recipients.Recipient] = [_identity.recipient, ScryptRecipient("password")]
    readers: list[recipients.Identity] = [_identity, ScryptIdentity("password")]
    assert len(everyone) == len(readers) == 2
