"""The status page as text; tests/e2e looks at it in a browser."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

from etcdguard.daemon.observe.page import render
from etcdguard.daemon.observe.problems import problems
from tests.unit.daemon.observe.states import CHECKS, HOUR, NOW, job, repository, run, state

EVIL = "<script>alert('x')</script>"


class Seen(HTMLParser):
    """Tags, and the text outside of the style."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self._style = False
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._style = tag == "style"
        assert not {name for name, _ in attrs} & {"src", "href", "onload", "onclick"}

    def handle_data(self, data: str) -> None:
        if not self._style:
            self.text += data + " "


def test_a_quiet_day() -> None:
    seen = Seen(render(state(job(last=run())), [repository(3 * HOUR, 2 * HOUR, HOUR, verified="data")], {}))
    for expected in (
        "etcdguard: prod", "This daemon acts", "Nothing is wrong.", "Repository main", "3 backups",
        "newest backup 60 min old", "backup-2", "102", "2.9 MiB", "2026-11-21 13:00:00 UTC", "60.5 s",
    ):  # fmt: skip
        assert expected in seen.text, expected
    assert seen.tags.count("svg") == 1
    assert "script" not in seen.tags


def test_a_job_that_has_not_run_here() -> None:
    seen = Seen(render(state(job("check")), [], {}))
    assert "not yet here" in seen.text


def test_a_bad_day_and_hostile_text() -> None:
    jobs = [
        job(last=run("failed", error=EVIL), failures=3, circuit_open=True),
        job("check", run("failed", document=CHECKS)),
        job("drill", unavailable="no such command"),
        job("verify", running_since=NOW),
    ]
    troubled = state(*jobs, role="standby", holder=EVIL, cluster=EVIL, node=EVIL)
    repositories = [replace(repository(name="new"), asked_at=None, error=EVIL), repository()]
    seen = Seen(render(troubled, repositories, problems(troubled, repositories, None)))
    assert "script" not in seen.tags
    assert seen.text.count(EVIL) >= 5
    for expected in ("critical", "NOSPACE on <cp1>", "not local", "no such command", "runs", "no backup"):
        assert expected in seen.text, expected


def test_nothing_comes_from_elsewhere() -> None:
    page = render(state(job(last=run())), [repository(HOUR, HOUR)], {}).decode()
    assert not re.search(r"https?:|//|@import|url\(", page)


def test_no_lock_is_said() -> None:
    assert "No lock can be had" in Seen(render(state(role="no_lock", lock_problem="x"), [], {})).text
