"""How much memory may be taken, as different kernels tell it."""

from __future__ import annotations

from pathlib import Path

import pytest

from etcdguard.restore.memory import available_memory

GIB = 1024**3


class Kernel:
    """Its files, as far as somebody asks for memory."""

    def __init__(self, root: Path) -> None:
        self.proc, self.cgroups = root / "proc", root / "cgroup"
        self.write("proc/meminfo", "MemTotal:       16777216 kB\nMemAvailable:    8388608 kB\n")
        self.write("proc/self/cgroup", "0::/\n")

    def write(self, name: str, text: str) -> None:
        path = self.proc.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def group(self, name: str, most: str, used: int) -> None:
        self.write(f"cgroup/{name}/memory.max", f"{most}\n")
        self.write(f"cgroup/{name}/memory.current", f"{used}\n")

    def available(self) -> int:
        return available_memory(self.proc, self.cgroups)


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def test_without_limits_it_is_what_the_machine_has(kernel: Kernel) -> None:
    assert kernel.available() == 8 * GIB


def test_the_tightest_limit_on_the_way_up_counts(kernel: Kernel) -> None:
    kernel.write("proc/self/cgroup", "0::/system.slice/etcdguard.service\n")
    kernel.group("system.slice/etcdguard.service", "max", GIB)
    kernel.group("system.slice", str(3 * GIB), 2 * GIB)
    assert kernel.available() == GIB
    kernel.group("system.slice/etcdguard.service", str(2 * GIB), 2 * GIB - 7)
    assert kernel.available() == 7
    kernel.group("system.slice/etcdguard.service", str(2 * GIB), 2 * GIB + 7)
    assert kernel.available() == 0


@pytest.mark.parametrize("mount", ["", "unified/"])
def test_version_2_beside_version_1(kernel: Kernel, mount: str) -> None:
    kernel.write("proc/self/cgroup", "9:cpu,memory:/box\n1:name=systemd:/box\n0::/box\n")
    kernel.write("cgroup/memory/box/memory.limit_in_bytes", str(5 * GIB))
    kernel.write("cgroup/memory/box/memory.usage_in_bytes", str(GIB))
    assert kernel.available() == 4 * GIB
    kernel.group(f"{mount}box", str(2 * GIB), 0)
    assert kernel.available() == 2 * GIB


def test_a_group_outside_our_name_space_is_the_root_we_see(kernel: Kernel) -> None:
    kernel.write("proc/self/cgroup", "0::/../../kubepods/pod1\n")
    kernel.group(".", str(GIB), 1)
    assert kernel.available() == GIB - 1


@pytest.mark.parametrize("hidden", ["meminfo", "self/cgroup"])
def test_where_the_kernel_does_not_say_there_is_none(kernel: Kernel, hidden: str) -> None:
    (kernel.proc / hidden).unlink()
    assert kernel.available() == 0


def test_an_old_kernel_does_not_say(kernel: Kernel) -> None:
    kernel.write("proc/meminfo", "MemTotal: 16777216 kB\nMemFree: 8388608 kB\n")
    assert kernel.available() == 0


def test_this_machine_has_some() -> None:
    assert 0 < available_memory() < 2**60
