from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdguard.catalog.layout import Layout, check_cluster_name
from etcdguard.errors import ConfigError
from etcdguard.storage.arguments import check_key

ID = "20261121T020000Z-r00000000000000005033-9f31c2aa"
LAYOUT = Layout("prod")


def test_keys_are_those_of_the_documented_format() -> None:
    assert LAYOUT.manifest(ID) == f"prod/backups/{ID}/manifest.json"
    assert LAYOUT.signature(ID) == f"prod/backups/{ID}/manifest.json.sig"
    assert LAYOUT.snapshot(ID, encrypted=True) == f"backups/{ID}/snapshot.db.zst.age"
    assert LAYOUT.snapshot(ID, encrypted=False) == f"backups/{ID}/snapshot.db.zst"
    assert LAYOUT.absolute(LAYOUT.snapshot(ID, encrypted=True)) == f"prod/backups/{ID}/snapshot.db.zst.age"
    assert LAYOUT.held_id(f"prod/holds/{ID}.json") == ID


def test_an_event_stands_under_its_utc_second_and_kind() -> None:
    at = datetime(2026, 11, 21, 4, 0, 59, 999_999, tzinfo=timezone(timedelta(hours=2)))
    key = LAYOUT.event(at, "policy-change", "0badcafe")
    assert key == "prod/events/20261121T020059Z-policy-change-0badcafe.json"
    assert LAYOUT.event_kind(key) == "policy-change"
    assert key.startswith(LAYOUT.event_stem(at, "policy-change"))


@pytest.mark.parametrize(
    "key",
    [
        "prod/events/20261121T020059Z-verify-0badcafe.json.sig",
        "prod/events/20261121T020059Z-verify-0badcafe",
        "prod/events/20261121T020059Z-0badcafe.json",
        "prod/events/verify-0badcafe.json",
        "prod/backups/20261121T020059Z-verify-0badcafe.json",
        "prod/events/",
    ],
)
def test_what_is_not_an_event_has_no_kind(key: str) -> None:
    assert LAYOUT.event_kind(key) is None


def test_the_clusters_own_name_is_not_taken_for_a_kind() -> None:
    layout = Layout("a-verify-b")
    assert layout.event_kind(layout.event(datetime.now(timezone.utc), "backup", "0badcafe")) == "backup"


@pytest.mark.parametrize(
    ("key", "backup_id"),
    [
        (f"prod/backups/{ID}/manifest.json", ID),
        (f"prod/backups/{ID}/anything/below", ID),
        (f"prod/backups/{ID}", None),
        (f"prod/backups/{ID}0/manifest.json", None),
        (f"prod/backups/{ID}\n/manifest.json", None),
        (f"prod/backups/{ID.replace('1', '１')}/manifest.json", None),  # noqa: RUF001 - a digit, not ASCII
        ("prod/backups/20269921T020000Z-r00000000000000005033-9f31c2aa/manifest.json", None),
        ("prod/backups/readme/manifest.json", None),
        (f"prod/holds/{ID}/manifest.json", None),
    ],
)
def test_the_backup_a_key_belongs_to(key: str, backup_id: str | None) -> None:
    assert LAYOUT.backup_of(key) == backup_id


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", ".a", "a b", "prod\n", "ä", "a" * 129])
def test_a_cluster_name_that_is_no_folder_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a folder name") as refusal:
        Layout(name)
    assert "letters" in refusal.value.hint


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", fullmatch=True))
def test_every_other_name_makes_keys_that_every_store_takes(name: str) -> None:
    assert check_cluster_name(name) == name
    assert check_key(Layout(name).manifest(ID)).startswith(f"{name}/backups/")
