"""The entry point: the table of commands, and the one place where an error becomes an exit code."""

from __future__ import annotations

import gc
import io
import os
import select
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NoReturn

import click

from etcdguard import __version__
from etcdguard.cli.lazy import Entry, LazyGroup
from etcdguard.cli.options import global_options
from etcdguard.cli.session import Session
from etcdguard.errors import EtcdGuardError, Interrupted, UsageError
from etcdguard.heap import share_heap
from etcdguard.human import without_controls

__all__ = ["COMMANDS", "main", "run"]

COMMANDS = {
    "init": Entry("etcdguard.cli.init", "Write a configuration and the keys it names"),
    "config": Entry("etcdguard.cli.config", "Check or show the configuration"),
    "backup": Entry("etcdguard.cli.backup", "Take an encrypted snapshot and ship it to every repository"),
    "daemon": Entry("etcdguard.cli.daemon", "Run the jobs that have a schedule"),
    "list": Entry("etcdguard.cli.list", "List the backups, oldest first"),
    "show": Entry("etcdguard.cli.show", "Show one backup's manifest and what is known of it"),
    "download": Entry("etcdguard.cli.download", "Write a backup's plain, verified snapshot for etcdutl"),
    "check": Entry("etcdguard.cli.check", "Check the cluster, and what backups and restores depend on"),
    "verify": Entry("etcdguard.cli.verify", "Prove that backups are what their manifests say"),
    "prune": Entry("etcdguard.cli.prune", "Delete the backups that the retention rules let go of"),
    "audit": Entry(
        "etcdguard.cli.audit", "Report on the backups of a period, control by control, with evidence"
    ),
    "hold": Entry("etcdguard.cli.hold", "Keep backups from being deleted"),
    "restore": Entry(
        "etcdguard.cli.restore", "Restore a backup onto all members, or onto those on this machine"
    ),
    "node": Entry("etcdguard.cli.node", "Carry out steps of a restore on this machine", hidden=True),
    "member": Entry("etcdguard.cli.member", "Replace a member of a cluster that is alive"),
    "defrag": Entry("etcdguard.cli.defrag", "Defragment the members that are worth it, one after the other"),
    "demo": Entry("etcdguard.cli.demo", "Back up, lose and restore a throwaway cluster"),
}
"""Name to module, in the order of the help. A new command is a module with ``command`` and a line here."""

_EPILOG = """
Examples:
  etcdguard init --cluster-name prod --repository s3://backups/etcd
  etcdguard backup && etcdguard verify latest
  etcdguard restore --dry-run

Exit codes: docs/exit-codes.md
"""


@click.group(
    cls=LazyGroup,
    entries=COMMANDS,
    params=list(global_options(environment=True)),
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=False,
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Encrypted, verified backups of etcd, and clusters restored from them."""


def main() -> NoReturn:
    """The console script."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    share_heap()
    # What a command reads lives to its end: looking for cycles in it time and again took 8 % of a long list.
    gc.set_threshold(20_000, 20, 50)
    code = run(sys.argv[1:], os.environ)
    # A KeyboardInterrupt that arose inside exec() of a string, as when a dataclass is being made, leaves
    # CPython believing that nobody caught it: `python -m` would then die of SIGINT instead of exiting with
    # our code. The next string that is executed clears that.
    exec("")  # noqa: S102
    # What is left goes with the process: looking through all of it for cycles takes up to 0.2 s.
    gc.freeze()
    sys.exit(code)


def run(args: Sequence[str], env: Mapping[str, str]) -> int:
    """Run one command line and return its exit code; errors are two lines on stderr."""
    session = Session(env)
    try:
        with cli.make_context("etcdguard", list(args), obj=session) as context:
            cli.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as e:
        return e.exit_code
    except (KeyboardInterrupt, click.Abort) as e:
        return _fail(_interrupted(), e, session)
    except EtcdGuardError as e:
        return _fail(e, e, session)
    except click.ClickException as e:
        return _fail(_usage(e), e, session)
    except Exception as e:  # noqa: BLE001 - the last place that can say anything
        if isinstance(e, BrokenPipeError) and _reader_is_gone():
            _drop_stdout()
            return 1
        return _fail(_internal(e), e, session)
    return 0


def _fail(error: EtcdGuardError, cause: BaseException, session: Session) -> int:
    with suppress(OSError):  # nobody reads stderr: the exit code still tells
        if session.debug:
            traceback.print_exception(cause)
        click.echo(f"error: {_line(error.message)}\nhint: {_line(error.hint)}", err=True)
    _drop_stdout()
    return error.exit_code


def _line(text: str) -> str:
    return without_controls(" ".join(text.split()))


def _usage(error: click.ClickException) -> UsageError:
    possibilities = getattr(error, "possibilities", None)
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "etcdguard"
    hint = f"did you mean {' or '.join(possibilities)}?" if possibilities else f"see `{path} --help`"
    message = (error.message if possibilities else error.format_message()).rstrip(".")
    return UsageError(message[:1].lower() + message[1:], hint=hint)


def _interrupted() -> Interrupted:
    return Interrupted(
        "interrupted", hint="nothing half-done counts as a backup; run the same command again to go on"
    )


def _internal(error: Exception) -> EtcdGuardError:
    return EtcdGuardError(
        f"internal: {type(error).__name__}: {error}",
        hint="run it again with --debug and report the traceback to the project's issue tracker",
    )


def _reader_is_gone() -> bool:
    """Whether stdout is the pipe that broke."""
    try:
        stdout = sys.stdout.fileno()
    except io.UnsupportedOperation:  # not a file, so not a pipe
        return False
    poll = select.poll()
    poll.register(stdout, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _drop_stdout() -> None:
    """What cannot be written must not fail once more, and change the exit code, when the interpreter ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
