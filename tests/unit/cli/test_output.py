from __future__ import annotations

import io
import json
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import click
import pytest
import yaml

from etcdguard.cli.output import emit, human_bytes, human_duration, human_time, render, table

_DOCUMENT = {"a": 1, "when": datetime(2026, 11, 21, 2, tzinfo=timezone.utc), "path": Path("/p"), "ü": None}
_PLAIN = {"schema_version": 1, "a": 1, "when": "2026-11-21T02:00:00Z", "path": "/p", "ü": None}


def test_json_and_yaml_have_the_version_first() -> None:
    as_json = render(_DOCUMENT, "json", lambda _: "")
    as_yaml = render(_DOCUMENT, "yaml", lambda _: "")
    assert json.loads(as_json) == yaml.safe_load(as_yaml) == _PLAIN
    assert as_yaml.startswith("schema_version: 1\n")
    assert list(json.loads(as_json)) == list(_PLAIN)


def test_a_table_is_what_the_renderer_makes() -> None:
    assert render(_DOCUMENT, "table", lambda document: f"a={document['a']}") == "a=1"


@pytest.mark.parametrize("value", [float("nan"), b"bytes", timedelta(1)])
def test_what_has_no_fixed_text_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        render({"a": value}, "json", lambda _: "")


@pytest.mark.parametrize(
    "harm", ["\x1b[2J", "\x1b]0;title\x07", "\r", "\x9b2J", "\u202e", "\ud800", "\x7f", "\b"], ids=repr
)
def test_nothing_that_is_shown_can_steer_the_terminal(harm: str, capsys: pytest.CaptureFixture[str]) -> None:
    emit(f"a reason{harm}, an \u00fc and\ta {click.style('colour', fg='red')}\n", {})
    out = capsys.readouterr().out
    assert not any(each in out for each in harm if not each.isprintable() and each != "\x1b")
    assert "\x1b" not in out.replace("\x1b[31m", "").replace("\x1b[0m", "")
    assert click.unstyle(out).startswith("a reason?")
    assert ", an \u00fc and\ta colour\n" in click.unstyle(out)


def test_columns_line_up_also_when_styled() -> None:
    rows = [("ok", click.style("green", fg="green"), "x"), ("a longer one", "b", "y")]
    lines = click.unstyle(table(("A", "B", "C"), rows)).splitlines()
    assert lines == ["A             B      C", "ok            green  x", "a longer one  b      y"]


def test_no_rows() -> None:
    assert table(("A", "B"), []) == "A  B"
    assert table(None, []) == ""


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("terminal", "env", "coloured"), [(True, {}, True), (True, {"NO_COLOR": "1"}, False), (False, {}, False)]
)
def test_colours(
    terminal: bool, env: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdout = _Terminal() if terminal else io.StringIO()
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", stdout)
    emit(click.style("OK", fg="green"), env)
    assert ("\x1b[" in stdout.getvalue()) == coloured
    assert click.unstyle(stdout.getvalue()) == "OK\n"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (2**20 - 1, "1.0 MiB"),
        (2**50, "1024.0 TiB"),
    ],
)
def test_human_bytes(count: int, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.42, "420ms"),
        (0.9996, "1.0s"),
        (3.21, "3.2s"),
        (59.96, "1m"),
        (90, "1m30s"),
        (3600, "1h"),
        (3601, "1h"),
        (90061, "1d1h"),
    ],
)
def test_human_duration(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_human_time_is_utc() -> None:
    moment = datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    assert human_time(moment) == "2025-12-31T23:00:00Z"
