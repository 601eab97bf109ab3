"""A metrics page is read as etcd means it, or refused."""

from __future__ import annotations

import math
from datetime import datetime, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from etcdguard.etcd.metrics import Histogram, MetricsPage, Page, parse_page, quota_bytes
from etcdguard.model import MemberStatus

NOW = datetime(2026, 11, 21, 2, 0, tzinfo=timezone.utc)
INF = math.inf

PAGE = """\
# HELP etcd_server_id Server or member ID in hexadecimal format.
# TYPE etcd_server_id gauge
etcd_server_id{server_id="8e9e05c52164694d"} 1
# TYPE etcd_server_leader_changes_seen_total counter
etcd_server_leader_changes_seen_total 3
# TYPE etcd_server_quota_backend_bytes gauge
etcd_server_quota_backend_bytes 2.147483648e+09
# TYPE etcd_network_peer_round_trip_time_seconds histogram
etcd_network_peer_round_trip_time_seconds_bucket{To="a",le="0.1"} 8
etcd_network_peer_round_trip_time_seconds_bucket{To="a",le="0.2"} 10
etcd_network_peer_round_trip_time_seconds_bucket{To="a",le="+Inf"} 10
etcd_network_peer_round_trip_time_seconds_sum{To="a"} 0.7
etcd_network_peer_round_trip_time_seconds_count{To="a"} 10
etcd_network_peer_round_trip_time_seconds_bucket{To="b",le="0.1"} 1
etcd_network_peer_round_trip_time_seconds_bucket{To="b",le="0.2"} 1
etcd_network_peer_round_trip_time_seconds_bucket{To="b",le="+Inf"} 2
"""


def test_values_labels_and_histograms() -> None:
    page = parse_page(PAGE)

    assert page.value("etcd_server_leader_changes_seen_total") == 3
    assert page.value("etcd_server_id") is None  # it has a label
    assert page.value("absent") is None
    assert page.label("etcd_server_id", "server_id") == "8e9e05c52164694d"
    assert page.label("absent", "server_id") is None
    name = "etcd_network_peer_round_trip_time_seconds"
    assert page.histograms(name, "To") == {
        "a": Histogram((0.1, 0.2, INF), (8, 10, 10)),
        "b": Histogram((0.1, 0.2, INF), (1, 1, 2)),
    }
    assert page.histogram(name) == Histogram((0.1, 0.2, INF), (9, 11, 12))
    assert page.histogram("absent") is None


@pytest.mark.parametrize(
    "text",
    ["<html>", "a{b=", "a{} one", "a", 'a{b="c"} 1\na{b="c"} 2', 'x_bucket{le="?"} 1', "x_bucket 1"],
)
def test_what_is_no_such_page_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (the words are the parser's)
        parse_page(text)


@given(st.text(alphabet='a_b{}="\\,#+-.0123456789eEINFnf \t\nTYPEHLP/_total_bucketle', max_size=80))
@example('a{b="c"')
@example('# TYPE a histogram\na_bucket{le="+Inf"} 1')
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        page = parse_page(text)
    except ValueError:
        return
    assert page.value("a") is None or isinstance(page.value("a"), float)


names = st.from_regex(r"[a-z][a-z0-9_]{0,10}[a-z]", fullmatch=True)


@given(st.dictionaries(names, st.floats(allow_nan=False)), st.text(max_size=20))
def test_what_is_written_is_read(values: dict[str, float], label: str) -> None:
    escaped = label.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    text = "".join(f"# TYPE m_{name} gauge\nm_{name} {value!r}\n" for name, value in values.items())
    page = parse_page(text + f'labelled{{name="{escaped}"}} 1\n')

    assert {name: page.value(f"m_{name}") for name in values} == values


def test_quantiles_are_linear_within_a_bucket() -> None:
    histogram = Histogram((0.1, 0.2, INF), (50, 100, 100))

    assert histogram.quantile(0.25) == pytest.approx(0.05)
    assert histogram.quantile(0.5) == pytest.approx(0.1)
    assert histogram.quantile(0.99) == pytest.approx(0.198)
    assert histogram.quantile(1.0) == pytest.approx(0.2)


def test_a_quantile_past_the_last_bound_is_that_bound() -> None:
    assert Histogram((0.1, 0.2, INF), (0, 0, 5)).quantile(0.99) == 0.2
    assert Histogram((0.1, INF), (0, 0)).quantile(0.99) is None
    assert Histogram((), ()).quantile(0.99) is None


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=6), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_that_holds_it(sizes: list[int], q: float) -> None:
    bounds = (*(float(2**i) for i in range(len(sizes) - 1)), INF)
    counts = tuple(float(sum(sizes[: i + 1])) for i in range(len(sizes)))
    found = Histogram(bounds, counts).quantile(q)

    if found is None:
        assert counts[-1] == 0
        return
    holding = next(i for i, count in enumerate(counts) if count >= q * counts[-1] and sizes[i])
    assert (bounds[holding - 1] if holding else 0) <= found <= bounds[min(holding, len(bounds) - 2)] + 1e-9


def test_only_what_came_after_an_earlier_page() -> None:
    early, late = Histogram((1.0, INF), (5, 6)), Histogram((1.0, INF), (5, 9))

    assert late.since(early) == Histogram((1.0, INF), (0, 3))
    assert early.since(late) == early  # the member has restarted
    assert late.since(Histogram((2.0, INF), (1, 1))) == late


def status(quota: int | None) -> MemberStatus:
    return MemberStatus("u", "c", "m", "3.5.30", None, 1, 1, quota, "m", 1, 1, 1, False, (), 1)


def test_the_quota_is_the_members_own_word_or_its_metric() -> None:
    page = parse_page(PAGE)

    assert quota_bytes(status(8 * 2**30), page) == 8 * 2**30
    assert quota_bytes(status(None), page) == 2 * 2**30
    assert quota_bytes(status(None), parse_page("etcd_server_quota_backend_bytes -1\n")) == -1
    assert quota_bytes(status(None), parse_page("")) is None
    assert quota_bytes(status(None), parse_page("etcd_server_quota_backend_bytes NaN\n")) is None
    assert quota_bytes(status(None), None) is None


@pytest.mark.parametrize(
    ("interval", "least"),
    [((-0.5, 0.6), 0.0), ((0.2, 1.3), 0.2), ((-2.5, -1.4), -1.4), (None, None)],
)
def test_the_least_skew_is_what_is_proven(interval: tuple[float, float] | None, least: float | None) -> None:
    page = Page("u", "m", MetricsPage({}), NOW, interval)

    assert page.least_skew == least
