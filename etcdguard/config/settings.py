"""The settings that flags and the environment may give: the connection to etcd, under etcdctl's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etcdguard.config.document import Where
from etcdguard.config.suggest import nearest
from etcdguard.errors import ConfigError

__all__ = ["CONFIG_COPY", "Override", "SETTINGS", "Setting", "check_environment", "collect"]


@dataclass(frozen=True)
class Setting:
    """One key of the section ``cluster`` and the names it has outside the file."""

    key: str
    etcdctl: bool = True
    """Whether etcdctl knows a variable of that name."""

    @property
    def variables(self) -> tuple[str, ...]:
        """Environment variables, the one that wins first."""
        suffix = self.key.upper()
        return (f"ETCDGUARD_{suffix}", *((f"ETCDCTL_{suffix}",) if self.etcdctl else ()))

    @property
    def flag(self) -> str:
        """The command-line flag."""
        return "--" + self.key.replace("_", "-")

    def parse(self, text: str) -> Any:
        """The text as the YAML value it stands for; a relative path starts at the working directory."""
        if self.key == "endpoints":
            return tuple(part.strip() for part in text.split(","))
        if self.key in ("cacert", "cert", "key"):
            return str(Path(text).absolute())
        return text


SETTINGS = (
    Setting("endpoints"),
    Setting("cacert"),
    Setting("cert"),
    Setting("key"),
    Setting("user"),
    Setting("password"),
    Setting("command_timeout"),
    Setting("server_name", etcdctl=False),
)

CONFIG_COPY = "ETCDGUARD_CONFIG_FD"
"""A file descriptor with the configuration's text, from the daemon to its jobs: the file may have changed."""

_OTHER_VARIABLES = (
    "ETCDGUARD_CONFIG",
    CONFIG_COPY,
    "ETCDGUARD_DEBUG",
    "ETCDGUARD_LOG_FORMAT",
    "ETCDGUARD_AGE_VECTORS",
)
_IGNORED_PREFIX = "ETCDGUARD_REQUIRE_"


@dataclass(frozen=True)
class Override:
    """A value from outside the file for the key at that place, and the flag or variable that gave it."""

    where: Where
    value: Any
    origin: str


def check_environment(env: Mapping[str, str]) -> None:
    """Refuse a variable that begins like ours but is none of ours: a typing error must not go unnoticed."""
    known = {setting.variables[0] for setting in SETTINGS} | set(_OTHER_VARIABLES)
    for name in sorted(env):
        if name.startswith("ETCDGUARD_") and name not in known and not name.startswith(_IGNORED_PREFIX):
            meant = nearest(name, known)
            told = sorted(known - {"ETCDGUARD_AGE_VECTORS", CONFIG_COPY})
            raise ConfigError(
                f"{name}: unknown environment variable" + (f", did you mean {meant}?" if meant else ""),
                hint=f"unset it; variables are {', '.join(told)}",
            )


def collect(env: Mapping[str, str], flags: Mapping[str, str]) -> dict[str, Override]:
    """What the flags (by setting key), else the environment, say by key. Empty variables count as unset."""
    found: dict[str, Override] = {}
    for setting in SETTINGS:
        given = [(setting.flag, flags[setting.key])] if setting.key in flags else []
        given += [(name, env[name]) for name in setting.variables if env.get(name)]
        if given:
            origin, text = given[0]
            found[setting.key] = Override(("cluster", setting.key), setting.parse(text), origin)
    return _with_password_apart(found)


def _with_password_apart(found: dict[str, Override]) -> dict[str, Override]:
    """``name:password`` is two settings, unless a password is given by itself: then it is all name."""
    user = found.get("user")
    if user is None or "password" in found or user.origin.startswith("--"):
        return found
    name, colon, password = user.value.partition(":")
    if not colon:
        return found
    apart = {
        "user": Override(("cluster", "user"), name, user.origin),
        "password": Override(("cluster", "password"), password, user.origin),
    }
    return found | apart
