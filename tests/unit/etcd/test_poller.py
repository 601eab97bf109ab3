"""How gRPC polls is decided once in a process, so each case has a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ASK = (
    "import etcdguard.etcd as it; {first}; it.poll_for_throughput(); "
    "print(it.os.environ.get('GRPC_EXPERIMENTS'))"
)


@pytest.mark.parametrize(
    ("first", "user", "found"),
    [
        ("pass", None, "-event_engine_client"),
        ("pass", "tcp_rcv_lowat", "tcp_rcv_lowat"),
        ("import grpc", None, "None"),
        ("it.version = lambda name: '1.999.0rc1'", None, "None"),
        ("it.version = lambda name: '1.60.2'", None, "-event_engine_client"),
    ],
    ids=["usually", "the user has chosen", "too late", "a gRPC that nobody has tried", "the oldest gRPC"],
)
def test_the_variable_is_set_where_it_does_good(first: str, user: str | None, found: str) -> None:
    environment = {name: text for name, text in os.environ.items() if name != "GRPC_EXPERIMENTS"}
    environment |= {"GRPC_EXPERIMENTS": user} if user else {}
    done = subprocess.run(
        [sys.executable, "-c", ASK.format(first=first)], env=environment, capture_output=True, text=True
    )
    assert (done.stdout.strip(), done.stderr) == (found, "")


def test_this_grpc_knows_what_it_is_told() -> None:
    """The day it does not, it complains on stderr: then nobody has tried it after all."""
    script = (
        "import etcdguard.etcd as it; it.poll_for_throughput(); import grpc; "
        "grpc.channel_ready_future(grpc.insecure_channel('127.0.0.1:1')).cancel()"
    )
    environment = {name: text for name, text in os.environ.items() if not name.startswith("GRPC_")}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
