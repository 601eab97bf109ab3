"""The wiring: which adapters a configuration leads to."""

from __future__ import annotations

from pathlib import Path

import pytest

from etcdguard.app import App
from etcdguard.catalog import Catalog
from etcdguard.config.load import parse
from etcdguard.crypto.recipients import ScryptRecipient, generate_identity
from etcdguard.crypto.signing import SigningKey
from etcdguard.errors import ConfigError, RepositoryError, WrongKey
from etcdguard.storage.file import FileStore


def app(tmp_path: Path, *, encryption: str | None = None, extra: str = "", endpoints: str = "") -> App:
    recipient = generate_identity().recipient
    text = f"""
cluster: {{name: prod{endpoints}}}
repositories:
  - {{name: first, file: {{path: {tmp_path / "first"}}}}}
  - {{name: second, file: {{path: {tmp_path / "second"}}}}}
encryption: {encryption or f"{{recipients: [{recipient}]}}"}
{extra}
"""
    return App(parse(text, tmp_path / "config.yaml"))


def test_a_repository_that_cannot_be_used_is_passed_over(tmp_path: Path) -> None:
    FileStore.create("second", tmp_path / "second")

    def use(catalog: Catalog) -> str:
        catalog.list()
        return catalog.store.name

    assert app(tmp_path).first_catalog(None, use) == "second"
    with pytest.raises(RepositoryError, match="first"):
        app(tmp_path).first_catalog("first", use)


def test_when_all_fail_the_first_ones_error_is_raised(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="first"):
        app(tmp_path).first_catalog(None, lambda catalog: catalog.list())


def test_an_unknown_repository_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        app(tmp_path).catalogs("third")
    assert "third" in caught.value.message
    assert "first, second" in caught.value.hint


def test_identities_come_from_the_flag_then_the_file_then_nowhere(tmp_path: Path) -> None:
    flag, file = generate_identity(), generate_identity()
    for name, identity in (("flag", flag), ("file", file)):
        (tmp_path / name).write_text(identity.secret_text() + "\n")
    configured = f"{{recipients: [{flag.recipient}], identity_file: file}}"

    def secrets(found: App, path: Path | None = None) -> list[object]:
        return [getattr(one, "recipient", None) for one in found.identities(path)]

    assert secrets(app(tmp_path, encryption=configured)) == [file.recipient]
    assert secrets(app(tmp_path, encryption=configured), tmp_path / "flag") == [flag.recipient]
    with pytest.raises(WrongKey, match="no identity"):
        app(tmp_path).identities()


def test_encryption_is_left_out_only_in_so_many_words(tmp_path: Path) -> None:
    (tmp_path / "phrase").write_text("correct horse\n")
    assert len(app(tmp_path).recipients()) == 1
    assert app(tmp_path, encryption="{disabled: true}").recipients() == []
    assert app(tmp_path, encryption="{disabled: true}").identities() == []
    with_phrase = app(tmp_path, encryption="{passphrase_file: phrase}")
    assert [type(one) for one in with_phrase.recipients()] == [ScryptRecipient]
    assert len(with_phrase.identities()) == 1


def test_recipients_come_from_their_file(tmp_path: Path) -> None:
    first, second = (generate_identity().recipient for _ in range(2))
    (tmp_path / "recipients").write_text(f"# escrow\n{first}\n{second}\n")
    found = app(tmp_path, encryption="{recipients_file: recipients}").recipients()
    assert list(map(str, found)) == [str(first), str(second)]


@pytest.mark.parametrize(
    ("schedule", "seconds"), [("backup: {schedule: 4m}", 60.0), ("backup: {schedule: 6h}", 120.0), ("", None)]
)
def test_a_schedule_bounds_the_patience_with_a_repository(
    tmp_path: Path, schedule: str, seconds: float | None
) -> None:
    found = app(tmp_path, extra=schedule)
    found.keep_to_schedule()
    assert found.patience == seconds


def test_our_own_signature_is_believed_and_the_trusted_ones(tmp_path: Path) -> None:
    own, other, stranger = (SigningKey.generate() for _ in range(3))
    (tmp_path / "own.pem").write_bytes(own.private_pem())
    (tmp_path / "other.pem").write_bytes(other.public.pem())
    signing = "signing: {key_file: own.pem, trusted_signers: [other.pem]}"
    trusted = app(tmp_path, extra=signing).trusted_signers
    data = b"manifest"
    assert trusted.check(data, own.sign(data)) == own.public.fingerprint
    assert trusted.check(data, other.sign(data)) == other.public.fingerprint
    assert trusted.check(data, stranger.sign(data)) is None
    assert app(tmp_path).signer is None


def test_this_machine_is_known_by_its_addresses(tmp_path: Path) -> None:
    endpoints = ', endpoints: ["127.0.0.1:2379", "https://203.0.113.9:2379", "nowhere.invalid:2379"]'
    assert app(tmp_path, endpoints=endpoints).local_hosts() == {"127.0.0.1"}


def test_a_password_is_read_from_its_file_when_etcd_is_asked(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3cret\n")
    found = app(tmp_path, endpoints=", user: root, password_file: password")
    with found.etcd() as client:
        assert client.endpoints == ("http://127.0.0.1:2379",)
        assert "s3cret" not in repr(client)
    missing = app(tmp_path, endpoints=", user: root, password_file: absent")
    with pytest.raises(WrongKey, match="absent"):
        missing.etcd()
