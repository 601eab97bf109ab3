"""``python -m tests.campaign``: every combination, and a table of what came of it. Needs root."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from etcdguard import __version__
from tests.campaign.combination import Combination, Outcome, combinations, perform
from tests.campaign.world import DISK, World, world
from tests.support.etcd_versions import default_programs
from tests.support.hosts import HostSet
from tests.support.hosts_etcd import HostPki

_HEADINGS = ("fault", "at the beginning of", "etcdguard said", "done then", "it ended", "s")


def _main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Every fault at every phase boundary of a restore.")
    parser.add_argument("--only", default="", metavar="REGEX", help="combinations whose name matches")
    only = re.compile(parser.parse_args(arguments).only)
    wanted = [one for one in combinations() if only.search(str(one))]
    programs = default_programs()
    failed = 0
    print(f"etcdguard {__version__}, etcd {programs.version}, {len(wanted)} combinations\n")
    print(f"| {' | '.join(_HEADINGS)} |\n|{'---|' * len(_HEADINGS)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="etcdguard-campaign-") as name:
        folder = Path(name)
        pki = HostPki(folder / "pki")
        share = folder / "share"
        share.mkdir()
        with HostSet(3, disk=DISK, shared=[share]) as hosts, ExitStack() as stack:
            now: World | None = None
            for combination in wanted:
                if now is None:
                    now = stack.enter_context(world(hosts, pki, programs, share / "etcdguard"))
                try:
                    print(_row(combination, perform(now, combination), hosts), flush=True)
                except Exception:  # noqa: BLE001 - one failure is a row, and the others are still to come
                    failed += 1
                    print(f"| {combination.fault} | {combination.phase} | FAILED |", flush=True)
                    traceback.print_exc()
                    stack.close()
                    now = None
    print(f"\n{len(wanted) - failed} of {len(wanted)} ended restored or untouched")
    return 1 if failed else 0


def _row(combination: Combination, outcome: Outcome, hosts: HostSet) -> str:
    code = "killed" if outcome.code < 0 else f"{outcome.code}: {outcome.said}"
    for host in hosts:
        code = code.replace(host.address, host.name)
    code = re.sub(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}", "PLAN", code).replace("|", "\\|")
    cells = (combination.fault, combination.phase, code, outcome.done, outcome.end, f"{outcome.seconds:.0f}")
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
