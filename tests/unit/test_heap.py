from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_THREADS = """
import ctypes, threading
import etcdguard.cli.main as program
from etcdguard.heap import share_heap

def work(*_):
    ready = threading.Barrier(4)
    def one():
        ready.wait()
        kept = [bytearray(2000) for _ in range(1000)]
        ready.wait()
    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    ctypes.CDLL(None).malloc_stats()
    return 0

"""


def heaps(script: str) -> int:
    """How many heaps glibc has made for a process with four threads."""
    done = subprocess.run(
        [sys.executable, "-c", _THREADS + script], capture_output=True, text=True, check=True
    )
    return sum(line.startswith("Arena") for line in done.stderr.splitlines())


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have one heap anyway")
def test_threads_share_one_heap() -> None:
    assert heaps("work()") > 1
    assert heaps("share_heap(); work()") == 1
    assert heaps("program.run = work; program.main()") == 1


@pytest.mark.parametrize("failure", [OSError, ImportError, AttributeError])
def test_where_it_cannot_be_had_all_goes_on(failure: type[Exception]) -> None:
    script = (
        "import ctypes; from etcdguard.heap import share_heap\n"
        f"def refuse(_name): raise {failure.__name__}\n"
        "ctypes.CDLL = refuse; share_heap(); print('on')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "on\n"
