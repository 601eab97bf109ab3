"""Manifest bytes: written one way only, read strictly."""

from __future__ import annotations

import hashlib
import json

from pydantic import ValidationError

from etcdguard.errors import Corruption, UnsupportedFormat
from etcdguard.model import FORMAT, Manifest

__all__ = ["decode_manifest", "encode_manifest", "manifest_digest"]

_DIGITS = 20
_HINT = "restore from another backup or repository; 'etcdguard verify --all' shows which are sound"


def encode_manifest(manifest: Manifest) -> bytes:
    """Canonical bytes: UTF-8, sorted keys, no NaN, one trailing newline. These exact bytes are signed."""
    document = manifest.model_dump(mode="json")
    text = json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def decode_manifest(raw: bytes, backup_id: str) -> Manifest:
    """The manifest stored for ``backup_id``.

    Raises UnsupportedFormat for a format this version does not know and Corruption for anything that is not
    a manifest of that backup.
    """
    try:
        document = json.loads(
            raw, object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_short_number
        )
    except (ValueError, RecursionError) as error:
        raise Corruption(f"the manifest of {backup_id} is not valid JSON", hint=_HINT) from error
    written = document.get("format") if isinstance(document, dict) else None
    if written != FORMAT:
        if isinstance(written, str) and written.startswith("etcdguard/"):
            raise UnsupportedFormat(
                f"backup {backup_id} is in format {written[:40]!r}; this version reads {FORMAT!r}",
                hint="use a newer etcdguard",
            )
        raise Corruption(f"the manifest of {backup_id} names no etcdguard format", hint=_HINT)
    try:
        manifest = Manifest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = f"the manifest of {backup_id} is malformed at {place}: {first['msg']}"
        raise Corruption(message, hint=_HINT) from error
    if manifest.id != backup_id:
        raise Corruption(f"the manifest stored for {backup_id} belongs to {manifest.id}", hint=_HINT)
    folder = f"backups/{backup_id}/"
    if not manifest.objects or any(not entry.key.startswith(folder) for entry in manifest.objects):
        raise Corruption(f"the manifest of {backup_id} names objects outside its own folder", hint=_HINT)
    return manifest


def manifest_digest(raw: bytes) -> str:
    """The digest that the next manifest's ``previous`` carries."""
    return hashlib.sha256(raw).hexdigest()


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("duplicate key")
    return document


def _short_number(text: str) -> int:
    if len(text) > _DIGITS:  # Python before 3.10.7 would take any, at a cost that grows with the square
        raise ValueError("a number of more than 64 bits")
    return int(text)


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
