from __future__ import annotations

import contextlib
import hashlib
import json
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdguard.catalog import decode_manifest, encode_manifest, manifest_digest
from etcdguard.errors import Corruption, UnsupportedFormat
from etcdguard.model import Encryption, HashKV, Manifest, Previous, RetentionLock
from tests.support.restores import make_manifest

MANIFEST = make_manifest().model_copy(
    update={
        "previous": Previous(id="20261121T010000Z-r00000000000000000001-00000000", sha256="a" * 64),
        "hash_kv": HashKV(hash=4_294_967_295, revision=5033, compact_revision=-1),
        "encryption": Encryption(format="age-encryption.org/v1", recipients=("sha256:" + "0" * 32,)),
        "retention": RetentionLock(
            lock_mode="GOVERNANCE", lock_until=datetime(2027, 1, 1, tzinfo=timezone.utc)
        ),
        "node": "Überknoten",
    }
)
RAW = encode_manifest(MANIFEST)


def document(**changes: Any) -> bytes:
    return json.dumps({**json.loads(RAW), **changes}).encode()


def refused(raw: bytes, backup_id: str = MANIFEST.id) -> str:
    with pytest.raises(Corruption) as refusal:
        decode_manifest(raw, backup_id)
    assert "\n" not in refusal.value.message
    assert "another backup" in refusal.value.hint
    return refusal.value.message


def test_round_trip() -> None:
    assert decode_manifest(RAW, MANIFEST.id) == MANIFEST


def test_the_bytes_are_canonical() -> None:
    text = RAW.decode()
    assert text.endswith("}\n")
    assert "Überknoten" in text, "readable UTF-8, not escapes"
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert encode_manifest(decode_manifest(RAW, MANIFEST.id)) == RAW
    assert manifest_digest(RAW) == hashlib.sha256(RAW).hexdigest()


def test_every_number_of_64_bits_is_read() -> None:
    """In a field of a later version, too."""
    for number in (2**64 - 1, -(2**63)):
        assert decode_manifest(document(added_in_1_1=number), MANIFEST.id) == MANIFEST


def test_fields_of_later_versions_are_ignored() -> None:
    assert decode_manifest(document(added_in_1_1={"any": ["thing"]}), MANIFEST.id) == MANIFEST


def test_a_newer_format_is_named() -> None:
    with pytest.raises(UnsupportedFormat, match="format 'etcdguard/2'") as refusal:
        decode_manifest(document(format="etcdguard/2"), MANIFEST.id)
    assert refusal.value.hint == "use a newer etcdguard"


@pytest.mark.parametrize(
    "raw", [b"", b"null", b"[]", b"1", b'"etcdguard/1"', b"{}", b'{"format": 1}', b"\xff"]
)
def test_what_is_no_manifest_at_all(raw: bytes) -> None:
    assert "no etcdguard format" in refused(raw) or "not valid JSON" in refused(raw)


@pytest.mark.parametrize(
    "raw",
    [
        RAW.replace(b'"sequence": 1', b'"sequence": 1, "sequence": 2'),
        RAW.replace(b'"hash": 4294967295', b'"hash": 1, "hash": 4294967295'),
        RAW.replace(b'"sequence": 1', b'"sequence": NaN'),
        RAW.replace(b'"sequence": 1', b'"sequence": -Infinity'),
        RAW[:-10],
        RAW + b"{}",
        b"[" * 100_000,
        b'{"a": ' + b"9" * 21 + b"}",
    ],
    ids=["duplicate", "duplicate below", "NaN", "infinity", "cut", "trailing", "deep", "long number"],
)
def test_json_that_two_readers_could_read_differently(raw: bytes) -> None:
    assert "not valid JSON" in refused(raw)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sequence", "1"),
        ("sequence", 1.0),
        ("sequence", True),
        ("sequence", -1),
        ("created_at", "2026-11-21T02:00:00"),
        ("created_at", 1_795_000_000),
        ("objects", [{"key": "k", "bytes": 1, "sha256": "A" * 64}]),
        ("cluster", {}),
        ("members", None),
        ("compression", {"algorithm": "lz4", "level": 1}),
        ("encryption", {"format": "other", "recipients": []}),
    ],
)
def test_wrong_types_are_refused_and_named(field: str, value: object) -> None:
    assert f"malformed at {field}" in refused(document(**{field: value}))


def test_a_manifest_of_another_backup() -> None:
    other = MANIFEST.id[:-1] + "f"
    assert f"belongs to {MANIFEST.id}" in refused(RAW, other)


@pytest.mark.parametrize(
    "key",
    [
        "backups/20261121T010000Z-r00000000000000005033-00000000/snapshot.db.zst.age",
        f"{MANIFEST.id}/snapshot.db.zst.age",
        f"/backups/{MANIFEST.id}/snapshot.db.zst.age",
        f"backups/{MANIFEST.id}",
    ],
)
def test_objects_outside_the_backups_folder(key: str) -> None:
    assert "outside its own folder" in refused(
        document(objects=[{"key": key, "bytes": 1, "sha256": "0" * 64}])
    )


def test_a_manifest_without_objects() -> None:
    assert "outside its own folder" in refused(document(objects=[]))


def attempt(raw: bytes) -> Manifest | None:
    """Anything but a manifest, Corruption or UnsupportedFormat fails the test."""
    with contextlib.suppress(Corruption, UnsupportedFormat):
        return decode_manifest(raw, MANIFEST.id)
    return None


@given(st.binary())
def test_arbitrary_bytes(raw: bytes) -> None:
    assert attempt(raw) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.sampled_from(sorted(json.loads(RAW))), JSON)
def test_any_value_in_any_field(field: str, value: object) -> None:
    manifest = attempt(document(**{field: value}))
    assert manifest is None or attempt(encode_manifest(manifest)) == manifest


@given(st.data())
def test_mutated_bytes(data: st.DataObject) -> None:
    raw = bytearray(RAW)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    manifest = attempt(bytes(raw))
    assert manifest is None or manifest.id == MANIFEST.id
