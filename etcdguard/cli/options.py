"""The options several commands share. None is passed to the command function: they fill the Session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from etcdguard.cli.session import DEFAULT_CONFIG, Session
from etcdguard.errors import UsageError

__all__ = ["Option", "connection_options", "global_options", "output_option"]

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])

_Store = Callable[[Session, Any], None]


class Option(click.Option):
    """An option that stands under its own heading in the help."""

    def __init__(self, *args: Any, section: str = "Options", **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.section = section


def global_options(*, environment: bool) -> list[Option]:
    """Options that may stand before or after the command's name.

    Only those before it read the environment: otherwise a variable would win over a flag given there.
    """

    def option(*names: str, store: _Store, variable: str | None = None, **attributes: Any) -> Option:
        return _option(
            *names,
            store=store,
            section="Global options",
            envvar=variable if environment else None,
            show_envvar=True,
            **attributes,
        )

    def config(session: Session, value: str) -> None:
        session.config_path = Path(value)

    def debug(session: Session, value: bool) -> None:
        session.debug = session.debug or value

    def log_format(session: Session, value: Any) -> None:
        session.log_format = value

    def verbose(session: Session, value: int) -> None:
        session.verbosity += value

    def quiet(session: Session, value: int) -> None:
        session.verbosity -= value

    return [
        option(
            "--config",
            store=config,
            variable="ETCDGUARD_CONFIG",
            metavar="PATH",
            help=f"Configuration file (default {DEFAULT_CONFIG}).",
        ),
        option(
            "--log-format",
            store=log_format,
            variable="ETCDGUARD_LOG_FORMAT",
            type=click.Choice(["auto", "console", "json"]),
            help="Log lines on stderr; auto is console on a terminal, else json.",
        ),
        option("-v", "--verbose", store=verbose, count=True, help="Log more."),
        option("-q", "--quiet", store=quiet, count=True, help="Log less; no progress bar."),
        option(
            "--debug",
            store=debug,
            variable="ETCDGUARD_DEBUG",
            is_flag=True,
            help="Show a traceback with an error.",
        ),
    ]


def connection_options(command: _Decorated) -> _Decorated:
    """etcdctl's connection flags, for every command that talks to etcd."""
    for names, metavar, text in reversed(_CONNECTION):
        key = names.removeprefix("--").replace("-", "_")
        command = _add(
            command,
            _option(
                names,
                store=_user if key == "user" else _connection(key),
                section="Connection options (else ETCDGUARD_*, ETCDCTL_*, the file)",
                metavar=metavar,
                help=text,
            ),
        )
    return command


def output_option(command: _Decorated) -> _Decorated:
    """``-o table|json|yaml``, for every command that reports."""

    def output(session: Session, value: Any) -> None:
        session.output = value

    return _add(
        command,
        _option(
            "-o",
            "--output",
            store=output,
            type=click.Choice(["table", "json", "yaml"]),
            help="How to report (default table).",
        ),
    )


_CONNECTION = (
    ("--endpoints", "URL,...", "etcd endpoints, separated by commas."),
    ("--cacert", "PATH", "CA bundle that etcd's certificate is checked with."),
    ("--cert", "PATH", "Client certificate."),
    ("--key", "PATH", "Key of the client certificate."),
    ("--user", "NAME", "User name, without the password (ETCDGUARD_PASSWORD or password_file)."),
    ("--command-timeout", "DURATION", "Time for one short request, e.g. 5s."),
    ("--server-name", "NAME", "Name expected in etcd's certificate."),
)


def _connection(key: str) -> _Store:
    def store(session: Session, value: str) -> None:
        session.connection[key] = value

    return store


def _user(session: Session, value: str) -> None:
    if ":" in value:
        raise UsageError(
            "--user takes the name alone: every user of this machine can read a password in the arguments",
            hint="give the password in ETCDGUARD_PASSWORD, or in the file named by cluster.password_file",
        )
    session.connection["user"] = value


def _option(*names: str, store: _Store, **attributes: Any) -> Option:
    def callback(context: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value is not None:
            store(context.ensure_object(Session), value)

    return Option(names, expose_value=False, callback=callback, **attributes)


def _add(command: _Decorated, option: Option) -> _Decorated:
    """What ``click.option`` does, for an option that is made already."""
    if isinstance(command, click.Command):
        command.params.insert(0, option)
    else:
        command.__dict__.setdefault("__click_params__", []).append(option)
    return command
