"""A static pod is taken out and put back, with real processes under the kubelet's stand-in."""

from __future__ import annotations

import os
import secrets
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from etcdguard.errors import EtcdGuardError, Refused
from etcdguard.restore.services import Patience, Service, run_command
from etcdguard.restore.services.processes import Processes
from etcdguard.restore.services.static_pod import StaticPodService
from tests.support.kubelet_stand_in import Kubelet
from tests.support.waiting import PLENTY
from tests.unit.restore.services.crictl_stand_in import FakeCrictl, container

_PLAN = "20261121T020000Z-abababab"
_LOOP = "#!/bin/sh\n: > $0.ready\nwhile :; do sleep 0.05; done\n"
_DEAF = "#!/bin/sh\ntrap '' TERM\n: > $0.ready\nwhile :; do sleep 0.05; done\n"
_MANIFEST = """\
apiVersion: v1
kind: Pod
metadata: {{name: etcd, namespace: kube-system}}
spec:
  terminationGracePeriodSeconds: {grace}
  containers:
  - name: etcd
    command: [{program}, --data-dir={data_dir}]
"""


@dataclass
class Host:
    """A manifests directory with etcd's manifest, and a kubelet that looks whenever somebody waits."""

    root: Path
    kubelet: Kubelet
    kubelet_runs: bool = True
    patience: float = PLENTY
    until_gone: bool = False
    """Whether patience ends when the pod's processes have."""

    @property
    def folder(self) -> Path:
        return self.root / "kubernetes" / "manifests"

    @property
    def manifest(self) -> Path:
        return self.folder / "etcd.yaml"

    @property
    def aside(self) -> Path:
        return self.root / "kubernetes" / f"etcdguard-{_PLAN}"

    def service(
        self, plan_id: str = _PLAN, *, crictl: str | None = None, is_open: bool = False
    ) -> StaticPodService:
        return StaticPodService(
            self.manifest,
            plan_id,
            run=run_command,
            patience=Patience(self.patience, self._monotonic, self._sleep),
            processes=Processes(),
            crictl=crictl,
            is_open=lambda: is_open,
        )

    def write_program(self, text: str, *, grace: float = 5) -> None:
        program = self.root / "bin" / "etcd"
        program.parent.mkdir(exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
        data_dir = self.root / f"data-{secrets.token_hex(4)}"
        self.manifest.write_text(_MANIFEST.format(grace=grace, program=program, data_dir=data_dir))

    def settle(self) -> None:
        """Let the kubelet work until the pod's process says that it runs."""
        ready = self.root / "bin" / "etcd.ready"
        deadline = time.monotonic() + PLENTY
        while not ready.exists():
            assert time.monotonic() < deadline
            self._sleep(1)
        ready.unlink()

    def processes(self) -> list[int]:
        """The pod's processes, whatever the service thinks."""
        own = str(self.root / "bin" / "etcd").encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                line = (process / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if own in line:
                found.append(int(process.name))
        return found

    def kill(self) -> None:
        for pid in self.processes():
            with suppress(ProcessLookupError):  # the shell's sleep ends by itself
                os.kill(pid, signal.SIGKILL)

    def _monotonic(self) -> float:
        return time.monotonic() + (self.patience if self.until_gone and not self.processes() else 0)

    def _sleep(self, seconds: float) -> None:
        if self.kubelet_runs:
            self.kubelet.sync()
        time.sleep(min(seconds, 0.02))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    folder = tmp_path / "kubernetes" / "manifests"
    folder.mkdir(parents=True)
    host = Host(tmp_path, Kubelet(folder, tmp_path / "state", tmp_path / "logs"))
    host.write_program(_LOOP)
    host.settle()
    yield host
    host.kill()
    while host.processes():
        host.kubelet._own = [process for process in host.kubelet._own if process.poll() is None]
        time.sleep(0.01)


def test_it_is_a_service(host: Host) -> None:
    service: Service = host.service()

    assert service.name == str(host.manifest)
    assert service.is_running()
    assert host.processes()
    service.check()


def test_stopped_means_that_its_processes_are_gone(host: Host) -> None:
    host.service().stop()

    assert host.processes() == []
    assert not host.service().is_running()
    assert list(host.folder.iterdir()) == [], "the kubelet would read a backup of it, too"


def test_the_manifest_waits_beside_the_manifests_directory(host: Host) -> None:
    before = host.manifest.read_bytes()

    host.service().stop()

    assert [path.name for path in host.aside.iterdir()] == ["etcd.yaml"]
    assert (host.aside / "etcd.yaml").read_bytes() == before
    assert stat.S_IMODE(host.aside.stat().st_mode) == 0o700


def test_start_undoes_stop_and_leaves_nothing(host: Host) -> None:
    before = host.manifest.stat()
    host.service().stop()

    host.service().start()

    after = host.manifest.stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert host.processes()
    assert not host.aside.exists()


def test_everything_may_be_repeated(host: Host) -> None:
    for _ in range(2):
        host.service().stop()
    assert host.processes() == []
    for _ in range(2):
        host.service().start()
    assert host.processes()


def test_a_stop_that_was_cut_off_after_the_move_goes_on(host: Host) -> None:
    host.aside.mkdir()
    host.manifest.rename(host.aside / "etcd.yaml")
    assert host.service().is_running()

    host.service().stop()

    assert host.processes() == []


def test_release_leaves_the_rest_to_the_kubelet(host: Host) -> None:
    host.service().stop()

    host.service().release()
    host.service().release()

    assert host.processes() == []
    assert not host.aside.exists()
    host.settle()
    assert host.processes()


def test_other_manifests_taken_out_stay(host: Host) -> None:
    host.service().stop()
    (host.aside / "kube-apiserver.yaml").write_text("theirs")

    host.service().start()

    assert [path.name for path in host.aside.iterdir()] == ["kube-apiserver.yaml"]


def test_a_manifests_directory_that_is_a_link(host: Host) -> None:
    link = host.root / "static-pods"
    link.symlink_to(host.folder)
    service = StaticPodService(
        link / "etcd.yaml",
        _PLAN,
        run=run_command,
        patience=Patience(PLENTY, time.monotonic, host._sleep),
        processes=Processes(),
        crictl=None,
        is_open=lambda: False,
    )

    service.stop()

    assert (host.aside / "etcd.yaml").exists()


def test_a_crash_loop_counts_as_running(host: Host) -> None:
    host.kubelet_runs = False
    host.kill()

    assert host.service().is_running(), "the kubelet will start it again"


def test_without_a_kubelet_nothing_stops(host: Host) -> None:
    host.kubelet_runs, host.patience = False, 0.3

    with pytest.raises(
        EtcdGuardError, match=r"etcd still runs 0\.3 s after its manifest was taken out"
    ) as error:
        host.service().stop()

    assert "systemctl status kubelet" in error.value.hint
    assert host.service().is_running()


def test_one_that_ignores_the_kubelet_is_waited_for(host: Host) -> None:
    host.service().stop()
    host.aside.joinpath("etcd.yaml").rename(host.manifest)
    host.write_program(_DEAF, grace=0.5)
    host.settle()
    began = time.monotonic()

    host.service().stop()

    assert time.monotonic() - began >= 0.5
    assert host.processes() == []


def test_without_a_kubelet_nothing_starts(host: Host) -> None:
    host.service().stop()
    host.kubelet_runs, host.patience = False, 0.3

    with pytest.raises(EtcdGuardError, match=r"the kubelet has not started etcd within 0\.3 s") as error:
        host.service().start()

    assert "journalctl -u kubelet" in error.value.hint
    assert host.manifest.exists()


def test_open_ports_are_waited_for(host: Host) -> None:
    host.until_gone = True

    with pytest.raises(EtcdGuardError, match="still runs"):
        host.service(is_open=True).stop()

    assert host.processes() == []


def test_crictl_has_a_say_where_it_is_present(host: Host) -> None:
    crictl = FakeCrictl(host.root / "bin")
    crictl.runs(container("etcd-cp1", "etcd"))
    host.until_gone = True
    service = host.service(crictl=str(crictl.path))

    with pytest.raises(EtcdGuardError, match="still runs"):
        service.stop()
    assert host.processes() == []
    crictl.runs()
    service.stop()

    assert not service.is_running()


def test_crictl_alone_is_not_believed(host: Host) -> None:
    host.kubelet_runs, host.patience = False, 0.3
    service = host.service(crictl=str(FakeCrictl(host.root / "bin").path))

    with pytest.raises(EtcdGuardError, match="still runs"):
        service.stop()


def test_a_broken_crictl_is_found_before_anything_stops(host: Host) -> None:
    crictl = FakeCrictl(host.root / "bin")
    crictl.fails("no runtime")

    with pytest.raises(EtcdGuardError, match="no runtime"):
        host.service(crictl=str(crictl.path)).check()

    assert host.manifest.exists()


def test_without_a_command_crictl_must_be_there(host: Host) -> None:
    host.manifest.write_text(
        "kind: Pod\nmetadata: {name: etcd}\nspec: {containers: [{name: etcd, image: etcd}]}\n"
    )

    with pytest.raises(Refused, match=r"gives no command for etcd"):
        host.service().check()
    host.service(crictl=str(FakeCrictl(host.root / "bin").path)).check()


def test_another_restore_has_taken_it_out(host: Host) -> None:
    host.service("first").stop()

    with pytest.raises(Refused, match=r"another restore, first, has taken out .*etcd\.yaml"):
        host.service("second").check()


def test_a_manifest_that_was_written_again_meanwhile(host: Host) -> None:
    host.service().stop()
    host.manifest.write_text((host.aside / "etcd.yaml").read_text())

    for refused in (host.service().start, host.service().stop):
        with pytest.raises(Refused, match="both exist"):
            refused()


def test_a_manifest_that_is_not_there(host: Host) -> None:
    host.service().stop()
    (host.aside / "etcd.yaml").unlink()

    with pytest.raises(Refused, match=r"there is no .*etcd\.yaml on this host"):
        host.service().is_running()


def test_a_manifest_that_is_a_link(host: Host) -> None:
    host.manifest.rename(host.root / "etcd.yaml")
    host.manifest.symlink_to(host.root / "etcd.yaml")

    with pytest.raises(Refused, match="is a symbolic link"):
        host.service().check()


def test_a_directory_that_may_not_be_written(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", fails)

    with pytest.raises(EtcdGuardError, match=r"cannot move .*: Permission denied"):
        host.service().stop()
