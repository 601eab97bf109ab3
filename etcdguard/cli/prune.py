"""``etcdguard prune``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from etcdguard.cli.lazy import Command
from etcdguard.cli.options import output_option
from etcdguard.cli.output import Document, table
from etcdguard.cli.session import Session
from etcdguard.errors import EtcdGuardError, PartialFailure, Refused, RepositoryError

if TYPE_CHECKING:
    from etcdguard.prune import PrunePlan, Pruner, PruneResult

__all__ = ["command"]


@click.command(
    "prune",
    cls=Command,
    epilog="""
    Examples:
      etcdguard prune                       # what would go, what stays, and why
      etcdguard prune --confirm
      etcdguard prune --repository offsite --confirm -o json
    """,
)
@click.option("--confirm", is_flag=True, help="Delete; without it only the plan is shown.")
@click.option(
    "--max-fraction",
    type=click.FloatRange(0, 1),
    metavar="F",
    help="Refuse to delete more than this part of a repository's backups (default retention.max_fraction).",
)
@click.option(
    "--repository", metavar="NAME", help="Only in this repository (default: in every configured one)."
)
@output_option
@click.pass_obj
def command(session: Session, confirm: bool, max_fraction: float | None, repository: str | None) -> None:
    """Delete the backups that the retention rules let go of, each repository by itself.

    The newest backup, the newest verified one and those on hold always stay. What was begun or left behind
    by crashed backups goes after a day. A repository that cannot be listed to the end is left alone.
    """
    from etcdguard.app import App
    from etcdguard.app_prune import pruners

    app = App(session.load())
    repositories, failed = [], dict[str, EtcdGuardError]()
    for pruner in pruners(app, repository, max_fraction):
        try:
            repositories.append(_prune(pruner, app.clock.now(), confirm=confirm))
        except (RepositoryError, Refused) as error:
            failed[pruner.repository] = error
    if not repositories and failed:
        raise next(iter(failed.values()))
    problems = {
        f"{found['repository']}: {key}": error
        for found in repositories
        for key, error in found["failed"].items()
    }
    session.report(_document(repositories, dry_run=not confirm), _table)
    refused = next((error for error in failed.values() if isinstance(error, Refused)), None)
    if refused is not None:
        raise refused
    if failed or problems:
        reasons = "; ".join(f"{name}: {error.message}" for name, error in {**failed, **problems}.items())
        raise PartialFailure(
            f"not everything was pruned ({reasons})", hint="run it again once that is mended"
        )


def _prune(pruner: Pruner, now: Any, *, confirm: bool) -> dict[str, Any]:
    plan = pruner.plan(now)
    result = pruner.execute(plan, now) if confirm else None
    return {
        "repository": pruner.repository,
        "plan": plan,
        "result": result,
        "failed": {} if result is None else result.failed,
    }


def _document(repositories: list[dict[str, Any]], *, dry_run: bool) -> Document:
    keep: list[dict[str, Any]] = []
    remove: list[dict[str, Any]] = []
    leftovers: list[dict[str, Any]] = []
    for found in repositories:
        name, plan, result = found["repository"], found["plan"], found["result"]
        keep += [
            {"repository": name, "id": one.id, "reasons": list(one.reasons)} for one in _keep(plan, result)
        ]
        gone = plan.remove if result is None else result.removed
        remove += [{"repository": name, "id": one.id, "reason": one.reason} for one in gone]
        leftovers.append(
            {
                "repository": name,
                "objects": list(plan.orphans if result is None else result.orphans),
                "uploads": len(plan.uploads) if result is None else result.uploads,
                "refused": plan.too_much,
            }
        )
    return {"dry_run": dry_run, "keep": keep, "remove": remove, "leftovers": leftovers}


def _keep(plan: PrunePlan, result: PruneResult | None) -> list[Any]:
    return [*plan.keep, *(() if result is None else result.kept_after_all)]


def _table(document: Document) -> str:
    going = "would go" if document["dry_run"] else "removed"
    rows = [
        (one["repository"], one["id"], "stays", ", ".join(one["reasons"])) for one in document["keep"]
    ] + [(one["repository"], one["id"], going, one["reason"]) for one in document["remove"]]
    lines = [table(("REPOSITORY", "ID", "DECISION", "WHY"), sorted(rows)) if rows else "no backups"]
    for one in document["leftovers"]:
        if one["objects"] or one["uploads"]:
            lines.append(
                f"{one['repository']}: {len(one['objects'])} objects and {one['uploads']} uploads "
                f"that belong to no backup {'would go' if document['dry_run'] else 'are gone'} too"
            )
        if one["refused"] and document["dry_run"]:
            lines.append(f"{one['repository']}: --confirm would be refused: {one['refused']}")
    return "\n\n".join(lines)
