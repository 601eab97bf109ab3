"""What a host refuses, whoever asks: steps out of their order, for other members, by other versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from etcdguard.errors import ObjectNotFound
from etcdguard.etcd.wal import WalMetadata
from etcdguard.restore.node import Node
from etcdguard.restore.plan import PlannedMember, plan_document
from etcdguard.restore.services import CommandResult, Kubelet, NodeServices
from etcdguard.restore.steps import StepAnswer, StepRequest
from tests.unit.restore.fleet import VERSION, Fleet
from tests.unit.restore.world import read_ids

UNTIL_SWAPPED = ("stage", "close", "quiesce", "swap")
ALL = (*UNTIL_SWAPPED, "gate", "start", "reopen")


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    fleet = Fleet.make(tmp_path)
    fleet.by_host = True  # only this host is looked at: the others' services do not count
    return fleet


def ask(fleet: Fleet, step: str, *, node: Node | None = None, **changes: Any) -> StepAnswer:
    """One step on the first host, where m1 lives."""
    facts: dict[str, Any] = {
        "version": VERSION,
        "step": step,
        "plan": plan_document(fleet.plan),
        "members": ("m1",),
    }
    return (node or fleet.node("cp1")).answer(StepRequest(**{**facts, **changes}))


def done(fleet: Fleet, *steps: str, **changes: Any) -> Mapping[str, Any]:
    """The facts of the last of these steps, which all succeed."""
    facts: Mapping[str, Any] = {}
    for step in steps:
        answer = ask(fleet, step, **changes)
        assert answer.ok, answer.error
        facts = answer.facts
    return facts


def refusal(answer: StepAnswer) -> tuple[int, str, str]:
    assert not answer.ok
    assert answer.error is not None
    return answer.error.exit_code, answer.error.message, answer.error.hint


def test_another_version_does_nothing_here(fleet: Fleet) -> None:
    assert refusal(ask(fleet, "hello", version="1.2.4")) == (
        15,
        "etcdguard 1.2.3 is installed here, not 1.2.4",
        "install the same version of etcdguard on every host",
    )


def test_a_request_that_lacks_what_it_is_about(fleet: Fleet) -> None:
    assert refusal(ask(fleet, "stage", plan=None)) == (
        64,
        "stage needs a plan",
        "run `etcdguard restore`, which sends it",
    )
    assert refusal(ask(fleet, "stage", members=())) == (
        64,
        "no member is named",
        "run `etcdguard restore`, which names them",
    )
    assert refusal(ask(fleet, "stage", members=("m9",)))[:2] == (64, "the plan has no member 'm9'")


@pytest.mark.parametrize(
    ("steps", "step", "message", "hint"),
    [
        ((), "swap", "nothing is staged here", "run the plan again, which stages first"),
        ((), "start", "nothing of this plan is in place here", "run the plan again on all hosts"),
        ((), "reopen", "nothing of this plan is in place here", "run the plan again on all hosts"),
        (UNTIL_SWAPPED, "resume", "the new directories are in place", "roll back first, on all hosts"),
        (UNTIL_SWAPPED, "discard", "the new directories are in place", "roll back first, on all hosts"),
        (
            ALL,
            "cleanup",
            "plan {id} is not proven here: its old directories may still be needed",
            "bring the restored cluster into service first, or roll back",
        ),
        (
            ALL,
            "stage",
            "plan {id} has been carried out here",
            "to restore once more, make a new plan",
        ),
    ],
    ids=["swap", "start", "reopen", "resume", "discard", "cleanup", "again"],
)
def test_a_step_out_of_its_order_changes_nothing(
    fleet: Fleet, steps: tuple[str, ...], step: str, message: str, hint: str
) -> None:
    done(fleet, *steps)
    before = fleet.picture()

    answer = ask(fleet, step)

    assert refusal(answer) == (15, message.format(id=fleet.plan.id), hint)
    assert fleet.picture() == before


@pytest.mark.parametrize("then", [(), ("cleanup",)], ids=["in service", "cleaned up"])
def test_what_is_proven_is_not_rolled_back(fleet: Fleet, then: tuple[str, ...]) -> None:
    done(fleet, *UNTIL_SWAPPED, "start")
    done(fleet, "reopen", *then, proven=True)
    before = fleet.picture()

    assert refusal(ask(fleet, "rollback")) == (
        15,
        f"plan {fleet.plan.id} is proven and in service: a rollback would lose what it has accepted",
        "to go back in time, restore an older backup",
    )
    assert fleet.picture() == before


def test_what_ran_and_was_rolled_back_has_spent_its_token(fleet: Fleet) -> None:
    done(fleet, *UNTIL_SWAPPED, "start", "quiesce", "rollback")

    assert refusal(ask(fleet, "stage")) == (
        15,
        f"plan {fleet.plan.id} has been started here and rolled back, which spends its token",
        "make a new plan with `etcdguard restore`",
    )


def test_another_plan_waits_until_this_one_has_ended(fleet: Fleet) -> None:
    done(fleet, "stage")
    other = Fleet.make_again(fleet)

    assert refusal(ask(other, "stage")) == (
        15,
        f"restore {fleet.plan.id} has not ended on this machine",
        f"go on with it, or take it back: etcdguard restore rollback {fleet.plan.id}",
    )
    done(fleet, "discard")
    done(other, "stage")


def test_a_plan_is_carried_out_with_the_members_it_was_begun_with(fleet: Fleet) -> None:
    done(fleet, "stage")

    code, message, _hint = refusal(ask(fleet, "swap", members=("m1", "m2")))

    assert code == 15
    assert message.startswith(f"plan {fleet.plan.id} was begun here with m1, ")


def test_what_was_staged_and_is_damaged_is_staged_anew(fleet: Fleet) -> None:
    """By whom or what does not matter: what does not say whose it is, is not put in place."""
    done(fleet, "stage")
    staged = Path(fleet.plan.member("m1").staging_dir)
    (staged / "member" / "snap" / "db").write_text("damaged")
    reads: list[Path] = []

    def read_wal(folder: Path) -> WalMetadata:
        reads.append(folder)
        found = read_ids(folder)
        return replace(found, cluster_id="1") if len(reads) == 1 else found

    answer = ask(fleet, "stage", node=replace(fleet.node("cp1"), read_wal=read_wal))

    assert answer.ok, answer.error
    assert (staged / "member" / "snap" / "db").read_text() == "new data of m1"
    assert len(reads) == 2


def test_what_was_staged_and_is_sound_is_not_staged_again(fleet: Fleet) -> None:
    done(fleet, "stage")
    staged = Path(fleet.plan.member("m1").staging_dir) / "member" / "snap" / "db"
    before = staged.stat().st_ino

    done(fleet, "stage")

    assert staged.stat().st_ino == before


def test_the_kubelet_is_restarted_once_after_its_clients_have_started(fleet: Fleet) -> None:
    calls: list[Sequence[str]] = []
    plain = fleet.node("cp1")

    def run(argv: Sequence[str], timeout: float) -> CommandResult:
        assert timeout > 0
        assert fleet.services("cp1").control_plane[0].is_running()
        calls.append(argv)
        return CommandResult(0, "", "")

    def services(member: PlannedMember, plan_id: str) -> NodeServices | None:
        found = plain.services(member, plan_id)
        return None if found is None else replace(found, kubelet=Kubelet(run))

    done(fleet, *UNTIL_SWAPPED, "start")
    answer = ask(fleet, "reopen", node=replace(plain, services=services))

    assert answer.facts["started"] == ["kube-apiserver.service", "kubelet.service"]
    assert calls == [["systemctl", "restart", "--", "kubelet.service"]]


def test_a_backup_that_cannot_be_opened_is_a_finding_of_its_own(fleet: Fleet) -> None:
    def unopened(*_: object) -> Any:
        raise ObjectNotFound("no backup", hint="see 'etcdguard list'")

    answer = ask(fleet, "preflight", node=replace(fleet.node("cp1"), environment=unopened))

    found = [(one.check, one.exit_code, one.message) for one in answer.findings]
    assert ("backup", 10, "no backup") in found


def test_without_services_nothing_is_stopped_or_started(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path / "fleet", served=False)
    fleet.by_host = True
    assert done(fleet, "stage", "close") == {"stopped": [], "phase": "staged"}
    assert done(fleet, "quiesce") == {"stopped": [], "phase": "staged"}
    assert done(fleet, "swap")["phase"] == "swapped"
    assert done(fleet, "start") == {"started": [], "phase": "swapped"}
