"""The questions to this very machine."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from etcdguard.restore.machine import LOCAL


def test_a_listener_is_seen_and_its_absence_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert LOCAL.listening("127.0.0.1", port)
    assert not LOCAL.listening("127.0.0.1", port)
    assert not LOCAL.listening("no-such-host.invalid", 2379)


def test_a_mount_point_is_known_by_any_path_but_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/proc")
    (tmp_path / "root").symlink_to("/")

    assert LOCAL.is_mount(Path("/proc"))
    assert LOCAL.is_mount(tmp_path / "root" / "proc")
    assert not LOCAL.is_mount(tmp_path / "link")
    assert not LOCAL.is_mount(tmp_path)
    assert not LOCAL.is_mount(tmp_path / "absent")


def test_nobody_holds_an_absent_or_idle_directory(tmp_path: Path) -> None:
    (tmp_path / "db").write_text("x")

    assert LOCAL.holders(tmp_path / "absent") == ()
    assert LOCAL.holders(tmp_path) == ()


def test_a_lock_is_felt_even_where_the_process_cannot_be_seen(tmp_path: Path) -> None:
    """Our own process is left out of the search by name, as another user's would be."""
    path = tmp_path / "member" / "snap" / "db"
    path.parent.mkdir(parents=True)
    path.write_text("x")
    descriptor = os.open(path, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        assert LOCAL.holders(tmp_path) == (f"a process that locks {path}",)
    finally:
        os.close(descriptor)
    assert LOCAL.holders(tmp_path) == ()


def test_the_file_system_of_a_directory(tmp_path: Path) -> None:
    found = LOCAL.filesystem(tmp_path)

    assert found.device == tmp_path.stat().st_dev
    assert found.free_bytes > 0


def test_a_database_behind_a_link_is_nobodys(tmp_path: Path) -> None:
    """Whoever may write there must not have us open what is elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("x")
    path = tmp_path / "etcd" / "member" / "snap" / "db"
    path.parent.mkdir(parents=True)
    path.symlink_to(elsewhere)
    descriptor = os.open(elsewhere, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        assert LOCAL.holders(tmp_path / "etcd") == ()
    finally:
        os.close(descriptor)
