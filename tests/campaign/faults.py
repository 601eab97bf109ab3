"""What goes wrong at a boundary, and what an operator does about it before the next command."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

from tests.campaign.world import World
from tests.e2e.stopping import Orchestrator

__all__ = ["FAULTS", "Fault"]


@dataclass(frozen=True)
class Fault:
    """``strikes`` while the orchestrator stands still; ``is_mended`` once it has ended."""

    name: str
    strikes: Callable[[World, Orchestrator], None]
    is_mended: Callable[[World], None]
    own_identity: bool = False
    """Hosts open the backup with keys of their own."""
    wrong_key_sent: bool = False
    """The next run is first tried with a key that does not fit."""
    stops_victim: bool = False
    """The victim's member may end by the fault alone."""


def _kill(world: World, orchestrator: Orchestrator) -> None:
    del world
    orchestrator.send(signal.SIGKILL)


def _interrupt(world: World, orchestrator: Orchestrator) -> None:
    del world
    orchestrator.send(signal.SIGINT)


def _nothing(world: World) -> None:
    del world


def _cut_off(world: World, orchestrator: Orchestrator) -> None:
    del orchestrator
    world.victim.kill_sshd()


def _reboot(world: World, orchestrator: Orchestrator) -> None:
    del orchestrator
    world.victim.reboot(hard=True)


def _power_off(world: World, orchestrator: Orchestrator) -> None:
    del orchestrator
    world.victim.cut_power()


def _power_on(world: World) -> None:
    world.victim.power_on()
    world.victim.wait_ssh()


def _fill(world: World, orchestrator: Orchestrator) -> None:
    del orchestrator
    world.victim.fill_disk()


def _free(world: World) -> None:
    """Room again; the old member starts anew if it had stopped for want of it."""
    world.victim.free_disk()
    if world.victim.systemctl("is-failed", "--quiet", "etcd.service", check=False).returncode == 0:
        world.victim.systemctl("reset-failed", "etcd.service")
        world.victim.systemctl("start", "--no-block", "etcd.service")


def _damage(world: World, orchestrator: Orchestrator | None = None) -> None:
    """Flip the bits of a byte in the middle of every object of the backup; doing it twice mends it."""
    del orchestrator
    for stored in world.site.here.stored(world.backup).iterdir():
        content = bytearray(stored.read_bytes())
        content[len(content) // 2] ^= 0xFF
        stored.chmod(0o600)
        stored.write_bytes(content)


def _wrong_key(world: World, orchestrator: Orchestrator) -> None:
    del orchestrator
    world.give_key(world.victim, wrong=True)


def _right_key(world: World) -> None:
    world.give_key(world.victim, wrong=False)


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("orchestrator SIGKILLed", _kill, _nothing),
        Fault("Ctrl-C", _interrupt, _nothing),
        Fault("wrong key sent after SIGKILL", _kill, _nothing, wrong_key_sent=True),
        Fault("wrong key on a host", _wrong_key, _right_key, own_identity=True),
        Fault("sshd killed", _cut_off, lambda world: world.victim.start_sshd()),
        Fault("host rebooted hard", _reboot, _nothing, stops_victim=True),
        Fault("host without power", _power_off, _power_on, stops_victim=True),
        Fault("disk full", _fill, _free, stops_victim=True),
        Fault("objects corrupted", _damage, _damage),
    )
}
"""By name, in the order of the table."""
