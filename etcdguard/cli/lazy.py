"""click classes of this command line: verbatim examples, shared options, and commands imported when used."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import click

from etcdguard.cli.options import Option, global_options
from etcdguard.cli.session import Session
from etcdguard.errors import UsageError

__all__ = ["Command", "DefaultGroup", "Entry", "Group", "LazyGroup"]


class _Help(click.Command):
    """Options under their headings, and the epilog as it was written."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See click.Command."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Argument):
                continue  # stands in the usage line
            record = parameter.get_help_record(ctx)
            if record is not None:
                section = parameter.section if isinstance(parameter, Option) else "Options"
                sections.setdefault(section, []).append(record)
        for section, records in sections.items():
            if records:
                with formatter.section(section):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See click.Command."""
        if self.epilog:
            formatter.write_paragraph()
            formatter.write(inspect.cleandoc(self.epilog) + "\n")


class Command(_Help):
    """A command that does something: it takes the global options too, and starts logging before it runs."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.params.extend(global_options(environment=False))

    def invoke(self, ctx: click.Context) -> Any:
        """See click.Command."""
        ctx.ensure_object(Session).start_logging()
        return super().invoke(ctx)


class Group(_Help, click.Group):
    """A command of commands."""

    command_class = Command

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See click.Group: the commands stand below the options."""
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See click.Group; an unknown name gets the nearest one as its hint."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            from difflib import get_close_matches

            near = get_close_matches(name, self.list_commands(ctx), n=1)
            raise UsageError(
                f"unknown command {name!r}",
                hint=f"did you mean {near[0]}?" if near else f"see `{ctx.command_path} --help`",
            )
        return super().resolve_command(ctx, args)


_DEFAULT = "\0default"


class DefaultGroup(Group):
    """Commands of a command that is one itself: what is none of them goes to ``default``."""

    def __init__(self, *args: Any, default: click.Command, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._default = default

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click.Group."""
        known = (*self.commands, *ctx.help_option_names)
        return super().parse_args(ctx, args if args and args[0] in known else [_DEFAULT, *args])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See click.Group."""
        if args[0] == _DEFAULT:
            return "", self._default, args[1:]
        return super().resolve_command(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """See click.Command."""
        return self._default.collect_usage_pieces(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See click.Command."""
        self._default.format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


class Entry(NamedTuple):
    """Where a command lives: its module has it as ``command``; ``help`` repeats its first sentence."""

    module: str
    help: str
    hidden: bool = False


class LazyGroup(Group):
    """A group that knows its commands from a table and imports the one that is called."""

    def __init__(self, *args: Any, entries: Mapping[str, Entry], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See click.Group: in the order of the table."""
        return list(self._entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See click.Group."""
        entry = self._entries.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = importlib.import_module(entry.module).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See click.Group: nothing is imported for this."""
        with formatter.section("Commands"):
            shown = ((name, entry) for name, entry in self._entries.items() if not entry.hidden)
            formatter.write_dl([(name, entry.help) for name, entry in shown])
