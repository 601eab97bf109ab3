"""``python -m tests.campaign.clock``: wall clocks that jump by an hour or a year, there and back.

Needs the `faketime` package of Debian.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

from etcdguard import __version__
from etcdguard.etcd.local import LocalCluster
from tests.campaign.clock_daemons import daemon_rows
from tests.campaign.clock_hands import JUMPS, SITUATIONS, HandWorld, hand_rows
from tests.campaign.table import print_table
from tests.support.etcd_versions import default_programs
from tests.support.s3_servers import seaweedfs


def _main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=6, help="of the order of the jumps")
    parser.add_argument("--situations", default="", metavar="REGEX", help="by hand, whose name matches")
    parser.add_argument("--jumps", default="", metavar="REGEX", help="whose name matches")
    parser.add_argument("--no-daemons", action="store_true")
    chosen = parser.parse_args(arguments)
    situations = [name for name in SITUATIONS if re.search(chosen.situations, name)]
    jumps = [name for name in JUMPS if re.search(chosen.jumps, name)]
    random.Random(chosen.seed).shuffle(jumps)
    programs = default_programs()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="etcdguard-campaign-")))
        (folder / "s3").mkdir()
        server = stack.enter_context(seaweedfs(folder / "s3"))
        names = ("etcd-1",)
        cluster = stack.enter_context(LocalCluster(programs.etcd, folder / "etcd", names=names))
        world = HandWorld(folder, cluster, server)
        print(f"etcdguard {__version__}, etcd {programs.version}, {server.name}, seed {chosen.seed}\n")
        by_daemons = () if chosen.no_daemons else daemon_rows(folder, cluster, server, jumps)
        by_hand = hand_rows(world, situations, jumps)
        return print_table(("what", "when", "repository", "clock"), chain(by_daemons, by_hand))


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
