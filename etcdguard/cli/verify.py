"""``etcdguard verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from etcdguard.cli.lazy import Command
from etcdguard.cli.options import output_option
from etcdguard.cli.output import Document, human_duration, table
from etcdguard.cli.selection import identity_option, repository_option
from etcdguard.cli.session import Session
from etcdguard.cli.units import duration, size
from etcdguard.errors import Corruption, ObjectNotFound, UsageError, WrongKey

if TYPE_CHECKING:
    from datetime import timedelta

    from etcdguard.app import App
    from etcdguard.catalog import Catalog
    from etcdguard.drill import DrillResult
    from etcdguard.verify import Level, Verifier, VerifyResult

__all__ = ["command"]

_DIRECTORY = click.Path(path_type=Path, file_okay=False, exists=True)


@click.command(
    "verify",
    cls=Command,
    epilog="""
    Examples:
      etcdguard verify latest --level data
      etcdguard verify --all --repository offsite -o json
      etcdguard verify --all --max-age 30d --max-rate 20MiB     # run again, it goes on where it was cut off
      etcdguard verify latest --level drill --members 3 --dir /var/tmp
    """,
)
@click.argument("backup", metavar="[ID|latest]", required=False)
@click.option("--all", "every", is_flag=True, help="Verify every backup of the repository.")
@click.option("--if-any", is_flag=True, help="Exit 0 and say so where no backup was ever taken.")
@click.option(
    "--level",
    type=click.Choice(["manifest", "data", "drill"]),
    default="data",
    show_default=True,
    help="manifest: signature, chain, sizes. data: also every byte, and the database's structure. "
    "drill: restored into a throwaway etcd that must serve it.",
)
@click.option(
    "--members",
    type=click.Choice(["1", "3"]),
    default="1",
    show_default=True,
    help="Of the throwaway cluster, with --level drill.",
)
@click.option(
    "--dir",
    "base",
    metavar="DIR",
    type=_DIRECTORY,
    help="Where the drill's data goes (default: $TMPDIR); it takes about three times the database.",
)
@click.option(
    "--etcd", metavar="DIR", type=_DIRECTORY, help="Folder with etcd and etcdutl (default: from PATH)."
)
@click.option(
    "--max-age",
    callback=duration,
    metavar="DURATION",
    help="With --all: what was found sound at this level within this time is not read again.",
)
@click.option(
    "--max-rate",
    callback=size,
    metavar="SIZE",
    help="Read at most so much a second from the repository (default verify.max_rate).",
)
@click.option(
    "--parallel",
    type=click.IntRange(1, 16),
    metavar="N",
    help="With --all: so many backups at once (default verify.parallel).",
)
@repository_option
@identity_option
@output_option
@click.pass_obj
def command(
    session: Session,
    backup: str | None,
    every: bool,
    if_any: bool,
    level: Literal["manifest", "data", "drill"],
    members: str,
    base: Path | None,
    etcd: Path | None,
    max_age: timedelta | None,
    max_rate: int | None,
    parallel: int | None,
    repository: str | None,
    identity: Path | None,
) -> None:
    """Prove that backups are what their manifests say (default: the latest).

    Exit code 13 when anything is wrong, 12 when a backup is for other keys than those here. The results are
    recorded in the repository as signed events, those of --all as they come: a run that was cut off goes on
    with --max-age. A drill needs etcd and etcdutl of the cluster's release line on this machine; nothing of
    it is left behind.
    """
    from etcdguard.app import App

    if every and (backup is not None or level == "drill"):
        raise UsageError("--all goes with neither a backup nor a drill", hint="name one backup, or `latest`")
    if not every and (max_age or parallel):
        raise UsageError("--max-age and --parallel go with --all", hint="leave them out, or add --all")
    if max_rate and level != "data":
        raise UsageError("--max-rate goes with --level data", hint="leave it out: nothing else reads much")
    app = App(session.load())
    with session.progress() as progress:
        if level == "drill":
            from etcdguard.app_drill import drill
            from etcdguard.restore.programs import find_programs

            programs = find_programs(etcd, session.env.get("PATH", ""))

            def use(catalog: Catalog) -> list[dict[str, Any]]:
                found = catalog.resolve(backup or "latest")
                found.require_trusted()
                exercise = drill(app, catalog, programs, base, progress, identity)
                result = exercise.run(found, int(members))
                app.record_drill(catalog, result)
                return [_drilled(result)]

        else:

            def use(catalog: Catalog) -> list[dict[str, Any]]:
                verifier = app.verifier(catalog, progress, identity, max_rate)
                if every:
                    results = _every(app, catalog, verifier, level, max_age, parallel)
                else:
                    results = verifier.one(backup or "latest", level)
                    app.record_verification(catalog, results)
                return [_verified(result) for result in results]

        try:
            results = app.first_catalog(repository, use)
        except ObjectNotFound:
            if not if_any:
                raise
            if not any(catalog.trail.knows_backups() for catalog in app.catalogs(repository)):
                reason = "no backup has been taken yet"
                session.report({"outcome": "skipped", "satisfied": False, "reason": reason}, _skipped)
                return
            results = app.first_catalog(repository, use)  # the first may have come meanwhile
    session.report({"results": results}, _table)
    failed = [one for one in results if one["outcome"] == "failed"]
    locked = [one for one in results if one["outcome"] == "unverifiable"]
    if failed:
        raise Corruption(
            f"{len(failed)} of {len(results)} backups failed verification",
            hint="take a new backup now; restore only from one that is sound, or from another repository",
        )
    if locked:
        raise WrongKey(
            f"{len(locked)} of {len(results)} backups are for other keys than those here",
            hint="verify them with --identity FILE; what is stored of them is unchanged, no more is known",
        )


def _every(
    app: App,
    catalog: Catalog,
    verifier: Verifier,
    level: Level,
    max_age: timedelta | None,
    parallel: int | None,
) -> list[VerifyResult]:
    """All of a repository's backups; what is found is recorded even if it ends early."""
    from etcdguard.verify import Notes

    now = app.clock.now()
    with Notes(lambda results: app.record_verification(catalog, results), app.clock.monotonic) as notes:
        return verifier.every(
            level,
            found=notes.add,
            sound_between=None if max_age is None else (now - max_age, now),
            parallel=parallel or app.config.verify.parallel,
        )


def _verified(result: VerifyResult) -> dict[str, Any]:
    return {
        "id": result.id,
        "level": result.level,
        "outcome": result.outcome,
        "problems": list(result.problems),
    }


def _drilled(result: DrillResult) -> dict[str, Any]:
    return {
        "id": result.id,
        "level": "drill",
        "outcome": result.outcome,
        "problems": list(result.problems),
        "drill": result.facts,
    }


def _skipped(document: Document) -> str:
    return table(None, [("skipped", document["reason"])])


def _table(document: Document) -> str:
    rows = [
        (one["id"], one["level"], one["outcome"], "; ".join(one["problems"]) or "-")
        for one in document["results"]
    ]
    parts = [table(("ID", "LEVEL", "OUTCOME", "PROBLEMS"), rows)]
    for drill in (one["drill"] for one in document["results"] if "drill" in one):
        seconds = [(name, human_duration(took)) for name, took in drill["seconds"].items()]
        parts += [
            table(("PROOF", "FOUND"), list(drill["proofs"].items())),
            table(("KEYS BELOW", "COUNT"), [(name, str(count)) for name, count in drill["keys"].items()]),
            table(("PART", "TOOK"), [*seconds, ("total", human_duration(drill["rto_seconds"]))]),
        ]
    return "\n\n".join(parts)
