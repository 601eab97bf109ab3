"""Messages to webhooks: when a problem begins, grows worse, goes on for long, or ends. Each once."""

from __future__ import annotations

import json
import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import SecretStr

from etcdguard import __version__
from etcdguard.daemon.observe.problems import Problem
from etcdguard.log import get_logger

__all__ = ["Messenger", "Webhook", "Wire"]

_log = get_logger()

_REPEAT = timedelta(hours=6)
_ATTEMPTS = 4
_FIRST_PAUSE = 2.0
_MOST_WAITING = 100
_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Webhook:
    """Where to, and how the message is to look. The URL is a secret: whoever has it can write there."""

    url: SecretStr
    form: Literal["json", "slack"] = "json"

    @property
    def host(self) -> str:
        """What may be logged."""
        return urlsplit(self.url.get_secret_value()).hostname or "?"


Wire = Callable[[Webhook, bytes], None]
"""Posts a body; raises OSError."""


def post(webhook: Webhook, body: bytes) -> None:
    """POST it; raises OSError (which urllib's errors are) unless the answer is 2xx."""
    request = urllib.request.Request(  # noqa: S310  (the configuration allows http and https only)
        webhook.url.get_secret_value(),
        data=body,
        headers={"Content-Type": "application/json", "User-Agent": f"etcdguard/{__version__}"},
    )
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS):  # noqa: S310
        pass


@dataclass
class _Told:
    problem: Problem
    at: datetime


class Messenger:
    """Tell it of every problem that stands, again and again; it sends what is news.

    A problem is told when it begins, when it becomes critical, again every six hours, and when it is over.
    Sending happens in a thread, tries for about half a minute, and gives up with a line in the log.
    """

    def __init__(
        self,
        webhooks: Sequence[Webhook],
        cluster: str,
        node: str,
        *,
        wire: Wire = post,
        pause: float = _FIRST_PAUSE,
    ) -> None:
        self.failed = 0
        """Messages given up since the start."""
        self.sent = 0
        self._webhooks = tuple(webhooks)
        self._cluster = cluster
        self._node = node
        self._wire = wire
        self._pause = pause
        self._told: dict[str, _Told] = {}
        self._waiting: queue.Queue[tuple[Webhook, bytes] | None] = queue.Queue(_MOST_WAITING)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send_all, name="webhooks", daemon=True)
        if self._webhooks:
            self._thread.start()

    def tell(self, standing: Mapping[str, Problem], now: datetime) -> None:
        """What is wrong at this moment."""
        for key, problem in standing.items():
            told = self._told.get(key)
            worse = told is not None and told.problem.severity == "warning" and problem.severity == "critical"
            if told is None or worse or now - told.at >= _REPEAT:
                self._told[key] = _Told(problem, now)
                self._queue(problem, "firing", now)
        for key in self._told.keys() - standing.keys():
            self._queue(self._told.pop(key).problem, "resolved", now)

    def close(self) -> None:
        """Send what waits, as far as one attempt each gets."""
        self._stop.set()
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join(_TIMEOUT_SECONDS)

    def _queue(self, problem: Problem, status: Literal["firing", "resolved"], now: datetime) -> None:
        for webhook in self._webhooks:
            body = json.dumps(_message(webhook, problem, status, now, self._cluster, self._node)).encode()
            try:
                self._waiting.put_nowait((webhook, body))
            except queue.Full:
                self.failed += 1
                _log.error("webhook.too_many_waiting", host=webhook.host, problem=problem.key)

    def _send_all(self) -> None:
        while (next_one := self._waiting.get()) is not None:
            self._send(*next_one)

    def _send(self, webhook: Webhook, body: bytes) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._wire(webhook, body)
            except OSError as error:
                # An HTTPError's text has no URL in it, unlike some others': only the kind is told.
                reason = f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else _reason(error)
                last = attempt == _ATTEMPTS or self._stop.is_set()
                _log.warning("webhook.failed", host=webhook.host, reason=reason, gave_up=last)
                if last:
                    self.failed += 1
                    return
                self._stop.wait(self._pause * 2 ** (attempt - 1))
            else:
                self.sent += 1
                return


def _reason(error: OSError) -> str:
    inner = getattr(error, "reason", None)
    return type(inner if isinstance(inner, Exception) else error).__name__


def _message(
    webhook: Webhook, problem: Problem, status: str, now: datetime, cluster: str, node: str
) -> dict[str, Any]:
    if webhook.form == "slack":
        mark = ":white_check_mark:" if status == "resolved" else ":rotating_light:"
        text = f"{mark} *etcdguard {cluster}* {status}: {problem.summary}"
        return {"text": text if status == "resolved" else f"{text}\n_{problem.hint}_"}
    return {
        "schema_version": 1,
        "status": status,
        "severity": problem.severity,
        "key": problem.key,
        "summary": problem.summary,
        "hint": problem.hint,
        "cluster": cluster,
        "node": node,
        "at": now.isoformat(),
    }
