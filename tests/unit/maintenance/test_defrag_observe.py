"""What members' metrics add to what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from etcdguard.errors import EtcdUnreachable
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.metrics import Page, Scraper, parse_page
from etcdguard.etcd.source import EndpointFailure
from etcdguard.maintenance.defrag.observe import MemberObserver, busy
from etcdguard.maintenance.defrag.survey import Observation
from tests.support.defrag_facts import GIB, NOW, facts

DOWN = EtcdUnreachable("connection refused", hint="start it")
SNAPSHOT = 'grpc_server_{}_total{{grpc_method="Snapshot",grpc_code="OK"}} {}\n'
FULL = f"etcd_server_quota_backend_bytes {5 * GIB}\netcd_disk_defrag_inflight 1\n"


def page(url: str, member_id: str, text: str = FULL) -> Page:
    return Page(url, member_id, parse_page(text), NOW, None)


class Pages(Scraper):
    """Answers with these pages, each at its URL."""

    def __init__(self, *pages: Page) -> None:
        super().__init__(ConnectionOptions(("http://127.0.0.1:1",)), (), lambda: NOW)
        self._pages = {one.url: one for one in pages}
        self.asked: list[str] = []

    def page(self, url: str) -> Page:
        self.asked.append(url)
        if url not in self._pages:
            raise DOWN
        return self._pages[url]

    def pages(self, endpoints: Sequence[str] = ()) -> list[Page | EndpointFailure]:
        self.asked.append("all")
        return [EndpointFailure("http://127.0.0.9:1", DOWN), *self._pages.values()]


def observed(scraper: Scraper, number: int = 1, *, separate: bool = False, **changes: Any) -> Observation:
    one = facts(number, **changes)
    assert one.status is not None
    observer = MemberObserver(
        scraper, quota=GIB, disk_free=lambda member: len(member.name), separate_pages=separate
    )
    return observer(one.member, one.status)


def test_the_page_at_the_members_endpoint() -> None:
    scraper = Pages(page("http://127.0.0.1:2379", "a1"))
    seen = observed(scraper, db_size_quota=None)
    assert seen == Observation(quota=5 * GIB, disk_free=6, busy="is being defragmented already")
    assert observed(scraper, db_size_quota=2 * GIB).quota == 2 * GIB, "the member's own word"


def test_without_its_page_what_is_configured_counts() -> None:
    assert observed(Pages(), db_size_quota=None) == Observation(quota=GIB, disk_free=6, busy=None)


def test_a_page_of_another_member_says_nothing_of_this_one() -> None:
    scraper = Pages(page("http://127.0.0.1:2379", "a2"))
    assert observed(scraper, db_size_quota=None) == Observation(quota=GIB, disk_free=6, busy=None)


def test_pages_with_urls_of_their_own_are_found_by_member_once() -> None:
    scraper = Pages(
        page("http://127.0.0.1:2381", "a1"), page("http://127.0.0.2:2381", "a2", "go_threads 1\n")
    )
    observer = MemberObserver(scraper, quota=None, disk_free=lambda _: None, separate_pages=True)
    seen = []
    for number in (1, 2, 3):
        one = facts(number, db_size_quota=None)
        assert one.status is not None
        seen.append(observer(one.member, one.status))
    assert seen == [
        Observation(quota=5 * GIB, busy="is being defragmented already"),
        Observation(),
        Observation(),
    ]
    assert scraper.asked == ["all", "http://127.0.0.1:2381", "http://127.0.0.2:2381"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", None),
        (SNAPSHOT.format("started", 2) + SNAPSHOT.format("handled", 2), None),
        (SNAPSHOT.format("started", 3) + SNAPSHOT.format("handled", 2), "is sending a snapshot"),
        (SNAPSHOT.format("started", 1), "is sending a snapshot"),
        (SNAPSHOT.format("started", 3).replace("Snapshot", "Range"), None),
        ('etcd_network_snapshot_send_inflights_total{To="a"} 1\n', "is sending a snapshot to another member"),
        ('etcd_network_snapshot_send_inflights_total{To="a2"} 0\n', None),
        ("etcd_disk_defrag_inflight 1\n", "is being defragmented already"),
        ("etcd_disk_defrag_inflight 0\n", None),
    ],
)  # fmt: skip
def test_what_keeps_a_member_busy(text: str, what: str | None) -> None:
    assert busy(parse_page(text)) == what
