"""A scripted systemctl: one unit, its drop-ins read from a real directory as daemon-reload does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from etcdguard.restore.services import CommandResult

__all__ = ["FakeSystemd"]

_DONE = CommandResult(0, "", "")


@dataclass
class FakeSystemd:
    """Call it as a CommandRunner. ``unit`` is also known as ``alias``."""

    drop_ins: Path
    unit: str = "etcd.service"
    alias: str = "etcd2.service"
    load: str = "loaded"
    active: str = "active"
    group: str = "/system.slice/etcd.service"
    obeys: bool = True
    starts_as: str = "active"
    calls: list[str] = field(default_factory=list)
    _asserts: bool = False

    def __call__(self, argv: Sequence[str], timeout: float) -> CommandResult:
        assert argv[0] == "systemctl"
        assert timeout > 0
        verb = argv[1]
        self.calls.append(verb)
        if verb == "daemon-reload":
            self._asserts = any(
                "AssertPathExists=!/" in file.read_text()
                for file in (self.drop_ins / f"{self.unit}.d").glob("*.conf")
            )
            return _DONE
        assert argv[-2:] in (["--", self.unit], ["--", self.alias]), "no name is taken for an option"
        if verb == "show":
            return self._show()
        if verb == "stop":
            assert self._asserts, "held before it is stopped"
            if self.obeys:
                self.active, self.group = "inactive", ""
        if verb == "start":
            if self.load == "masked":
                return CommandResult(1, "", f"Failed to start {self.unit}: Unit is masked.")
            self.boot()
        if verb == "reset-failed":
            if self.active != "failed":
                return CommandResult(1, "", "not loaded")
            self.active = "inactive"
        return _DONE

    def boot(self) -> None:
        """Start it, if nothing is against it."""
        if not self._asserts and self.active == "inactive":
            self.active = self.starts_as

    def _show(self) -> CommandResult:
        pid = 77 if self.active in ("active", "deactivating") else 0
        found = {
            "MainPID": pid,
            "ControlGroup": self.group,
            "Id": self.unit,
            "LoadState": self.load,
            "ActiveState": self.active,
        }
        return CommandResult(0, "\n".join(f"{name}={value}" for name, value in found.items()), "")
