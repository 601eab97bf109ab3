"""Talking to etcd and reading its files."""

import os
import sys
from importlib.metadata import version

__all__ = ["poll_for_throughput"]

# gRPC reads it when it is first imported, and would write to stderr what we report ourselves.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

_NEWEST_GRPC_TRIED = (1, 85)


def poll_for_throughput() -> None:
    """Let gRPC's calling thread read the socket itself; to be called before anything imports gRPC.

    gRPC's default poller hands every message from one thread to another, which costs the stream of a snapshot
    half as much processor time again. The other one notices only while a call is running that a member has
    gone away, so it is not for a process that keeps its connections, such as the daemon. A gRPC without it
    would complain on stderr, so versions that nobody has tried are left alone.
    """
    if "grpc" not in sys.modules and _release(version("grpcio")) <= _NEWEST_GRPC_TRIED:
        os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client")


def _release(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")[:2]))
