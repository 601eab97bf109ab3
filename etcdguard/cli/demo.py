"""``etcdguard demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from etcdguard.cli.lazy import Command
from etcdguard.cli.options import output_option
from etcdguard.cli.output import Document, human_duration, table
from etcdguard.cli.session import Session
from etcdguard.errors import EtcdGuardError

if TYPE_CHECKING:
    from etcdguard.demo.run import DemoReport
    from etcdguard.restore.programs import Programs

__all__ = ["command"]

_DIRECTORY = click.Path(path_type=Path, file_okay=False)


@click.command(
    "demo",
    cls=Command,
    epilog="""
    Examples:
      etcdguard demo
      etcdguard demo --keep
      etcdguard demo --etcd /opt/etcd-v3.6.1 -o json
    """,
)
@click.option(
    "--etcd",
    metavar="DIR",
    type=_DIRECTORY,
    help="Folder with etcd and etcdutl (default: from PATH, else those of the `demo` extra).",
)
@click.option("--dir", "base", metavar="DIR", type=_DIRECTORY, help="Work below this (default: $TMPDIR).")
@click.option("--keep", is_flag=True, help="Keep the demo's folder: configuration, keys, backup, logs, data.")
@output_option
@click.pass_obj
def command(session: Session, etcd: Path | None, base: Path | None, keep: bool) -> None:
    """Back up, lose and restore a throwaway cluster.

    Starts three members of etcd on this machine, takes a backup, kills the members and removes their data,
    restores all three, and proves that they are what they were. Nothing is left behind, also after Ctrl-C.
    Exit code 1 when a proof fails. No configuration is read; -v shows the log as well.
    """
    from etcdguard.app import SystemClock
    from etcdguard.demo.run import run_demo
    from etcdguard.restore.programs import find_programs

    loud = session.verbosity >= 0
    session.verbosity -= 1  # the demo tells its own story
    session.start_logging()
    programs = find_programs(etcd, session.env.get("PATH", ""))
    report = run_demo(
        programs,
        base,
        keep=keep,
        clock=SystemClock(),
        tell=lambda line: click.echo(line, err=True) if loud else None,
    )
    session.report(_document(programs, report), _table)
    if report.failed:
        raise EtcdGuardError(
            "the restored cluster is not as it was: "
            + "; ".join(f"{one.name}: {one.found}" for one in report.failed),
            hint="run it again with --keep, and report what the members' logs and the manifest say",
        )


def _document(programs: Programs, report: DemoReport) -> Document:
    return {
        "outcome": "failed" if report.failed else "proven",
        "seconds": round(report.seconds, 3),
        "etcd": {"path": programs.etcd.path, "version": programs.etcd.version_text},
        "restore_tool": {"path": programs.restore.path, "version": programs.restore.version_text},
        "backup": {"id": report.backup_id, "revision": report.revision},
        "phases": [
            {"name": phase.name, "seconds": round(phase.seconds, 3), "happened": phase.happened}
            for phase in report.phases
        ],
        "proofs": [
            {"name": one.name, "outcome": "ok" if one.holds else "failed", "found": one.found}
            for one in report.proofs
        ],
        "kept": report.kept,
    }


def _table(document: Document) -> str:
    phases = [
        (phase["name"], human_duration(phase["seconds"]), phase["happened"]) for phase in document["phases"]
    ]
    total = ("total", human_duration(document["seconds"]), "")
    proofs = [(one["name"], one["outcome"], one["found"]) for one in document["proofs"]]
    return "\n\n".join(
        [
            table(("PHASE", "TOOK", "WHAT HAPPENED"), [*phases, total]),
            table(("PROOF", "OUTCOME", "FOUND"), proofs),
        ]
    )
