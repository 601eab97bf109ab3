"""The report as one HTML page without anything from elsewhere: for a browser, and for paper. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

from etcdguard.audit.timeline import timeline
from etcdguard.human import counted, human_bytes, human_duration, human_time

__all__ = ["page"]

_STYLE = """
:root { --line: #ccc; --bad: #b3261e; --good: #1e6b2d; --quiet: #666; --bar: #3a6ea5; --gone: #b9c7d6 }
body { font: 14px/1.4 system-ui, sans-serif; color: #111; background: #fff; margin: 2rem auto;
  max-width: 75rem; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.2rem; margin: 2rem 0 .3rem }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem }
table { border-collapse: collapse; width: 100%; table-layout: auto }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem .25rem 0;
  border-bottom: 1px solid var(--line) }
td { overflow-wrap: anywhere } th { font-weight: 600 }
.id { font: 11px/1.5 ui-monospace, monospace } .quiet { color: var(--quiet) }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
.PASS, .ok { color: var(--good); font-weight: 600 } .FAIL, .failed { color: var(--bad); font-weight: 600 }
.NOT-APPLICABLE { color: var(--quiet) } td.word { white-space: nowrap }
svg { display: block; margin: .5rem 0; print-color-adjust: exact; -webkit-print-color-adjust: exact }
svg text { font: 12px system-ui, sans-serif; fill: #444 } .axis { stroke: #888; fill: none }
.bar { fill: none; stroke-width: 2; stroke: var(--bar) } .bar.deleted { stroke: var(--gone) }
.bar.damaged, .bar.missing { stroke: var(--bad) } .gap { fill: var(--bad) }
.mark.ok { fill: var(--good) } .mark.failed { fill: var(--bad) }
@page { size: A4; margin: 14mm }
@media print {
  body { margin: 0; max-width: none; padding: 0; font-size: 10px } .id { font-size: 8px }
  h2, h3 { break-after: avoid } tr, svg { break-inside: avoid } section + section { break-before: page }
  thead { display: table-header-group }
}
"""

_MOST_ROWS = 200
"""Of backups and of findings; JSON has all."""

_Found = Mapping[str, Any]


def page(document: _Found) -> str:
    """The page of a whole report."""
    period, clusters = document["period"], document["clusters"]
    names = ", ".join(one["name"] for one in clusters) if len(clusters) < 4 else f"{len(clusters)} clusters"
    generator = document["generator"]
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name=viewport content="width=device-width">',
        f"<title>Audit of etcd backups: {escape(names)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>Audit of etcd backups: {escape(names)}</h1>",
        f"<p>{human_time(period['start'])} to {human_time(period['end'])}: {_word(document['outcome'])}<br>",
        f"<span class=quiet>made {human_time(document['generated_at'])} by {escape(generator['name'])} ",
        f"{escape(generator['version'])} from the repositories alone; all times are UTC</span></p>",
        _index(clusters) if len(clusters) > 1 else "",
        *(_section(one, period["start"], period["end"]) for one in clusters),
        "</body></html>\n",
    ]
    return "".join(parts)


def _index(clusters: Sequence[_Found]) -> str:
    rows = []
    for one in clusters:
        failed = [control["id"] for control in one["controls"] if control["outcome"] == "FAIL"]
        link = f'<a href="#{escape(one["name"])}">{escape(one["name"])}</a>'
        taken = str(one["measures"]["backups_taken"])
        rows.append((_Html(_word(one["outcome"])), _Html(link), taken, ", ".join(failed) or "-"))
    return _table("clusters", ("Outcome", "Cluster", "Backups taken", "Failed controls"), rows)


def _section(cluster: _Found, start: datetime, end: datetime) -> str:
    name = escape(cluster["name"])
    parts = [
        f'<section id="{name}"><h2>Cluster {name}: {_word(cluster["outcome"])}</h2>',
        _measures(cluster["measures"]),
        timeline(cluster, start, end),
        "<p class=quiet>Bars are backups, as high as the database is large: blue is there, pale was deleted "
        "on record, red is damaged or missing. Red bands are gaps beyond the objective, squares "
        "verifications, triangles drills.</p>",
        "<h3>Controls</h3>",
        _table("controls", ("Outcome", "Control", "What was found", "Requirement"), _controls(cluster)),
        _titled("Findings", "findings", ("Finding", "Where", "What"), list(_findings(cluster))),
        _titled(
            "Drills", "drills", ("Outcome", "When", "Backup", "Repository", "Restored in"), _drills(cluster)
        ),
        _titled("Deletions", "deletions", ("When", "Backup", "Repository", "By", "Why"), _deletions(cluster)),
        _titled("Holds", "holds", ("Backup", "Repository", "Since", "By", "Why"), _holds(cluster)),
        _titled("Policy", "policy", ("From", "By", "Policy"), _policies(cluster)),
        _titled(
            "Repositories",
            "repositories",
            ("Repository", "Backups", "Events", "Object lock", "Error"),
            _repositories(cluster),
        ),
        _titled(
            "Backups",
            "backups",
            ("Backup", "Database", "Stored", "Encrypted to", "Copies"),
            [_backup(one) for one in reversed(cluster["backups"])],
        ),
        "</section>",
    ]
    return "".join(parts)


def _measures(found: _Found) -> str:
    rate = found["success_rate"]
    told = [
        ("Backups taken", str(found["backups_taken"])),
        (
            "Scheduled backups taken",
            "-" if rate is None else f"{found['slots_satisfied']} of {found['slots_expected']} ({rate:.2%})",
        ),
        ("Longest time between backups", _seconds(found["longest_gap_seconds"])),
        ("Allowed", _seconds(found["rpo_target_seconds"])),
        ("Restored in drills in (median)", _seconds(found["rto_median_seconds"])),
        ("Restored in drills in (longest)", _seconds(found["rto_longest_seconds"])),
    ]
    return _table("measures", [name for name, _ in told], [tuple(value for _, value in told)])


def _controls(cluster: _Found) -> Iterator[tuple[str, ...]]:
    for one in cluster["controls"]:
        control = f"{escape(one['title'])}<br><span class='id quiet'>{escape(one['id'])}</span>"
        total = one["evidence_total"]
        evidence = f"<br><span class=quiet>{counted(total, 'object')}</span>" if total else ""
        found = f"{escape(one['summary'])}{evidence}"
        requirements = "<br>".join(escape(text) for text in one["requirements"])
        yield _Html(_word(one["outcome"])), _Html(control), _Html(found), _Html(requirements)


def _findings(cluster: _Found) -> Iterator[tuple[str, ...]]:
    for control in cluster["controls"]:
        for one in control["findings"]:
            kind = "FAIL" if one["severity"] == "failure" else "quiet"
            where = [one["repository"] or "", one["backup"] or one["evidence"] or ""]
            text = "<br>".join(escape(part) for part in where if part) or "-"
            code = f"<span class={kind}>{escape(one['code'])}</span>"
            yield _Html(code), _Html(f"<span class=id>{text}</span>"), one["message"]


def _drills(cluster: _Found) -> list[tuple[str, ...]]:
    return [
        (
            _Html(f"<span class={one['outcome']}>{one['outcome']}</span>"),
            human_time(one["at"]),
            _id(one["id"]),
            one["repository"],
            _seconds(one["rto_seconds"]),
        )
        for one in cluster["verifications"]
        if one["level"] == "drill"
    ]


def _deletions(cluster: _Found) -> list[tuple[str, ...]]:
    return [
        (human_time(one["at"]), _id(one["id"]), one["repository"], one["actor"], one["reason"])
        for one in sorted(cluster["deletions"], key=lambda one: (one["at"], one["id"]))
    ]


def _holds(cluster: _Found) -> list[tuple[str, ...]]:
    return [
        (_id(one["id"]), one["repository"], one["at"] or "-", one["actor"] or "-", one["reason"] or "-")
        for one in cluster["holds"]
    ]


def _policies(cluster: _Found) -> list[tuple[str, ...]]:
    changes = [
        (human_time(one["at"]), one["actor"], _policy(one["policy"])) for one in cluster["policy_changes"]
    ]
    return [*changes, ("at the end", "-", _policy(cluster["policy"]))]


def _policy(found: _Found) -> str:
    schedules = [f"{name} {'; '.join(texts)}" for name, texts in found["schedules"].items()]
    retention = found["retention"]
    kept = "keep everything" if retention is None else ", ".join(f"{k} {v}" for k, v in retention.items())
    to = f"encrypted to {', '.join(found['recipients'])}" if found["recipients"] else "not encrypted"
    return "; ".join([*schedules, kept, to])


def _repositories(cluster: _Found) -> list[tuple[str, ...]]:
    return [
        (
            one["name"],
            str(one["backups"]),
            str(one["events"]),
            "-"
            if one["object_lock"] is None
            else f"{one['object_lock']['mode']}, {one['object_lock']['days']} days",
            one["error"] or "-",
        )
        for one in cluster["repositories"]
    ]


def _backup(one: _Found) -> tuple[str, ...]:
    encryption = one["encryption"]
    copies = "<br>".join(_copy(copy) for copy in one["copies"])
    stored = any(copy["state"] in ("present", "damaged") for copy in one["copies"])
    clear = "in clear" if stored and one["stored_bytes"] is not None else "-"
    return (
        _id(one["id"]),
        "-" if one["db_bytes"] is None else human_bytes(one["db_bytes"]),
        "-" if one["stored_bytes"] is None else human_bytes(one["stored_bytes"]),
        clear if encryption is None else _id(", ".join(encryption["recipients"])),
        _Html(copies),
    )


def _copy(one: _Found) -> str:
    bad = one["state"] in ("damaged", "missing") or one["signature"] in ("missing", "invalid")
    told = [one["repository"], one["state"]]
    told += [f"signature {one['signature']}"] if one["signature"] else []
    told += [f"FAILED {one['failed_level']}"] if one["failed_level"] else []
    told += (
        [f"verified {one['verified_level']} {human_time(one['verified_at'])}"]
        if one["verified_level"]
        else []
    )
    told += [f"locked until {human_time(one['locked_until'])}"] if one["locked_until"] else []
    told += ["on hold"] if one["held"] else []
    text = escape(", ".join(told))
    return f"<span class=failed>{text}</span>" if bad or one["failed_level"] else text


# -- pieces --------------------------------------------------------------------------------------------


class _Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def _titled(title: str, name: str, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Nothing at all where there are no rows."""
    found = list(rows)
    if not found:
        return ""
    more = ""
    if len(found) > _MOST_ROWS:
        more = f"<p class=quiet>{len(found) - _MOST_ROWS} more are in the JSON report.</p>"
    return f"<h3>{title}</h3>{_table(name, headers, found[:_MOST_ROWS])}{more}"


def _table(name: str, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{header}</th>" for header in headers)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table class={name}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(text: str) -> str:
    return f"<td>{text if isinstance(text, _Html) else escape(text)}</td>"


def _word(outcome: str) -> _Html:
    return _Html(f"<span class={outcome}>{outcome}</span>")


def _id(text: str) -> _Html:
    return _Html(f"<span class=id>{escape(text)}</span>")


def _seconds(found: float | None) -> str:
    return "-" if found is None else human_duration(found)
