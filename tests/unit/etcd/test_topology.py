from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdguard.errors import ConfigError
from etcdguard.etcd.topology import canonical_url, canonical_urls, initial_cluster, predict


@dataclass(frozen=True)
class Peer:
    name: str
    peer_urls: tuple[str, ...]


THREE = [
    Peer("infra0", ("http://10.0.0.10:2380",)),
    Peer("infra1", ("http://10.0.0.11:2380",)),
    Peer("infra2", ("http://10.0.0.12:2380",)),
]


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("https://etcd-1.example.com:2380", "https://etcd-1.example.com:2380"),
        ("HTTPS://Etcd-1.Example.COM:2380/", "https://etcd-1.example.com:2380"),
        (" http://10.0.0.1:2380 ", "http://10.0.0.1:2380"),
        ("http://[0:0:0:0:0:0:0:1]:2380", "http://[::1]:2380"),
        ("http://[2001:DB8::00A]:2380/", "http://[2001:db8::a]:2380"),
        ("http://node_1:02380", "http://node_1:2380"),
    ],
)
def test_urls_have_one_spelling(written: str, canonical: str) -> None:
    assert canonical_url(written) == canonical
    assert canonical_url(canonical) == canonical


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "neither http nor https"),
        ("10.0.0.1:2380", "neither http nor https"),
        ("unix://localhost:2380", "neither http nor https"),
        ("https://10.0.0.1", "port is missing"),
        ("https://10.0.0.1:", "port is missing"),
        ("https://10.0.0.1:0", "port is missing"),
        ("https://10.0.0.1:99999", "(?i)port"),
        ("https://10.0.0.1:http", "(?i)port"),
        ("https://:2380", "host is missing"),
        ("https://10.0.0.1:2380/members", "more than"),
        ("https://10.0.0.1:2380?a=b", "more than"),
        ("https://root:hunter2@10.0.0.1:2380", "more than"),
        ("https://10.0.0.256:2380", "256"),
        ("https://010.0.0.1:2380", "eading zero"),
        ("https://[::g]:2380", "::g"),
        ("https://[fe80::1%eth0]:2380", "zone"),
        ("https://a,b:2380", "not a host name"),
        ("https://-a:2380", "not a host name"),
        ("https://a b:2380", "not a host name"),
        ("https://ünicode:2380", "not a host name"),
    ],
)
def test_what_etcd_or_another_host_could_not_use_is_refused(written: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as raised:
        canonical_url(written)
    assert raised.value.hint
    assert "\n" not in raised.value.message


def test_initial_cluster_is_ordered_by_name_and_lists_every_url() -> None:
    members = [Peer("b", ("https://[::1]:2380", "http://10.0.0.2:2380")), Peer("a", ("http://h:1/",))]
    assert initial_cluster(members) == "a=http://h:1,b=http://10.0.0.2:2380,b=https://[::1]:2380"


@pytest.mark.parametrize(
    ("urls", "member_id"),
    [
        (("http://10.0.0.8:2379",), 14544069596553697298),
        (("http://10.0.0.2:2379", "http://10.0.0.1:2379"), 16552244735972308939),
    ],
)
def test_member_ids_are_those_of_etcds_own_tests(urls: tuple[str, ...], member_id: int) -> None:
    assert predict([Peer("any", urls)], "").member_ids == {"any": format(member_id, "x")}


def test_the_ids_every_unconfigured_etcd_has() -> None:
    prediction = predict([Peer("default", ("http://localhost:2380",))], "etcd-cluster")
    assert prediction.cluster_id == "cdf818194e3a8c32"
    assert prediction.member_ids == {"default": "8e9e05c52164694d"}


def test_spelling_order_and_names_do_not_change_ids_but_the_token_does() -> None:
    again = [Peer(f"renamed-{one.name}", (one.peer_urls[0] + "/",)) for one in reversed(THREE)]
    expected, same = predict(THREE, "token"), predict(again, "token")
    assert same.cluster_id == expected.cluster_id
    assert set(same.member_ids.values()) == set(expected.member_ids.values())
    other = predict(THREE, "another token")
    assert other.cluster_id != expected.cluster_id
    assert set(other.member_ids.values()).isdisjoint(expected.member_ids.values())


@given(st.randoms(use_true_random=False), st.integers(1, 5))
def test_urls_are_hashed_in_sorted_order(source: random.Random, count: int) -> None:
    urls = [f"https://host-{number}:2380" for number in range(count)]
    shuffled = source.sample(urls, count)
    assert canonical_urls(shuffled) == tuple(sorted(urls))
    assert predict([Peer("m", tuple(shuffled))], "t") == predict([Peer("m", tuple(urls))], "t")


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([], "no members"),
        ([*THREE, THREE[0]], "member name infra0 appears twice"),
        (
            [*THREE, Peer("infra3", ("http://10.0.0.10:2380/",))],
            "peer URL http://10.0.0.10:2380 appears twice",
        ),
        ([Peer("a", ("http://h:1", "HTTP://H:1"))], "peer URL http://h:1 appears twice"),
        ([Peer("a", ())], "no peer URL"),
        ([Peer("", ("http://h:1",))], "cannot stand in --initial-cluster"),
        ([Peer("a=b", ("http://h:1",))], "cannot stand in --initial-cluster"),
        ([Peer("a,b", ("http://h:1",))], "cannot stand in --initial-cluster"),
        ([Peer("a b", ("http://h:1",))], "cannot stand in --initial-cluster"),
    ],
)
def test_members_that_cannot_form_a_cluster_are_refused(members: list[Peer], why: str) -> None:
    for use in (lambda: initial_cluster(members), lambda: predict(members, "token")):
        with pytest.raises(ConfigError, match=why):
            use()
