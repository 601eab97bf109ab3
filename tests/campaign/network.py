"""``python -m tests.campaign.network``: the network between daemons, etcd and S3 is cut, packets are dropped.

Each machine is a network namespace. Needs root.
"""

from __future__ import annotations

import argparse
import random
import re
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

from etcdguard import __version__
from tests.campaign.network_commands import HANDS, command_rows, sites_of
from tests.campaign.network_daemons import CUTS, daemon_rows
from tests.campaign.network_site import network_site
from tests.campaign.table import print_table
from tests.support.namespaces import alone

_HEADINGS = ("what", "cut off from", "when, how long")


def _main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=35, help="of a cut between daemons")
    parser.add_argument("--daemons", default="", metavar="REGEX", help="cuts whose name matches")
    parser.add_argument("--commands", default="", metavar="REGEX", help="commands whose name matches")
    parser.add_argument("--short", action="store_true", help="no command is cut off until it ends")
    chosen = parser.parse_args(arguments)
    ended = alone("tests.campaign.network", arguments)
    if ended is not None:
        return ended
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything is taken down
    cuts = [cut for cut in CUTS if re.fullmatch(f".*{chosen.daemons}.*", cut.name)]
    hands = [hand for hand in HANDS if re.fullmatch(f".*{chosen.commands}.*", hand.name)]
    rng = random.Random(chosen.seed)

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="etcdguard-campaign-")))
        site = stack.enter_context(network_site(folder, *sites_of(hands)))
        print(f"etcdguard {__version__}, etcd {site.programs.version}, {site.server.name}, ", end="")
        print(f"seed {chosen.seed}\n")
        by_daemons = daemon_rows(site, cuts, chosen.seconds, rng) if cuts else ()
        by_hand = command_rows(site, hands, rng, for_good=not chosen.short) if hands else ()
        return print_table(_HEADINGS, chain(by_daemons, by_hand))


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
