"""Running etcd's restore tool, several at a time."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from etcdguard.children import bare_environment, dying_with_us
from etcdguard.errors import EtcdGuardError

__all__ = ["run_commands"]

_TAIL = 400
_COMPLAINT = re.compile(
    r"Error: |panic: |fatal error: |\S+ (fatal|panic|error|warn) |.*\"level\":\"(fatal|panic|error|warn)\""
)
"""How etcd's tools, their logger and Go begin a line that tells a cause; a trace of the stack may follow."""

_NEWS = re.compile(r"\S+ (debug|info) |.*\"level\":\"(debug|info)\"")
"""How their logger begins a line that tells none."""


def run_commands(commands: Sequence[Sequence[str]], parallel: int) -> None:
    """Run every command line to its end, at most ``parallel`` at once.

    When one fails or we are interrupted, the others are killed; and all are when we are. Raises
    EtcdGuardError with what the failed tool complained of last.
    """
    running: list[subprocess.Popen[bytes]] = []
    over = threading.Event()
    with ThreadPoolExecutor(max(1, min(parallel, len(commands)))) as pool:
        futures = [pool.submit(_run, argv, running, over) for argv in commands]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            over.set()  # before we look: what is started after that ends itself
            for future in futures:
                future.cancel()
            for process in list(running):
                process.kill()
            raise


def _run(argv: Sequence[str], running: list[subprocess.Popen[bytes]], over: threading.Event) -> None:
    hint = "nothing was changed; the message is the tool's own, and `etcdguard verify` checks the backup"
    try:
        process = subprocess.Popen(
            dying_with_us(argv),
            env={**bare_environment(), "ETCDCTL_API": "3"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
    except OSError as e:
        raise EtcdGuardError(f"cannot run {argv[0]}: {e.strerror}", hint=hint) from e
    running.append(process)
    if over.is_set():
        process.kill()
    with process:
        _, stderr = process.communicate()
    if process.returncode != 0:
        said = _complaint(stderr.decode(errors="replace"))
        raise EtcdGuardError(f"{argv[0]} ended with code {process.returncode}: {said}", hint=hint)


def _complaint(text: str) -> str:
    """The last line that tells a cause, with the one before it where Go itself gave up; else the last one.

    A line that is no log at all is taken for a cause where there is nothing better.
    """
    lines = [" ".join(line.split())[-_TAIL:] for line in text.splitlines() if line.strip()]
    causes = [line for line in lines if _COMPLAINT.match(line)]
    causes = causes or [line for line in lines if not _NEWS.match(line)][-1:]
    if not causes:
        return f"it did not say why, and wrote last: {lines[-1]}" if lines else "it wrote nothing"
    return "; ".join(causes[-2:] if causes[-1].startswith("panic: ") else causes[-1:])
