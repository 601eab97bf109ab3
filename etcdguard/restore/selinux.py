"""SELinux: restored files must carry the labels of the place they are put in, or etcd is denied them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from etcdguard.errors import EtcdGuardError, Refused

__all__ = ["SELinux"]

_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where a command run over ssh by an ordinary user often does not look."""
_TIMEOUT = 300.0


@dataclass(frozen=True)
class SELinux:
    """This machine's SELinux; the defaults are where Linux has it."""

    enforce: Path = Path("/sys/fs/selinux/enforce")
    """Exists where SELinux is enabled; holds 1 where it also denies."""
    search_path: str = _SEARCH_PATH

    def check(self) -> None:
        """Raise Refused if SELinux would deny etcd the restored files."""
        if self._is_enforcing() and self._restorecon() is None:
            raise Refused(
                "SELinux is enforcing, and there is no restorecon to label the restored files",
                hint="install policycoreutils, or make SELinux permissive for the restore: setenforce 0",
            )

    def relabel(self, paths: Sequence[Path]) -> None:
        """Give these trees the labels that the policy has for their paths; raises EtcdGuardError."""
        if not self.enforce.exists():
            return
        program = self._restorecon()
        if program is None:
            self.check()
            return
        for path in paths:
            _label(program, path)

    def _is_enforcing(self) -> bool:
        return self.enforce.exists() and self.enforce.read_text().strip() == "1"

    def _restorecon(self) -> str | None:
        return shutil.which("restorecon", path=self.search_path)


def _label(program: str, path: Path) -> None:
    try:
        subprocess.run(
            [program, "-R", str(path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=True,
        )
    except subprocess.TimeoutExpired as e:
        raise _failed(path, f"it did not end within {_TIMEOUT:g} s") from e
    except subprocess.CalledProcessError as e:
        raise _failed(path, " ".join(e.stderr.split())[:200]) from e


def _failed(path: Path, why: str) -> EtcdGuardError:
    return EtcdGuardError(
        f"restorecon -R {path} failed: {why}", hint="see `ausearch -m avc -ts recent`, then run this again"
    )
