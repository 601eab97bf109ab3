"""What a person is told when a key or an encrypted file cannot be used: error and hint, to the letter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from etcdguard.crypto import bech32, header
from etcdguard.crypto.age import Decryptor, Encryptor
from etcdguard.crypto.armor import ArmorReader
from etcdguard.crypto.header import Stanza
from etcdguard.crypto.keyfile import read_key_file
from etcdguard.crypto.primitives import encode_base64
from etcdguard.crypto.recipients import (
    ScryptIdentity,
    ScryptRecipient,
    X25519Identity,
    X25519Recipient,
    parse_identity,
    parse_recipient,
    read_identities_file,
    read_passphrase_file,
    read_recipients_file,
)
from etcdguard.crypto.signing import PublicKey, SigningKey
from etcdguard.crypto.stream import NONCE_BYTES, StreamReader, StreamWriter
from etcdguard.errors import ConfigError, Corruption, EtcdGuardError, WrongKey

KEY = bytes(range(16))
IDENTITY = X25519Identity(bytes(range(32)))
STRANGER = X25519Identity(bytes(range(1, 33)))
COPY = "fetch the object again or use another copy or an older backup"
NO_AGE_FILE = f"if this should be an age v1 file, {COPY}"
AS_WRITTEN = "use the file as age wrote it, without edits or mail quoting"
WHOLE_HEADER = header.write(IDENTITY.recipient.wrap(KEY), KEY)
SALT = encode_base64(bytes(16))
SHARE = encode_base64(bytes(range(32)))


def told(use: Callable[[], object]) -> tuple[type[EtcdGuardError], str, str]:
    with pytest.raises(EtcdGuardError) as caught:
        use()
    for kind in (ConfigError, WrongKey, Corruption):
        if isinstance(caught.value, kind):
            return kind, caught.value.message, caught.value.hint
    raise caught.value


# -- files that keys are kept in ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "what"),
    [
        (read_recipients_file, "recipient"),
        (read_identities_file, "identity"),
        (read_passphrase_file, "passphrase"),
        (PublicKey.load, "public key"),
        (SigningKey.load, "signing key"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_key_file_that_cannot_be_read_or_is_no_key_file(
    tmp_path: Path, read: Callable[[Path], object], what: str
) -> None:
    absent, large = tmp_path / "absent", tmp_path / "large"
    assert told(lambda: read(absent)) == (
        WrongKey,
        f"cannot read the {what} file {absent}: No such file or directory",
        "check the path and the file's owner and mode",
    )
    large.write_bytes(b"#" * (1024 * 1024 + 1))
    told_of_large = (
        ConfigError,
        f"{large} is too large to be a {what} file",
        f"give the path of the {what} file",
    )
    assert told(lambda: read(large)) == told_of_large


def test_a_key_file_may_be_exactly_a_mebibyte_and_of_more_no_more_is_read(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(bytes(1024 * 1024))
    assert len(read_key_file(path, "signing key")) == 1024 * 1024
    # /dev/zero has no end: without the bound this would not come back.
    assert told(lambda: read_key_file(Path("/dev/zero"), "signing key"))[0] is ConfigError


@pytest.mark.parametrize(
    ("read", "what"),
    [
        (read_recipients_file, "recipient"),
        (read_identities_file, "identity"),
        (read_passphrase_file, "passphrase"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_key_file_that_is_no_text(tmp_path: Path, read: Callable[[Path], object], what: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"\xff")
    assert told(lambda: read(path)) == (
        ConfigError,
        f"{path} is not a text file",
        f"give the path of the {what} file",
    )


@pytest.mark.parametrize(
    ("read", "what", "first"),
    [(read_recipients_file, "recipient", "age1"), (read_identities_file, "identity", "AGE-SECRET-KEY-1")],
    ids=["recipients", "identities"],
)
def test_a_key_file_without_a_key_or_with_a_broken_one(
    tmp_path: Path, read: Callable[[Path], object], what: str, first: str
) -> None:
    path = tmp_path / "keys"
    path.write_text("# none\n")
    assert told(lambda: read(path)) == (
        ConfigError,
        f"there is no age {what} in {path}",
        f"write one {what} a line",
    )
    path.write_text(f"# one\n\n{first}\n")
    assert told(lambda: read(path)) == (
        ConfigError,
        f"{path} line 3: the age {what} is malformed: it is too short or has no separator",
        f"an age {what} is one word that begins with {first}, with nothing lost or added in copying",
    )


OTHER = Ed448PrivateKey.generate()
OTHER_PRIVATE = OTHER.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
OTHER_PUBLIC = OTHER.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("read", "content", "kind"),
    [
        (SigningKey.load, b"x", "an unencrypted private"),
        (SigningKey.load, OTHER_PRIVATE, "an unencrypted private"),
        (PublicKey.load, b"x", "a public"),
        (PublicKey.load, OTHER_PUBLIC, "a public"),
    ],
    ids=["no private key", "another private key", "no public key", "another public key"],
)
def test_a_signing_key_of_another_kind(
    tmp_path: Path, read: Callable[[Path], object], content: bytes, kind: str
) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    assert told(lambda: read(path)) == (
        ConfigError,
        f"{path} is not {kind} Ed25519 key in PEM form",
        "make one by `openssl genpkey -algorithm ed25519`, its public half by `openssl pkey -pubout`",
    )


# -- keys as text ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use", "message", "hint"),
    [
        (
            lambda: parse_recipient("age-secret-key-1x"),
            "a secret age identity stands where a public recipient belongs",
            "put the `age1...` line there; if others could read that place, make a new identity",
        ),
        (
            lambda: parse_recipient(bech32.encode("age", bytes(31))),
            "the age recipient is not of the supported type, X25519",
            "an age recipient is one word that begins with age1, with nothing lost or added in copying",
        ),
        (
            lambda: parse_identity(str(IDENTITY.recipient)),
            "the age identity is not of the supported type, X25519",
            "an age identity is one word that begins with AGE-SECRET-KEY-1, "
            "with nothing lost or added in copying",
        ),
        (
            lambda: X25519Recipient(bytes(32)),
            "the age recipient is not a usable X25519 public key",
            "copy the line `age1...` that belongs to the identity once more",
        ),
        (
            lambda: ScryptRecipient(""),
            "the passphrase is empty or not UTF-8 text",
            "set a passphrase of several random words",
        ),
        (
            lambda: Encryptor([]),
            "an encrypted file needs 1 to 128 recipients, not 0",
            "list at least one age recipient or set a passphrase",
        ),
        (
            lambda: Encryptor([IDENTITY.recipient] * 129),
            "an encrypted file needs 1 to 128 recipients, not 129",
            "list at least one age recipient or set a passphrase",
        ),
        (
            lambda: Encryptor([IDENTITY.recipient, ScryptRecipient("x", log_n=1)]),
            "a passphrase cannot be combined with other recipients",
            "use either one passphrase or a list of age recipients",
        ),
    ],
    ids=["secret", "short", "recipient", "low order", "empty", "nobody", "too many", "both"],
)
def test_a_key_that_cannot_be_used(use: Callable[[], object], message: str, hint: str) -> None:
    assert told(use) == (ConfigError, message, hint)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a" * 4097, "it is too long or holds characters outside printable ASCII"),
        ("age1 x", "it is too long or holds characters outside printable ASCII"),
        ("age1\x7f", "it is too long or holds characters outside printable ASCII"),
        ("age1ä", "it is too long or holds characters outside printable ASCII"),
        ("age1Qqqqqqq", "it mixes upper and lower case"),
        ("age1qqqqq", "it is too short or has no separator"),
        ("1qqqqqq", "it is too short or has no separator"),
        ("qqqqqqqq", "it is too short or has no separator"),
        ("age1bqqqqqq", "it holds a character outside the Bech32 alphabet"),
        ("age1qqqqqq", "its checksum does not match: a character was lost or changed"),
        ("a" * 4096, "it is too short or has no separator"),
    ],
    ids=[
        "long",
        "space",
        "control",
        "foreign",
        "case",
        "short",
        "no hrp",
        "no 1",
        "alphabet",
        "sum",
        "longest",
    ],
)
def test_why_a_text_is_not_bech32(text: str, why: str) -> None:
    with pytest.raises(bech32.Bech32Error) as caught:
        bech32.decode(text)
    assert str(caught.value) == why


# -- encrypted files ---------------------------------------------------------------------------------------


def decrypt(file: bytes, *identities: X25519Identity | ScryptIdentity) -> None:
    decryptor = Decryptor(identities or [IDENTITY])
    decryptor.update(file)
    decryptor.finish()


def encrypted(data: bytes = b"") -> bytes:
    encryptor = Encryptor([IDENTITY.recipient])
    return encryptor.start() + encryptor.update(data) + encryptor.finish()


def stanza_of(*args: str, kind: str = "X25519", body: bytes = bytes(32)) -> Sequence[Stanza]:
    return [Stanza(kind, args, body)]


def scrypt(*args: str, body: bytes = bytes(32)) -> Callable[[], object]:
    return lambda: ScryptIdentity("x", max_log_n=3).unwrap(stanza_of(*args, kind="scrypt", body=body))


def altered_header() -> None:
    header.parse(WHOLE_HEADER).check_mac(bytes(16))


def two_kinds() -> bytes:
    stanzas = [*IDENTITY.recipient.wrap(KEY), *ScryptRecipient("x", log_n=1).wrap(KEY)]
    return header.write(stanzas, KEY) + bytes(NONCE_BYTES)


def many_stanzas(count: int) -> bytes:
    return header.write([Stanza("x", (), b"")] * count, KEY)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: header.find_end(b"age1"), "this is not an age v1 file"),
        (
            lambda: header.find_end(WHOLE_HEADER[:22] + bytes(256 * 1024)),
            "the header of the encrypted file is longer than 262144 bytes",
        ),
        (lambda: header.parse(WHOLE_HEADER[:-1]), "the header of the encrypted file is incomplete"),
        (lambda: header.parse(WHOLE_HEADER[1:]), "the header of the encrypted file is incomplete"),
        (lambda: header.parse(WHOLE_HEADER[:-2] + b"\n"), "the MAC line of the header is malformed"),
        (lambda: header.parse(many_stanzas(0)), "the header has 0 stanzas, not 1 to 128"),
        (lambda: header.parse(many_stanzas(129)), "the header has 129 stanzas, not 1 to 128"),
        (
            lambda: header.parse(WHOLE_HEADER.replace(b"-> ", b"=> ")),
            "a stanza of the header does not begin as one",
        ),
        (
            lambda: header.parse(WHOLE_HEADER.replace(b"\n---", b"A" * 30 + b"\n---")),
            "a stanza body is not wrapped at 64 columns or has no last line",
        ),
        (
            lambda: header.parse(WHOLE_HEADER.replace(b"\n---", b"=\n---")),
            "a stanza body in the header is not canonical base64",
        ),
        (lambda: header.parse(WHOLE_HEADER[:-2] + b"/\n"), "a MAC in the header is not canonical base64"),
        (lambda: IDENTITY.unwrap(stanza_of()), "an X25519 stanza does not have one valid share"),
        (
            lambda: IDENTITY.unwrap(stanza_of(SHARE, body=bytes(33))),
            "the body of an X25519 stanza does not have the size of a wrapped file key",
        ),
        (scrypt(SALT), "the scrypt stanza does not have a valid salt and work factor"),
        (
            scrypt(encode_base64(bytes(15)), "1"),
            "the salt or the body of the scrypt stanza does not have the right size",
        ),
        (
            scrypt(SALT, "1", body=bytes(31)),
            "the salt or the body of the scrypt stanza does not have the right size",
        ),
        (scrypt(SALT, "4"), "the work factor of the scrypt stanza is not a number from 1 to 3"),
        (scrypt(SALT, "0"), "the work factor of the scrypt stanza is not a number from 1 to 3"),
        (lambda: decrypt(two_kinds()), "the header combines a passphrase with other recipients"),
        (lambda: decrypt(b""), "the encrypted file ends within its header"),
    ],
)
def test_a_header_that_is_not_as_age_writes_it(use: Callable[[], object], message: str) -> None:
    assert told(use) == (Corruption, message, NO_AGE_FILE)


def seal(plaintext: bytes) -> bytes:
    writer = StreamWriter(KEY, bytes(NONCE_BYTES))
    return writer.update(plaintext) + writer.finish()


def open_sealed(sealed: bytes) -> None:
    reader = StreamReader(KEY, bytes(NONCE_BYTES))
    reader.update(sealed)
    reader.finish()


def full_then_empty() -> bytes:
    """Chunks as no writer makes them: the only full one as if more followed, and behind it an empty one."""
    full = seal(bytes(64 * 1024) + b"x")[: 64 * 1024 + 16]
    writer = StreamWriter(KEY, bytes(NONCE_BYTES))
    writer._chunks._number = 1
    return full + writer.finish()


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (altered_header, "the header of the encrypted file was altered: its MAC does not match"),
        (
            lambda: open_sealed(seal(b"x")[:-1]),
            "chunk 0 of the encrypted payload was altered, moved or cut short",
        ),
        (
            lambda: open_sealed(seal(bytes(64 * 1024 + 1))[:-1]),
            "chunk 1 of the encrypted payload was altered, moved or cut short",
        ),
        (lambda: open_sealed(full_then_empty()), "the encrypted payload ends in an empty chunk"),
    ],
    ids=["header", "first chunk", "second chunk", "empty chunk"],
)
def test_a_file_that_was_changed(use: Callable[[], object], message: str) -> None:
    assert told(use) == (Corruption, message, COPY)


BEGIN, END = b"-----BEGIN AGE ENCRYPTED FILE-----\n", b"-----END AGE ENCRYPTED FILE-----\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BEGIN + b"A" * 1025, "a line of the armored file is too long"),
        (BEGIN + b"QUFB\n", "the armored file has no END line"),
        (BEGIN + b"QUFB", "the armored file has no END line"),
        (b"", "the armored file has no END line"),
        (b"x\n" + BEGIN, "there is something other than white space before the armor"),
        (BEGIN + b"QUFB\n" + END + b"x\n", "there is something other than white space behind the armor"),
        (BEGIN + b"A" * 68 + b"\n", "the lines of the armored file are not wrapped at 64 columns"),
        (BEGIN + b"QUFB\nQUFB\n", "the lines of the armored file are not wrapped at 64 columns"),
        (BEGIN + b"\n", "the lines of the armored file are not wrapped at 64 columns"),
        (b"\x0c\n" + BEGIN, "there is something other than white space before the armor"),
        (BEGIN + b"A\n", "a line of the armored file is not base64"),
        (BEGIN + b"QU*B\n", "a line of the armored file is not base64"),
        (BEGIN + b"QUE=QUFB\n", "a line of the armored file is not base64"),
        (BEGIN + b"QUF=\n", "a line of the armored file is not canonical base64"),
    ],
)
def test_a_broken_armor(text: bytes, message: str) -> None:
    def read() -> None:
        reader = ArmorReader()
        reader.update(text)
        reader.finish()

    assert told(read) == (Corruption, message, AS_WRITTEN)


def test_whether_a_file_is_armored_can_be_said_beforehand() -> None:
    """Then its first byte is not asked."""
    binary = Decryptor([IDENTITY], armored=True)
    assert told(lambda: binary.update(encrypted() + b"\n"))[2] == AS_WRITTEN
    text = Decryptor([IDENTITY], armored=False)
    assert told(lambda: text.update(BEGIN)) == (Corruption, "this is not an age v1 file", NO_AGE_FILE)


def test_an_armor_line_of_a_kibibyte_is_still_waited_for() -> None:
    """Its end may make it something else than too long: a line that is only white space, say."""
    reader = ArmorReader()
    assert reader.update(b" " * 1024) == b""
    assert reader.update(b"\n" + BEGIN + b"QUFB\n" + END) == b"AAA"
    reader.finish()


def test_a_file_for_somebody_else() -> None:
    hint = "give the identity (or passphrase) of a recipient this file was made for"
    assert told(lambda: decrypt(encrypted(), STRANGER, STRANGER)) == (
        WrongKey,
        "none of the 2 identities or passphrases given opens this encrypted file",
        hint,
    )


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: Encryptor([IDENTITY.recipient]).update(b""), "the encryptor was not started"),
        (lambda: Encryptor([IDENTITY.recipient]).finish(), "the encryptor was not started"),
        (
            lambda: [encryptor.start() for encryptor in [Encryptor([IDENTITY.recipient])] * 2],
            "the encryptor was started before",
        ),
        (
            lambda: [decryptor.update(b"") for decryptor in [_finished()]],
            "the decryptor has finished or failed",
        ),
        (
            lambda: [writer.finish() for writer in [StreamWriter(KEY, bytes(16))] * 2],
            "the stream is finished",
        ),
    ],
    ids=["update", "finish", "twice", "finished", "sealed"],
)
def test_calls_out_of_order_are_mistakes_of_the_caller(use: Callable[[], object], message: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        use()
    assert str(caught.value) == message


def _finished() -> Decryptor:
    decryptor = Decryptor([IDENTITY])
    decryptor.update(encrypted())
    decryptor.finish()
    return decryptor


def test_equal_recipients_are_one_in_a_set_and_others_are_not() -> None:
    others = {X25519Identity(bytes([number]) * 32).recipient for number in range(8)}
    assert len({hash(one) for one in others}) > 1
    assert len({IDENTITY.recipient, parse_recipient(str(IDENTITY.recipient)), *others}) == 9
