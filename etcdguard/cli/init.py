"""``etcdguard init``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from etcdguard.cli.lazy import Command
from etcdguard.cli.options import connection_options, output_option
from etcdguard.cli.output import Document, table
from etcdguard.cli.session import DEFAULT_CONFIG, Session

if TYPE_CHECKING:
    from etcdguard.init import Plan

__all__ = ["command"]

_STATE = Path("/var/lib/etcdguard")


@click.command(
    cls=Command,
    epilog="""
    Examples:
      etcdguard init --cluster-name prod --repository s3://backups/etcd \\
          --endpoints https://10.0.0.1:2379 --cacert /etc/kubernetes/pki/etcd/ca.crt \\
          --cert /etc/kubernetes/pki/etcd/server.crt --key /etc/kubernetes/pki/etcd/server.key
      etcdguard init --config ./try/config.yaml
    """,
)
@click.option(
    "--cluster-name", metavar="NAME", default="default", show_default=True, help="Name of the cluster."
)
@click.option(
    "--repository",
    metavar="PLACE",
    help="s3://BUCKET[/PREFIX], or a directory to be made (default /var/lib/etcdguard/repository; "
    "with --config, 'repository' beside that file).",
)
@click.option(
    "--spool-dir",
    metavar="PATH",
    help="Where encrypted backups wait for their upload (default as for --repository, 'spool').",
)
@connection_options
@output_option
@click.pass_obj
def command(session: Session, cluster_name: str, repository: str | None, spool_dir: str | None) -> None:
    """Write a configuration and the keys it names.

    Makes an age identity, which alone opens the backups, and a signing key beside the configuration file.
    Nothing that exists is overwritten.
    """
    from etcdguard import init
    from etcdguard.config import parse
    from etcdguard.config.settings import collect

    config_path = session.config_path.absolute()
    state = _STATE if config_path == DEFAULT_CONFIG else config_path.parent
    overrides = collect({}, session.connection)
    plan = init.plan(
        init.Request(
            config_path=config_path,
            cluster_name=cluster_name,
            repository=init.parse_repository(repository or str(state / "repository")),
            spool_dir=Path(spool_dir).absolute() if spool_dir else state / "spool",
            restore_dir=state / "restore",
            daemon_dir=state / "daemon",
            connection={key: override.value for key, override in overrides.items()},
        )
    )
    parse(plan.config.content.decode(), config_path, overrides.values())  # refuse before anything is written
    init.execute(plan)
    session.report(_document(plan), _table)


def _document(plan: Plan) -> Document:
    return {
        "config": plan.config.path,
        "identity_file": plan.identity.path,
        "recipient": plan.recipient,
        "signing_key_file": plan.signing_key.path,
        "public_key_file": plan.public_key.path,
        "signer": plan.signer,
    }


def _table(document: Document) -> str:
    facts = table(None, [(key.replace("_", " "), str(value)) for key, value in document.items()])
    return f"""{facts}

Now:
  1. Copy {document["identity_file"]} to two safe places away from this machine, then remove it here.
     Whoever has it can read every backup; without it no backup can be read.
  2. Copy {document["public_key_file"]} to where you would restore.
  3. Run `etcdguard config validate --config {document["config"]}`, then `etcdguard backup`."""
