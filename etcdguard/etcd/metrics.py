"""What a member's Prometheus page says: numbers, histograms, whose page it is, and how its clock stands.

etcd serves ``/metrics`` beside gRPC on its client port, and where
``--listen-metrics-urls`` says. Names and units are etcd's (https://etcd.io/docs/latest/metrics/).
"""

from __future__ import annotations

import http.client
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cached_property

from etcdguard.errors import EtcdGuardError, EtcdUnreachable
from etcdguard.etcd.connection import Address, ConnectionOptions, Tls
from etcdguard.etcd.source import EndpointFailure
from etcdguard.model import MemberStatus, hex_id

__all__ = ["Histogram", "MetricsPage", "Page", "Scraper", "parse_page", "quota_bytes"]

_MAX_BYTES = 32 * 2**20
_PATH = "/metrics"
_HINT = "check that etcd serves /metrics there; cluster.metrics_urls names where --listen-metrics-urls says"
_DATE_RESOLUTION = 1.0

_Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Histogram:
    """Observations at most as large as each of ``bounds``, the last of which is infinite."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    """Cumulative: each includes those before it."""

    @property
    def count(self) -> float:
        """How many observations there are."""
        return self.counts[-1] if self.counts else 0.0

    def since(self, earlier: Histogram) -> Histogram:
        """Only what was observed after ``earlier``; all of it where the member has restarted in between."""
        if earlier.bounds != self.bounds or earlier.count > self.count:
            return self
        pairs = zip(self.counts, earlier.counts, strict=True)
        return Histogram(self.bounds, tuple(late - early for late, early in pairs))

    def quantile(self, q: float) -> float | None:
        """The bound that a share ``q`` of the observations does not pass, linear within a bucket.

        None without observations. Past the last finite bound, that bound: the value is at least so large.
        """
        wanted = q * self.count
        if not self.count:
            return None
        lower, below = 0.0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if count >= wanted and count > below:
                if math.isinf(bound):
                    return lower
                return lower + (bound - lower) * (wanted - below) / (count - below)
            lower, below = bound, count
        return lower


class MetricsPage:
    """The samples of one page."""

    def __init__(self, samples: Mapping[str, Mapping[_Labels, float]]) -> None:
        self._samples = samples

    def value(self, name: str) -> float | None:
        """The sample of that name without labels; None where this etcd has none."""
        return self._samples.get(name, {}).get(())

    def total(self, name: str, **labels: str) -> float | None:
        """The sum of the samples of that name that have those labels; None where there is none."""
        wanted = set(labels.items())
        found = [value for of, value in self._samples.get(name, {}).items() if wanted <= set(of)]
        return sum(found) if found else None

    def label(self, name: str, label: str) -> str | None:
        """That label of the only sample of that name."""
        found = [dict(labels).get(label) for labels in self._samples.get(name, {})]
        return found[0] if len(found) == 1 else None

    def histograms(self, name: str, by: str | None = None) -> dict[str, Histogram]:
        """The histogram of that name for each value of label ``by``; without it one, under ``""``."""
        buckets: dict[str, dict[float, float]] = {}
        for labels, count in self._samples.get(f"{name}_bucket", {}).items():
            of = dict(labels)
            group = buckets.setdefault("" if by is None else of.get(by, ""), {})
            bound = float(of["le"])
            group[bound] = group.get(bound, 0.0) + count
        return {
            group: Histogram(tuple(sorted(counts)), tuple(counts[bound] for bound in sorted(counts)))
            for group, counts in buckets.items()
        }

    def histogram(self, name: str) -> Histogram | None:
        """The histogram of that name, over all labels; None where this etcd has none."""
        return self.histograms(name).get("")


@dataclass(frozen=True)
class Page:
    """One member's page, when it was read, and what is known of that member's clock."""

    url: str
    member_id: str
    metrics: MetricsPage
    read_at: datetime
    """By our clock."""
    skew_seconds: tuple[float, float] | None
    """Its clock less ours lies between these two; None where the answer had no date.

    The Date of an HTTP answer counts whole seconds, so they are more than a second apart.
    """

    @property
    def least_skew(self) -> float | None:
        """The smallest difference of the clocks that can be, 0 where they may be equal; positive: ahead."""
        if self.skew_seconds is None:
            return None
        low, high = self.skew_seconds
        return low if low > 0 else min(high, 0.0)


def parse_page(text: str) -> MetricsPage:
    """Read Prometheus' text format. ValueError for what is not that, or has one sample twice."""
    from prometheus_client.parser import text_string_to_metric_families

    samples: dict[str, dict[_Labels, float]] = {}
    try:
        families = list(text_string_to_metric_families(text))
    except (IndexError, KeyError) as e:  # the parser's own slips on text that is no such page
        raise ValueError(f"not a metrics page: {e}") from e
    for family in families:
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            of_name = samples.setdefault(sample.name, {})
            if labels in of_name:
                raise ValueError(f"{sample.name} stands there twice")
            if sample.name.endswith("_bucket"):
                float(sample.labels.get("le", ""))  # ValueError where it is not a bound
            of_name[labels] = float(sample.value)
    return MetricsPage(samples)


def quota_bytes(status: MemberStatus, metrics: MetricsPage | None) -> int | None:
    """The member's backend quota: from its status since 3.6, before that from its metrics.

    None where neither says; negative where etcd enforces none.
    """
    if status.db_size_quota is not None:
        return status.db_size_quota
    found = None if metrics is None else metrics.value("etcd_server_quota_backend_bytes")
    return None if found is None or not math.isfinite(found) else int(found)


class Scraper:
    """Reads the members' pages: at ``urls`` (``http[s]://host:port``), else at the endpoints."""

    def __init__(self, options: ConnectionOptions, urls: Sequence[str], now: Callable[[], datetime]) -> None:
        self._options = options
        self._urls = tuple(urls)
        self._now = now

    @cached_property
    def _tls(self) -> Tls:
        return Tls(self._options)

    def pages(self, endpoints: Sequence[str] = ()) -> list[Page | EndpointFailure]:
        """Every page, read in parallel, in order; never raises for one of them.

        ``endpoints`` stand in for the configured ones where no URLs were given.
        """
        urls = self._urls or endpoints or self._options.endpoints
        addresses = tuple(dict.fromkeys(map(self._options.address, urls)))

        def read(address: Address) -> Page | EndpointFailure:
            try:
                return self._page(address)
            except EtcdGuardError as e:
                return EndpointFailure(str(address), e)

        with ThreadPoolExecutor(len(addresses), thread_name_prefix="etcd-metrics") as pool:
            return list(pool.map(read, addresses))

    def page(self, url: str) -> Page:
        """The page at that address. Raises EtcdUnreachable."""
        return self._page(self._options.address(url))

    def _page(self, address: Address) -> Page:
        began = self._now()
        body, date = self._get(address)
        ended = self._now()
        try:
            metrics = parse_page(body)
        except ValueError as e:
            raise EtcdUnreachable(f"{address}{_PATH}: not a metrics page: {e}", hint=_HINT) from e
        server_id = metrics.label("etcd_server_id", "server_id")
        if server_id is None:
            raise EtcdUnreachable(f"{address}{_PATH}: not the metrics of an etcd member", hint=_HINT)
        return Page(str(address), _canonical(server_id), metrics, ended, _skew(date, began, ended))

    def _get(self, address: Address) -> tuple[str, str | None]:
        connection = self._connection(address)
        try:
            connection.request("GET", _PATH)
            answer = connection.getresponse()
            body = answer.read(_MAX_BYTES + 1)
        except (OSError, http.client.HTTPException) as e:
            why = getattr(e, "reason", None) or getattr(e, "strerror", None) or str(e) or type(e).__name__
            raise EtcdUnreachable(f"{address}{_PATH}: the metrics cannot be read: {why}", hint=_HINT) from e
        finally:
            connection.close()
        if answer.length:  # bytes that were announced and did not come, or were not wanted any more
            raise EtcdUnreachable(f"{address}{_PATH}: the page is cut short or too large", hint=_HINT)
        if answer.status != http.client.OK:
            raise EtcdUnreachable(
                f"{address}{_PATH}: the server answers {answer.status} {answer.reason}", hint=_HINT
            )
        if len(body) > _MAX_BYTES:
            raise EtcdUnreachable(f"{address}{_PATH}: larger than any page of etcd's", hint=_HINT)
        return body.decode(errors="replace"), answer.getheader("Date")

    def _connection(self, address: Address) -> http.client.HTTPConnection:
        timeout = self._options.command_timeout
        if not address.secure:
            return http.client.HTTPConnection(address.host, address.port, timeout=timeout)
        return _HttpsConnection(address, self._tls, timeout)


class _HttpsConnection(http.client.HTTPSConnection):
    """With the name that is expected in the certificate, where that is not the host's."""

    def __init__(self, address: Address, tls: Tls, timeout: float) -> None:
        super().__init__(address.host, address.port, timeout=timeout)
        self._tls = tls

    def connect(self) -> None:
        """See http.client."""
        http.client.HTTPConnection.connect(self)
        name = self._tls.server_name or self.host
        self.sock = self._tls.http_context().wrap_socket(self.sock, server_hostname=name)


def _canonical(server_id: str) -> str:
    try:
        return hex_id(int(server_id, 16))
    except ValueError:
        return server_id


def _skew(date: str | None, began: datetime, ended: datetime) -> tuple[float, float] | None:
    """The answer was dated between the two moments, and the date is cut to whole seconds."""
    if date is None:
        return None
    try:
        theirs = parsedate_to_datetime(date)
    except ValueError:
        return None
    if theirs.tzinfo is None:
        return None
    return (theirs - ended).total_seconds(), (theirs - began).total_seconds() + _DATE_RESOLUTION
