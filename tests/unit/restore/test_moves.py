"""Members that come back on other hosts: what ``--map`` changes, and what it refuses."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etcdguard.errors import UsageError
from etcdguard.restore.member_spec import MemberSpec
from etcdguard.restore.moves import advice, move, read_moves


def spec(name: str, place: str, *, host: str | None = None, ssh: str | None = None) -> MemberSpec:
    return MemberSpec(name, (f"https://{place}:2380",), (f"https://{place}:2379",), host=host, ssh=ssh)


THREE = [spec(f"m{number}", f"10.0.0.{number}", host=f"10.0.0.{number}") for number in (1, 2, 3)]


def test_every_address_of_a_member_moves_and_no_other() -> None:
    m1 = MemberSpec(
        "m1",
        ("https://OLD.example:2380", "https://10.0.0.1:2380/"),
        ("https://old.example:2379", "http://127.0.0.1:2379"),
        host="old.example",
        ssh="root@old.example",
        data_dir="/data",
    )

    (moved, other) = move([m1, THREE[1]], read_moves(["Old.Example=new.example"]))

    assert moved.peer_urls == ("https://new.example:2380", "https://10.0.0.1:2380/")
    assert moved.client_urls == ("https://new.example:2379", "http://127.0.0.1:2379")
    assert (moved.name, moved.host, moved.ssh, moved.data_dir) == (
        "m1",
        "new.example",
        "root@new.example",
        "/data",
    )
    assert other == THREE[1]


@pytest.mark.parametrize(
    ("ssh", "expected"),
    [
        ("10.0.0.1", "fd00::11"),
        ("me@10.0.0.1", "me@fd00::11"),
        ("ssh://10.0.0.1", "ssh://[fd00::11]"),
        ("ssh://me@10.0.0.1:2222", "ssh://me@[fd00::11]:2222"),
    ],
)
def test_ssh_destinations_of_every_form_move(ssh: str, expected: str) -> None:
    (moved,) = move([spec("m1", "10.0.0.1", ssh=ssh)], read_moves(["10.0.0.1=fd00::11"]))

    assert moved.ssh == expected
    assert moved.peer_urls == ("https://[fd00::11]:2380",)


@pytest.mark.parametrize("old", ["fd00::1", "[fd00::1]", "FD00:0:0::1", "[fd00:0:0:0:0:0:0:1]"])
@pytest.mark.parametrize("written", ["[fd00::1]", "[FD00:0::0:1]"])
def test_ipv6_is_the_same_in_every_spelling(old: str, written: str) -> None:
    (moved,) = move([spec("m1", written)], read_moves([f"{old}=[FD00:0::2]"]))

    assert moved.peer_urls == ("https://[fd00::2]:2380",)


@given(st.permutations(range(1, 6)))
@settings(deadline=None)
def test_hosts_may_change_places(order: list[int]) -> None:
    """All moves are made at once: what moves to a host that itself moves stays there; and back again."""
    specs = [spec(f"m{number}", f"10.0.0.{number}", host=f"10.0.0.{number}") for number in range(1, 6)]
    there = {f"10.0.0.{number}": f"10.0.0.{other}" for number, other in enumerate(order, 1)}

    moved = move(specs, read_moves([f"{old}={new}" for old, new in there.items()]))

    assert [one.host for one in moved] == [f"10.0.0.{other}" for other in order]
    assert [one.peer_urls for one in moved] == [(f"https://10.0.0.{other}:2380",) for other in order]
    assert move(moved, {new: old for old, new in there.items()}) == specs


_HOSTS = st.one_of(
    st.ip_addresses().map(str), st.from_regex(r"[a-z][a-z0-9]{0,8}(\.[a-z][a-z0-9]{0,8})?", fullmatch=True)
)


@given(_HOSTS, _HOSTS)
@settings(deadline=None)
def test_any_host_moves_to_any_other(old: str, new: str) -> None:
    def written(host: str) -> str:
        return f"[{ipaddress.IPv6Address(host).exploded}]" if ":" in host else host.upper()

    (moved,) = move([spec("m1", written(old), host=written(old))], read_moves([f"{old}={written(new)}"]))

    host = f"[{new}]" if ":" in new else new
    assert (moved.peer_urls, moved.host) == ((f"https://{host}:2380",), new)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["10.0.0.1"], "the host is missing"),
        (["=10.0.0.9"], "the host is missing"),
        (["10.0.0.1="], "the host is missing"),
        (["10.0.0.1=https://10.0.0.9"], "is not OLD=NEW"),
        (["10.0.0.1=10.0.0.9:2380"], "is not OLD=NEW"),
        (["10.0.0.1=h:2380"], "is not OLD=NEW"),
        (["10.0.0.1=[fd00::1]:2380"], "is not OLD=NEW"),
        (["10.0.0.1=me@host"], "is not a host name"),
        (["10.0.0.1=10.0.0.300"], "is not OLD=NEW"),
        (["10.0.0.1=fe80::1%eth0"], "zone"),
        (["10.0.0.1=a", "10.0.0.1=b"], "says twice where 10.0.0.1 moves"),
        (["fd00::1=a", "[FD00:0::1]=b"], "says twice where fd00::1 moves"),
    ],
)
def test_what_is_no_move_is_refused(texts: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        read_moves(texts)
    assert "10.0.0.1=10.0.0.11" in refused.value.hint or "once" in refused.value.hint


@pytest.mark.parametrize(
    ("moves", "message", "hint"),
    [
        ({"10.0.0.9": "10.0.0.11"}, "no member is at 10.0.0.9", "10.0.0.1, 10.0.0.2, 10.0.0.3"),
        ({"10.0.0.1": "10.0.0.2"}, "gives m1 and m2 the peer URL https://10.0.0.2:2380", "of its own"),
        ({"10.0.0.1": "a", "10.0.0.2": "a"}, "gives m1 and m2 the peer URL https://a:2380", "of its own"),
    ],
)
def test_moves_that_do_not_fit_the_members_are_refused(
    moves: dict[str, str], message: str, hint: str
) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        move(THREE, moves)
    assert hint in refused.value.hint


@pytest.mark.parametrize(
    ("more", "what", "also"),
    [
        ({"host": "etcd-1.example"}, "its host etcd-1.example", "etcd-1.example"),
        ({"ssh": "root@cp1"}, "its ssh root@cp1", "cp1"),
        ({"host": "10.0.0.1", "ssh": "cp1"}, "its ssh cp1", "cp1"),
    ],
)
def test_a_moved_member_must_not_be_reached_at_its_old_machine(
    more: dict[str, str], what: str, also: str
) -> None:
    specs = [spec("m1", "10.0.0.1", **more)]
    with pytest.raises(UsageError, match=f"m1 moves, but {what} may still lead") as refused:
        move(specs, read_moves(["10.0.0.1=10.0.0.11"]))
    assert f"--map {also}=NEW" in refused.value.hint

    (stays,) = move(specs, read_moves(["10.0.0.1=10.0.0.11", f"{also}={also}"]))
    assert (stays.ssh or stays.host) == (more.get("ssh") or more["host"])


def test_what_is_moved_is_told_and_what_is_not_is_silent() -> None:
    moved = move(THREE, {"10.0.0.1": "10.0.0.11"})

    first, *rest = advice(THREE, moved)

    assert first == "m1 moves: https://10.0.0.1:2380 on 10.0.0.1 becomes https://10.0.0.11:2380 on 10.0.0.11."
    for word in ("--listen-peer-urls", "subject alternative names", "old hosts", "--etcd-servers"):
        assert any(word in sentence for sentence in rest)
    assert list(advice(THREE, THREE)) == []
