"""Every command's help: examples as they were written, the shared options, the sentence of the table."""

from __future__ import annotations

import click
import pytest

from etcdguard.cli import main as frame
from etcdguard.cli.lazy import Command
from etcdguard.cli.options import connection_options, global_options
from etcdguard.config.settings import SETTINGS

from .running import every_command, run

_COMMANDS = dict(every_command())


@pytest.mark.parametrize("path", _COMMANDS)
def test_help_has_verbatim_examples(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*path.split(), "--help") == 0
    out = capsys.readouterr().out
    _, found, examples = out.partition("\nExamples:\n")
    assert found
    lines = examples.splitlines()
    assert lines
    assert any(line.startswith(f"  etcdguard {path}") for line in lines)


@pytest.mark.parametrize(
    "path", [path for path, found in _COMMANDS.items() if not isinstance(found, click.Group)]
)
def test_leaf_commands_take_the_global_options(path: str) -> None:
    command = _COMMANDS[path]
    assert isinstance(command, Command)
    taken = {name for parameter in command.params for name in parameter.opts}
    assert {"--config", "--debug", "--log-format", "-q", "-v"} <= taken


@pytest.mark.parametrize("name", frame.COMMANDS)
def test_the_table_says_what_the_command_says(name: str) -> None:
    assert _COMMANDS[name].get_short_help_str(limit=200).startswith(frame.COMMANDS[name].help)


def test_connection_flags_are_the_settings_of_the_configuration() -> None:
    @connection_options
    @click.command()
    def command() -> None: ...

    flags = {name for parameter in command.params for name in parameter.opts}
    assert flags == {setting.flag for setting in SETTINGS if setting.key != "password"}


def test_global_options_read_the_environment_only_before_the_command() -> None:
    assert not any(option.envvar for option in global_options(environment=False))
    variables = {option.envvar for option in global_options(environment=True)} - {None}
    assert variables == {"ETCDGUARD_CONFIG", "ETCDGUARD_LOG_FORMAT", "ETCDGUARD_DEBUG"}
