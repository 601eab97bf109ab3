"""``etcdguard audit``."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from etcdguard.cli.lazy import Command
from etcdguard.cli.output import Document, emit, human_duration, human_time, render, table
from etcdguard.cli.session import Session
from etcdguard.cli.units import duration
from etcdguard.errors import Corruption, EtcdGuardError, Stale, UsageError

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = ["command"]

_MOST_FINDINGS = 30
"""Of one control in the table; JSON has all."""


@click.command(
    "audit",
    cls=Command,
    epilog="""
    Examples:
      etcdguard audit
      etcdguard audit --from 2026-10-01 --to 2026-10-31 -o json
      etcdguard audit --from 90d --rpo 2h
      etcdguard audit -o html --file report.html --sign
      etcdguard audit --all-clusters -o json
    """,
)
@click.option(
    "--from",
    "start",
    metavar="WHEN",
    help="Beginning of the period: a day, a moment, or a length back from its end (default 30d).",
)
@click.option("--to", "end", metavar="WHEN", help="End of the period (default now); a day is included.")
@click.option(
    "--rpo",
    callback=duration,
    metavar="DURATION",
    help="Longest time between backups (default: 1.5 times the schedule's).",
)
@click.option("--repository", metavar="NAME", help="Only this repository (default: every configured one).")
@click.option("--all-clusters", is_flag=True, help="Every cluster that the repositories hold backups of.")
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["table", "json", "yaml", "html"]),
    default="table",
    help="How to report (default table).",
)
@click.option(
    "--file",
    "target",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the report there instead of stdout.",
)
@click.option("--sign", is_flag=True, help="Also write FILE.sig, a signature of FILE by signing.key_file.")
@click.pass_obj
def command(
    session: Session,
    start: str | None,
    end: str | None,
    rpo: timedelta | None,
    repository: str | None,
    all_clusters: bool,
    form: Literal["table", "json", "yaml", "html"],
    target: Path | None,
    sign: bool,
) -> None:
    """Report on the backups of a period, control by control, with evidence.

    Everything comes from the repositories; etcd is not asked. Exit code 13 when stored backups or records are
    not what they were, 14 when another control fails.
    """
    from etcdguard.app import App
    from etcdguard.app_audit import audit
    from etcdguard.audit.page import page
    from etcdguard.audit.period import parse_span

    if sign and target is None:
        raise UsageError("--sign needs --file", hint="name a file: its signature is written beside it")
    app = App(session.load())
    signer = app.require_signer() if sign else None
    now = app.clock.now()
    period = parse_span(start, end, now)
    document = audit(app, period, now, repository=repository, rpo=rpo, every_cluster=all_clusters)
    text = page(document) if form == "html" else render(document, form, _table)
    if target is None:
        emit(text, session.env)
    else:
        data = text.rstrip("\n").encode() + b"\n"
        if signer is not None:
            _write(target.with_name(target.name + ".sig"), signer.sign(data))
        _write(target, data)
    _raise_for(document)


def _write(target: Path, data: bytes) -> None:
    """As a whole or not at all."""
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(target)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise EtcdGuardError(
            f"cannot write {target}: {error.strerror}", hint="name another file with --file"
        ) from error


def _raise_for(document: Document) -> None:
    failed = [
        (cluster["name"], control)
        for cluster in document["clusters"]
        for control in cluster["controls"]
        if control["outcome"] == "FAIL"
    ]
    if not failed:
        return
    names = ", ".join(sorted({control["id"] for _, control in failed}))
    message = f"{len(failed)} controls failed: {names}"
    if any(one["integrity"] for _, control in failed for one in control["findings"]):
        raise Corruption(message, hint="docs/audit.md says what each finding means and what to do about it")
    raise Stale(message, hint="docs/audit.md says what each control asks for")


def _table(document: Document) -> str:
    period = document["period"]
    head = f"period {human_time(period['start'])} to {human_time(period['end'])}"
    return "\n\n".join([head, *(part for one in document["clusters"] for part in _cluster(one))])


def _cluster(cluster: dict[str, Any]) -> list[str]:
    rows = [(one["outcome"], one["id"], one["summary"]) for one in cluster["controls"]]
    measures = cluster["measures"]
    rate, gap, median = (
        measures["success_rate"],
        measures["longest_gap_seconds"],
        measures["rto_median_seconds"],
    )
    told = [
        ("backups taken", str(measures["backups_taken"])),
        ("of schedule", "-" if rate is None else f"{rate:.2%}"),
        ("longest gap", "-" if gap is None else human_duration(gap)),
        ("restored in (median)", "-" if median is None else human_duration(median)),
    ]
    parts = [f"cluster {cluster['name']}: {cluster['outcome']}", table(None, told)]
    parts.append(table(("OUTCOME", "CONTROL", "WHAT WAS FOUND"), rows))
    findings = [line for control in cluster["controls"] for line in _findings(control)]
    if findings:
        parts.append(table(("FINDING", "REPOSITORY", "BACKUP", "WHAT"), findings))
    return parts


def _findings(control: dict[str, Any]) -> list[tuple[str, ...]]:
    found = control["findings"]
    lines: list[tuple[str, ...]] = [
        (one["code"], one["repository"] or "-", one["backup"] or "-", one["message"])
        for one in found[:_MOST_FINDINGS]
    ]
    if len(found) > _MOST_FINDINGS:
        lines.append((f"({len(found) - _MOST_FINDINGS} more)", "-", "-", f"of {control['id']}: see -o json"))
    return lines
