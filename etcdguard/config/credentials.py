"""Files that systemd hands a service (LoadCredential), each in place of the one that a key names.

A credential is called like its key. Thus one configuration serves root, who reads the files where they are,
and a service of an unprivileged user, who cannot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from etcdguard.config.document import Where, dotted
from etcdguard.config.settings import Override
from etcdguard.errors import ConfigError

__all__ = ["CREDENTIALS", "from_credentials"]

CREDENTIALS: tuple[Where, ...] = (
    ("cluster", "cacert"),
    ("cluster", "cert"),
    ("cluster", "key"),
    ("cluster", "password_file"),
    ("encryption", "identity_file"),
    ("encryption", "passphrase_file"),
    ("signing", "key_file"),
)
"""The keys that a credential can stand for."""


def from_credentials(env: Mapping[str, str]) -> Iterator[Override]:
    """The keys for which ``$CREDENTIALS_DIRECTORY`` has a file that is not blank.

    A blank one is what a unit sets so that it starts where the file to load is missing. Raises ConfigError.
    """
    folder = env.get("CREDENTIALS_DIRECTORY")
    for where in CREDENTIALS if folder else ():
        name = dotted(where)
        path = Path(folder or "", name)
        try:
            given = bool(path.read_bytes().strip())
        except FileNotFoundError:
            continue
        except OSError as e:
            raise ConfigError(
                f"{path}: {e.strerror}",
                hint=f"systemd makes it for the service's own user: check LoadCredential={name} of the unit",
            ) from e
        if given:
            yield Override(where, str(path), f"credential {name}")
