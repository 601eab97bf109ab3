"""Pages over HTTP: whose they are, how that member's clock stands, and answers that are no page."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from etcdguard.errors import EtcdUnreachable
from etcdguard.etcd import metrics
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.metrics import Page, Scraper
from etcdguard.etcd.source import EndpointFailure
from tests.support.http_server import running

NOW = datetime(2026, 11, 21, 2, 0, 0, 500_000, tzinfo=timezone.utc)
PAGE = 'etcd_server_id{server_id="0f"} 1\n'


@contextmanager
def serving(body: str, status: int, headers: Mapping[str, str]) -> Iterator[str]:
    """The URL of a server whose every answer is this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = body.encode()
            self.send_response_only(status)  # without a Date of its own
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.path == "/metrics":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    with running(HTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url


Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as servers:

        def start(body: str = PAGE, status: int = 200, **headers: str) -> str:
            return servers.enter_context(serving(body, status, headers))

        yield start


@pytest.fixture
def nobody() -> Iterator[str]:
    """A URL where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def scraper(*urls: str, endpoints: tuple[str, ...] = ("http://127.0.0.1:1",)) -> Scraper:
    return Scraper(ConnectionOptions(endpoints), urls, lambda: NOW)


def test_a_page_is_its_members_and_tells_its_clock(serve: Serve) -> None:
    ahead = NOW.replace(second=7, microsecond=0)
    url = serve(PAGE + "etcd_mvcc_db_total_size_in_bytes 5\n", Date=format_datetime(ahead, usegmt=True))
    page = scraper().page(url)

    assert (page.url, page.member_id, page.read_at) == (url, "f", NOW)
    assert page.metrics.value("etcd_mvcc_db_total_size_in_bytes") == 5
    assert page.skew_seconds == (6.5, 7.5)
    assert page.least_skew == 6.5


@pytest.mark.parametrize(
    "headers",
    [{}, {"Date": "today"}, {"Date": "Sat, 21 Nov 2026 02:00:07 -0000"}],
    ids=["none", "unreadable", "of no zone"],
)
def test_an_answer_without_a_usable_date_tells_no_clock(serve: Serve, headers: dict[str, str]) -> None:
    assert scraper().page(serve(**headers)).skew_seconds is None


def test_an_id_that_is_no_number_stays_as_it_is(serve: Serve) -> None:
    assert scraper().page(serve('etcd_server_id{server_id="cp1"} 1\n')).member_id == "cp1"


@pytest.mark.parametrize(
    ("answer", "headers", "why"),
    [
        (("<html>sign in</html>",), {}, "not a metrics page"),
        (("go_threads 12\n",), {}, "not the metrics of an etcd member"),
        ((PAGE, 403), {}, "the server answers 403 Forbidden"),
        ((PAGE,), {"Content-Length": "1000"}, "the page is cut short or too large"),
        ((PAGE,), {"Transfer-Encoding": "chunked"}, "the metrics cannot be read"),
    ],
    ids=["a form", "another program", "forbidden", "cut short", "not HTTP"],
)
def test_what_is_no_members_page(
    serve: Serve, answer: tuple[str | int, ...], headers: dict[str, str], why: str
) -> None:
    url = serve(*answer, **headers)
    with pytest.raises(EtcdUnreachable) as caught:
        scraper().page(url)
    assert caught.value.message.startswith(f"{url}/metrics: {why}")
    assert "cluster.metrics_urls" in caught.value.hint


@pytest.mark.parametrize(
    ("headers", "why"),
    [({}, "the page is cut short or too large"), ({"Content-Length": ""}, "larger than any page of etcd's")],
    ids=["announced", "not announced"],
)
def test_a_page_without_end_is_not_read_to_its_end(
    serve: Serve, headers: dict[str, str], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_MAX_BYTES", len(PAGE))
    assert scraper().page(serve(PAGE)).member_id == "f", "so much may be"
    with pytest.raises(EtcdUnreachable, match=why):
        scraper().page(serve(PAGE + "#\n", **headers))


def test_every_page_is_asked_once_and_in_order(serve: Serve, nobody: str) -> None:
    first, second = serve(), serve(PAGE.replace("0f", "1f"))
    found = scraper(second, nobody, first, second).pages(["http://ignored:1"])

    assert [one.member_id if isinstance(one, Page) else None for one in found] == ["1f", None, "f"]
    assert isinstance(found[1], EndpointFailure)
    assert found[1].endpoint == nobody
    assert "Connection refused" in found[1].error.message


def test_where_no_urls_are_given_the_endpoints_are_asked(serve: Serve, nobody: str) -> None:
    first, second = serve(), serve(PAGE.replace("0f", "1f"))
    by_default = scraper(endpoints=(first,))

    assert [one.member_id for one in by_default.pages() if isinstance(one, Page)] == ["f"]
    assert [one.member_id for one in by_default.pages([second]) if isinstance(one, Page)] == ["1f"]
