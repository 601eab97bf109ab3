"""What a backup does to the cluster's clients: latency of puts during it, beside none and beside etcdctl's.

``python -m tests.benchmarks.put_latency`` keeps a client in a process of its own putting small values at a
steady rate into a filled member and, by turns, runs nothing, ``etcdctl snapshot save``, ``etcdguard backup``,
and that held to a rate. The member syncs its log at each put. Each latency counts from when the put was due,
so that a stall is not told as one slow put.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import urlsplit

import etcd3

from tests.benchmarks.backup_speed import Bench, bench
from tests.benchmarks.measuring import Spread, measure
from tests.benchmarks.record import offer, record, table

_PER_SECOND = 100
_AT_LEAST = 5.0
"""Seconds of puts in any turn: a p99 needs some hundred."""


class Client:
    """A process that puts; between ``begin`` and ``end`` it keeps the latencies."""

    def __init__(self, endpoint: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_put, args=(endpoint, there), daemon=True)
        self._process.start()

    def during(self, work: Callable[[], object]) -> list[float]:
        """Seconds of every put that was due while ``work`` ran."""
        os.sync()  # what the turn before wrote shall not count here
        self._here.send("begin")
        began = time.monotonic()
        work()
        time.sleep(max(0.0, _AT_LEAST - (time.monotonic() - began)))
        self._here.send("end")
        return list(self._here.recv())

    def close(self) -> None:
        """Stop."""
        self._here.send("stop")
        self._process.join()


def _put(endpoint: str, wire: Connection) -> None:
    address = urlsplit(endpoint)
    client = etcd3.client(host=address.hostname, port=address.port, timeout=60)
    kept: list[float] | None = None
    number, due = 0, time.monotonic()
    while True:
        while wire.poll(max(0.0, due - time.monotonic())):
            order = wire.recv()
            if order == "begin":
                kept, due = [], time.monotonic()
            elif order == "end":
                wire.send(kept)
                kept = None
            else:
                return
        client.put(f"/registry/leases/{number % 100:03d}", f"{number:0200d}")
        if kept is not None:
            kept.append(time.monotonic() - due)
        number += 1
        due += 1 / _PER_SECOND


def compare(scene: Bench, turns: int, rate: str) -> dict[str, dict[str, Any]]:
    """All ways by turns; milliseconds."""

    def run(argv: Sequence[str]) -> Callable[[], object]:
        return lambda: measure(argv, scene.environment)

    ways: dict[str, Callable[[], object]] = {
        "nothing": lambda: None,
        "etcdctl snapshot save": run(scene.save()),
        "etcdguard backup": run(scene.etcdguard()),
        f"etcdguard backup --max-rate {rate}": run(scene.etcdguard("--max-rate", rate)),
    }
    found: dict[str, list[list[float]]] = {name: [] for name in ways}
    client = Client(scene.endpoint)
    try:
        for number in range(turns + 1):
            for name, work in ways.items():
                latencies = client.during(work)
                if number:  # the first turn warms the page cache
                    found[name].append(latencies)
    finally:
        client.close()
    return {name: _figures(each, found["etcdctl snapshot save"]) for name, each in found.items()}


def _figures(turns: Sequence[Sequence[float]], beside: Sequence[Sequence[float]]) -> dict[str, Any]:
    p99 = [_p99(turn) for turn in turns]
    return {
        "p50_ms": statistics.median(one for turn in turns for one in turn) * 1000,
        "p99_ms": Spread.of([one * 1000 for one in p99]).__dict__,
        "most_ms": max(one for turn in turns for one in turn) * 1000,
        "p99_beside_save": Spread.of(
            [ours / _p99(theirs) for ours, theirs in zip(p99, beside, strict=True)]
        ).__dict__,
    }


def _p99(latencies: Sequence[float]) -> float:
    return statistics.quantiles(latencies, n=100)[98]


def main() -> None:
    """Compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--max-rate", default="50MiB")
    offer(parser)
    options = parser.parse_args()
    with bench(options.megabytes) as scene:
        found = compare(scene, options.turns, options.max_rate)
    rows = [
        [
            name,
            f"{one['p50_ms']:.1f} ms",
            f"{Spread(**one['p99_ms'])} ms",
            str(Spread(**one["p99_beside_save"])),
            f"{one['most_ms']:.0f} ms",
        ]
        for name, one in found.items()
    ]
    head = ["meanwhile", "p50", "p99", "p99 / that beside etcdctl", "slowest"]
    figures = {"megabytes": options.megabytes, "puts_per_second": _PER_SECOND, "ways": found}
    record("put-latency", figures, table(head, rows), keep=options.record)


if __name__ == "__main__":
    main()
