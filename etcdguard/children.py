"""Programs of others, which die with us whatever kills us: orphans would write where the next run writes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

__all__ = ["bare_environment", "dying_with_us"]

# PR_SET_PDEATHSIG survives exec, so the program keeps the pid that Popen knows. A trampoline rather than a
# preexec_fn: that one would run Python between fork and exec, which deadlocks beside gRPC's threads.
_TRAMPOLINE = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"cannot run {sys.argv[2]}: {error.strerror}")
"""


def dying_with_us(argv: Sequence[str]) -> list[str]:
    """The command line that runs ``argv`` and kills it when we end.

    What counts as our end is that of the *thread* that starts it. Elsewhere than on Linux it is ``argv``.
    """
    if sys.platform != "linux":
        return list(argv)
    return [sys.executable, "-I", "-S", "-c", _TRAMPOLINE, str(os.getpid()), *argv]


def bare_environment() -> dict[str, str]:
    """Nothing of ours but what our Python may need to start: ETCD_* and ETCDCTL_* would contradict flags."""
    return {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
