"""Where things stand in a repository (docs/repository-format.md): the only module that knows."""

from __future__ import annotations

import re
from datetime import datetime, timezone

from etcdguard.errors import ConfigError, UsageError
from etcdguard.model import BackupId

__all__ = ["Layout", "check_cluster_name"]

_CLUSTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_EVENT = re.compile(r"[0-9]{8}T[0-9]{6}Z-(.+)-[0-9a-f]{8}\.json")

_MISSED = ".missed.json"


def check_cluster_name(name: str) -> str:
    """A cluster's name is a folder in every repository: safe characters only; raises ConfigError."""
    if not _CLUSTER.fullmatch(name):
        raise ConfigError(
            f"cluster name {name!r} cannot be a folder name",
            hint="use letters, digits, '.', '_' and '-', starting with a letter or digit",
        )
    return name


class Layout:
    """Keys of one cluster. Keys inside manifests are relative to ``folder``."""

    def __init__(self, cluster: str) -> None:
        self.folder = check_cluster_name(cluster) + "/"
        self.backups = self.folder + "backups/"
        self.holds = self.folder + "holds/"
        self.events = self.folder + "events/"
        self.slots = self.folder + "slots/backup/"

    def absolute(self, relative: str) -> str:
        """The store's key for a key as manifests name it."""
        return self.folder + relative

    def snapshot(self, backup_id: str, *, encrypted: bool) -> str:
        """The snapshot object of a backup, relative to the cluster's folder."""
        return f"backups/{backup_id}/snapshot.db.zst" + (".age" if encrypted else "")

    def manifest(self, backup_id: str) -> str:
        """The commit point."""
        return f"{self.backups}{backup_id}/manifest.json"

    def signature(self, backup_id: str) -> str:
        """The raw signature over the manifest's exact bytes."""
        return self.manifest(backup_id) + ".sig"

    def backup_of(self, key: str) -> str | None:
        """The backup that a store's key belongs to, or None for anything that is not in a backup's folder."""
        name, separator, _file = key.removeprefix(self.backups).partition("/")
        try:
            BackupId.parse(name)
        except ValueError:
            return None
        return name if separator else None

    def event(self, at: datetime, kind: str, suffix: str) -> str:
        """An event's key sorts by time and shows its kind."""
        return f"{self.event_stem(at, kind)}{suffix}.json"

    def event_stem(self, at: datetime, kind: str) -> str:
        """What the keys of all events of that second and kind begin with."""
        return f"{self.events}{at.astimezone(timezone.utc).strftime('%Y%m%dT%H%M%SZ')}-{kind}-"

    def event_kind(self, key: str) -> str | None:
        """The kind that an event's key shows, or None for anything that is not an event."""
        match = _EVENT.fullmatch(key.removeprefix(self.events))
        return match[1] if match else None

    def hold(self, backup_id: str) -> str:
        """The object that forbids deleting a backup; raises UsageError for what is no id."""
        try:
            BackupId.parse(backup_id)
        except ValueError as error:
            raise UsageError(f"{backup_id!r} is not a backup id", hint="see 'etcdguard list'") from error
        return f"{self.holds}{backup_id}.json"

    def slot(self, slot: str) -> str:
        """What decides which backup a slot of the schedule belongs to."""
        return f"{self.slots}{slot}.json"

    def missed(self, slot: str) -> str:
        """Why a slot had no backup when it was over."""
        return f"{self.slots}{slot}{_MISSED}"

    def slot_of(self, key: str) -> tuple[str, bool]:
        """The slot of a key below ``slots``, and whether the key tells of a missed one."""
        name = key.removeprefix(self.slots)
        if name.endswith(_MISSED):
            return name.removesuffix(_MISSED), True
        return name.removesuffix(".json"), False

    def held_id(self, key: str) -> str:
        """The backup that a hold's key forbids to delete."""
        return key.removeprefix(self.holds).removesuffix(".json")
