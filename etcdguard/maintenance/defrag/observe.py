"""What a member's metrics say that its status does not: its quota before etcd 3.6, and what keeps it busy."""

from __future__ import annotations

from collections.abc import Callable

from etcdguard.errors import EtcdGuardError
from etcdguard.etcd.metrics import MetricsPage, Scraper, quota_bytes
from etcdguard.etcd.source import EndpointFailure
from etcdguard.log import get_logger
from etcdguard.maintenance.defrag.survey import Observation
from etcdguard.model import Member, MemberStatus

__all__ = ["MemberObserver", "busy"]

_log = get_logger()


class MemberObserver:
    """Asks each member's page; what cannot be read is not known. ``quota`` is what the configuration says."""

    def __init__(
        self,
        scraper: Scraper,
        *,
        quota: int | None,
        disk_free: Callable[[Member], int | None],
        separate_pages: bool,
    ) -> None:
        self._scraper = scraper
        self._quota = quota
        self._disk_free = disk_free
        self._separate_pages = separate_pages
        self._urls: dict[str, str] | None = None

    def __call__(self, member: Member, status: MemberStatus) -> Observation:
        """See survey.Observer."""
        metrics = self._metrics(member, status)
        quota = quota_bytes(status, metrics)
        return Observation(
            quota=self._quota if quota is None else quota,
            disk_free=self._disk_free(member),
            busy=None if metrics is None else busy(metrics),
        )

    def _metrics(self, member: Member, status: MemberStatus) -> MetricsPage | None:
        url = self._url(member, status)
        if url is None:
            return None
        try:
            page = self._scraper.page(url)
        except EtcdGuardError as error:
            _log.info("defrag.no_metrics", member=member.name, error=error.message)
            return None
        return page.metrics if page.member_id == member.id else None

    def _url(self, member: Member, status: MemberStatus) -> str | None:
        if not self._separate_pages:
            return status.endpoint
        if self._urls is None:
            pages = self._scraper.pages()
            self._urls = {page.member_id: page.url for page in pages if not isinstance(page, EndpointFailure)}
        return self._urls.get(member.id)


def busy(metrics: MetricsPage) -> str | None:
    """What a defragmentation would wait for, blocking the member all the while."""
    started = metrics.total("grpc_server_started_total", grpc_method="Snapshot")
    ended = metrics.total("grpc_server_handled_total", grpc_method="Snapshot")
    if started is not None and started > (ended or 0):
        return "is sending a snapshot"
    if (metrics.total("etcd_network_snapshot_send_inflights_total") or 0) > 0:
        return "is sending a snapshot to another member"
    if (metrics.total("etcd_disk_defrag_inflight") or 0) > 0:
        return "is being defragmented already"
    return None
