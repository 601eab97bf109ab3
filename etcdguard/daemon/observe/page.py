"""The status page: one HTML document without anything from elsewhere. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from html import escape

from etcdguard.daemon.observe.facts import ListedBackup, RepositoryFacts, last_checks
from etcdguard.daemon.observe.problems import Problem
from etcdguard.daemon.state import DaemonState, JobState
from etcdguard.human import counted

__all__ = ["render"]

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --bad: #c22; --warn: #b70; --good: #282; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top }
th, td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line) }
th { font-weight: 600 } td.number { text-align: right; font-variant-numeric: tabular-nums }
.ok { color: var(--good) } .warning { color: var(--warn) } .critical { color: var(--bad); font-weight: 600 }
.quiet { opacity: .7 } svg { display: block } polyline { fill: none; stroke: currentColor; stroke-width: 1.5 }
"""

_SHOWN_BACKUPS = 10
_CHART = (260, 40)


def render(
    state: DaemonState, repositories: Sequence[RepositoryFacts], problems: Mapping[str, Problem]
) -> bytes:
    """The page as it is at ``state.at``; it reloads itself every 30 s."""
    now = state.at
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        '<meta http-equiv=refresh content=30><meta name=viewport content="width=device-width">',
        f"<title>etcdguard: {escape(state.cluster)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>etcdguard: {escape(state.cluster)}</h1>",
        f"<p>{_role(state)} <span class=quiet>{escape(state.node)}, version {escape(state.version)}, "
        f"{_moment(now)}</span></p>",
        _problems(problems.values()),
        *(_repository(one, now) for one in repositories),
        _jobs(state.jobs, now),
        _checks(state),
        "</body></html>\n",
    ]
    return "".join(parts).encode()


def _role(state: DaemonState) -> str:
    if state.role == "leader":
        return "This daemon acts for the cluster."
    if state.role == "standby":
        holder = "another one" if state.holder is None else escape(state.holder)
        return f"This daemon stands by; {holder} acts."
    return "<span class=warning>No lock can be had from etcd: every node acts for itself.</span>"


def _problems(problems: Iterable[Problem]) -> str:
    rows = [
        f"<tr><td class={one.severity}>{one.severity}</td><td>{escape(one.summary)}</td>"
        f"<td class=quiet>{escape(one.hint)}</td></tr>"
        for one in sorted(problems, key=lambda one: (one.severity != "critical", one.key))
    ]
    if not rows:
        return "<p class=ok id=problems>Nothing is wrong.</p>"
    return f"<h2>Problems</h2><table id=problems>{''.join(rows)}</table>"


def _repository(one: RepositoryFacts, now: datetime) -> str:
    title = f"<h2>Repository {escape(one.name)}</h2>"
    if one.asked_at is None:
        return f"{title}<p class=quiet>{escape(one.error or 'It has not been asked yet.')}</p>"
    newest = one.newest
    age = "no backup" if newest is None else f"newest backup {_span(now - newest.created_at)} old"
    verified = one.verified_at("data", "drill")
    sound = "never verified" if verified is None else f"verified {_span(now - verified)} ago"
    held = f"{counted(one.count, 'backup')}, {_bytes(one.stored_bytes)}"
    summary = f"{held}; {age}; {sound}; asked {_moment(one.asked_at)}"
    rows = "".join(_backup(backup, now) for backup in reversed(one.backups[-_SHOWN_BACKUPS:]))
    table = (
        "<table><tr><th>Backup<th>Age<th>Revision<th>Keys<th>Database<th>Stored<th>Verified</tr>"
        f"{rows}</table>"
    )
    chart = _chart([backup.db_bytes for backup in one.backups])
    return f"{title}<p>{summary}</p>{chart}{table if rows else ''}"


def _backup(one: ListedBackup, now: datetime) -> str:
    numbers = (f"{one.revision}", f"{one.total_keys}", _bytes(one.db_bytes), _bytes(one.stored_bytes))
    cells = "".join(f"<td class=number>{number}</td>" for number in numbers)
    verified = escape(one.verified_level) if one.verified_level else "-"
    return (
        f"<tr><td>{escape(one.id)}</td><td>{_span(now - one.created_at)}</td>{cells}<td>{verified}</td></tr>"
    )


def _chart(values: Sequence[int]) -> str:
    """The sizes of the database over the backups, from zero."""
    if len(values) < 2:
        return ""
    width, height = _CHART
    top = max(values) or 1
    points = " ".join(
        f"{index * width / (len(values) - 1):.1f},{height - 2 - value / top * (height - 4):.1f}"
        for index, value in enumerate(values)
    )
    label = f"database {_bytes(values[0])} to {_bytes(values[-1])} over {len(values)} backups"
    return (
        f'<svg role=img aria-label="{label}" width={width} height={height} viewBox="0 0 {width} {height}">'
        f'<title>{label}</title><polyline points="{points}"/></svg><p class=quiet>{label}</p>'
    )


def _jobs(jobs: Sequence[JobState], now: datetime) -> str:
    rows = "".join(_job(job, now) for job in jobs)
    return (
        "<h2>Jobs</h2><table id=jobs><tr><th>Job<th>Schedule<th>Last run<th>Outcome<th>Took<th>Next run</tr>"
        f"{rows}</table>"
    )


def _job(job: JobState, now: datetime) -> str:
    run = job.last_run
    if job.unavailable is not None:
        last, outcome, took = "-", f"<span class=quiet>{escape(job.unavailable)}</span>", "-"
    elif job.running_since is not None:
        last, outcome, took = "now", "runs", _span(now - job.running_since)
    elif run is None:
        last, outcome, took = "-", "<span class=quiet>not yet here</span>", "-"
    else:
        good = run.outcome in ("ok", "skipped", "waiting")
        text = run.outcome if run.error is None else f"{run.outcome}: {run.error}"
        last = f"{_span(now - run.finished_at)} ago"
        outcome = f"<span class={'ok' if good else 'critical'}>{escape(text)}</span>"
        took = f"{run.seconds:.1f} s"
    due = "-" if job.next_run is None else _moment(job.next_run)
    schedule = escape(job.schedule or "-")
    return (
        f"<tr><td>{escape(job.name)}</td><td>{schedule}</td><td>{last}</td><td>{outcome}</td>"
        f"<td>{took}</td><td>{due}</td></tr>"
    )


def _checks(state: DaemonState) -> str:
    kinds = {"OK": "ok", "WARN": "warning", "FAIL": "critical", "SKIP": "quiet"}
    rows = "".join(
        f"<tr><td class={kinds[check.outcome]}>{check.outcome}</td><td>{escape(check.name)}</td>"
        f"<td>{escape(check.value)}</td><td class=quiet>{escape(check.hint or '')}</td></tr>"
        for check in last_checks(state)
    )
    return f"<h2>Checks</h2><table id=checks>{rows}</table>" if rows else ""


def _span(length: timedelta) -> str:
    seconds = int(length.total_seconds())
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{sign}{seconds // size} {unit}"
    return f"{sign}{seconds} s"


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def _bytes(number: int) -> str:
    power = min(4, max(0, number.bit_length() - 1) // 10)
    if power == 0:
        return f"{number} B"
    return f"{number / 1024**power:.1f} {('KiB', 'MiB', 'GiB', 'TiB')[power - 1]}"
