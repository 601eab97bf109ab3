"""How a unit is kept down and brought back, against a scripted systemctl."""

from __future__ import annotations

from pathlib import Path

import pytest

from etcdguard.errors import EtcdGuardError, Refused
from etcdguard.restore.services import CommandResult, Kubelet, Patience, Service
from etcdguard.restore.services.processes import Processes
from etcdguard.restore.services.systemd import SystemdService
from tests.support.restores import SteppingClock
from tests.unit.restore.services.systemd_stand_in import FakeSystemd


@pytest.fixture
def systemd(tmp_path: Path) -> FakeSystemd:
    (tmp_path / "units").mkdir()
    return FakeSystemd(tmp_path / "units")


def _service(systemd: FakeSystemd, plan_id: str = "plan-1", unit: str = "etcd.service") -> SystemdService:
    proc = systemd.drop_ins.with_name("proc")
    patience = Patience(5, SteppingClock().monotonic, lambda _: None)
    return SystemdService(
        unit, plan_id, run=systemd, patience=patience, processes=Processes(proc), drop_ins=systemd.drop_ins
    )


def _process_in(systemd: FakeSystemd, group: str) -> None:
    process = systemd.drop_ins.with_name("proc") / "42"
    process.mkdir(parents=True)
    (process / "cgroup").write_text(f"1:name=systemd:/\n0::{group}\n")


def test_it_is_a_service(systemd: FakeSystemd) -> None:
    service: Service = _service(systemd)

    assert service.name == "etcd.service"
    assert service.is_running()
    service.check()


def test_stopped_means_down_and_unable_to_come_back(systemd: FakeSystemd) -> None:
    service = _service(systemd)

    service.stop()

    assert not service.is_running()
    assert systemd.calls.index("daemon-reload") < systemd.calls.index("stop")
    systemd.boot()
    assert not service.is_running()


def test_the_hold_says_whose_it_is(systemd: FakeSystemd) -> None:
    _service(systemd).stop()

    (hold,) = systemd.drop_ins.rglob("*.conf")
    assert hold.parent.name == "etcd.service.d"
    assert "held down by etcdguard restore plan-1" in hold.read_text().lower()
    assert "etcdguard restore rollback" in hold.read_text()


def test_start_undoes_stop_and_leaves_nothing(systemd: FakeSystemd) -> None:
    _service(systemd).stop()

    _service(systemd).start()

    assert systemd.active == "active"
    assert list(systemd.drop_ins.iterdir()) == []


def test_other_drop_ins_stay(systemd: FakeSystemd) -> None:
    theirs = systemd.drop_ins / "etcd.service.d" / "10-limits.conf"
    theirs.parent.mkdir()
    theirs.write_text("[Service]\nLimitNOFILE=65536\n")
    service = _service(systemd)

    service.stop()
    service.start()

    assert [path.name for path in theirs.parent.iterdir()] == [theirs.name]


def test_an_alias_is_held_by_its_real_name(systemd: FakeSystemd) -> None:
    _service(systemd, unit="etcd2.service").stop()

    assert [path.name for path in systemd.drop_ins.iterdir()] == ["etcd.service.d"]
    assert systemd.active == "inactive"


def test_everything_may_be_repeated(systemd: FakeSystemd) -> None:
    for _ in range(2):
        _service(systemd).stop()
    assert systemd.active == "inactive"
    for _ in range(2):
        _service(systemd).start()
    assert systemd.active == "active"


def test_a_stop_that_was_cut_off_after_its_hold_goes_on(systemd: FakeSystemd) -> None:
    systemd.obeys = False
    with pytest.raises(EtcdGuardError):
        _service(systemd).stop()
    systemd.obeys = True

    _service(systemd).stop()

    assert systemd.active == "inactive"


def test_what_does_not_run_is_held_all_the_same(systemd: FakeSystemd) -> None:
    systemd.active, systemd.group = "failed", ""

    _service(systemd).stop()
    assert list(systemd.drop_ins.rglob("*.conf"))
    _service(systemd).start()

    assert systemd.active == "active"


def test_release_starts_nothing(systemd: FakeSystemd) -> None:
    service = _service(systemd)
    service.stop()

    service.release()
    service.release()

    assert not service.is_running()
    assert list(systemd.drop_ins.iterdir()) == []
    systemd.boot()
    assert service.is_running()


def test_one_that_does_not_stop(systemd: FakeSystemd) -> None:
    systemd.obeys = False

    with pytest.raises(EtcdGuardError, match=r"etcd\.service still runs 5 s after") as error:
        _service(systemd).stop()

    assert "systemctl kill" in error.value.hint


@pytest.mark.parametrize("prefix", ["", "/docker/1f2e"], ids=["host", "container"])
def test_processes_that_are_left_over_count(systemd: FakeSystemd, prefix: str) -> None:
    systemd.active = "inactive"
    _process_in(systemd, f"{prefix}/system.slice/etcd.service/worker")

    assert _service(systemd).is_running()


def test_an_empty_group_that_systemd_remembers_does_not(systemd: FakeSystemd) -> None:
    systemd.active = "inactive"
    _process_in(systemd, "/system.slice/etcd.service-other")

    assert not _service(systemd).is_running()


@pytest.mark.parametrize("active", ["activating", "deactivating", "reloading"])
def test_in_between_is_running(systemd: FakeSystemd, active: str) -> None:
    systemd.active = active

    assert _service(systemd).is_running()


@pytest.mark.parametrize("starts_as", ["failed", "inactive"])
def test_one_that_does_not_start(systemd: FakeSystemd, starts_as: str) -> None:
    systemd.active, systemd.starts_as = "inactive", starts_as

    with pytest.raises(EtcdGuardError, match=r"etcd\.service did not start") as error:
        _service(systemd).start()

    assert "journalctl -u etcd.service" in error.value.hint


def test_one_that_waits_for_a_quorum_has_started(systemd: FakeSystemd) -> None:
    systemd.active, systemd.starts_as = "inactive", "activating"

    _service(systemd).start()


@pytest.mark.parametrize(
    ("load", "message"),
    [
        ("masked", "is masked"),
        ("bad-setting", "cannot load etcd.service: bad-setting"),
        ("not-found", "there is no etcd.service on this host"),
    ],
)
def test_a_unit_that_could_not_be_started_again_is_not_stopped(
    systemd: FakeSystemd, load: str, message: str
) -> None:
    systemd.load = load

    with pytest.raises(Refused, match=message):
        _service(systemd).check()
    with pytest.raises(Refused, match=message):
        _service(systemd).stop()

    assert systemd.active == "active"
    assert list(systemd.drop_ins.iterdir()) == []


def test_a_mask_that_came_meanwhile_is_left_alone(systemd: FakeSystemd) -> None:
    service = _service(systemd)
    service.stop()
    systemd.load = "masked"

    with pytest.raises(Refused, match="is masked") as error:
        service.start()

    assert "systemctl unmask etcd.service" in error.value.hint
    assert not {"mask", "unmask"} & set(systemd.calls)


def test_another_restores_hold_is_left_alone(systemd: FakeSystemd) -> None:
    _service(systemd, "plan-1").stop()
    other = _service(systemd, "plan-2")

    for refused in (other.check, other.stop, other.start):
        with pytest.raises(Refused, match="held down by another restore, plan-1"):
            refused()

    assert systemd.active == "inactive"
    assert list(systemd.drop_ins.rglob("*.conf"))


def test_a_pattern_is_no_unit(systemd: FakeSystemd) -> None:
    def nothing(argv: object, timeout: float) -> CommandResult:
        return CommandResult(0, "", "")

    service = SystemdService(
        "etcd*",
        "plan-1",
        run=nothing,
        patience=Patience(5, SteppingClock().monotonic, lambda _: None),
        processes=Processes(),
        drop_ins=systemd.drop_ins,
    )

    with pytest.raises(Refused, match="does not know 'etcd\\*'"):
        service.is_running()


def test_systemctls_own_words_are_passed_on() -> None:
    def fails(argv: object, timeout: float) -> CommandResult:
        return CommandResult(1, "", "Unit kubelet.service not found.\nmore")

    with pytest.raises(EtcdGuardError) as error:
        Kubelet(fails).restart()

    assert error.value.message == ("systemctl restart -- kubelet.service: Unit kubelet.service not found.")
