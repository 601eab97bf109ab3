from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdguard import log


def _events(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]


def test_json_is_one_line_an_event_with_facts_and_utc_time(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("json")
    log.get_logger().info("backup.uploaded", repository="offsite", bytes=5, note="two\nlines")
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    event = json.loads(line)
    assert event.pop("timestamp").endswith("Z")
    expected = {"event": "backup.uploaded", "level": "info", "repository": "offsite", "bytes": 5}
    assert event == expected | {"note": "two\nlines"}


@pytest.mark.parametrize("colors", [False, True])
def test_console_is_coloured_only_when_asked(colors: bool, capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("console", colors=colors)
    log.get_logger().warning("backup.slow", seconds=9)
    err = capsys.readouterr().err
    assert "backup.slow" in err
    assert ("\x1b[" in err) == colors


@pytest.mark.parametrize(
    ("verbosity", "expected"),
    [
        (2, ["debug", "info", "warning", "error"]),
        (1, ["debug", "info", "warning", "error"]),
        (0, ["info", "warning", "error"]),
        (-1, ["warning", "error"]),
        (-2, ["error"]),
        (-9, ["error"]),
    ],
)
def test_levels(verbosity: int, expected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    logger = log.get_logger()  # made before configure, follows it all the same
    log.configure("json", verbosity=verbosity)
    for level in ("debug", "info", "warning", "error"):
        getattr(logger, level)(level)
    assert _events(capsys) == expected


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_secrets_are_blanked_at_any_depth(
    log_format: log.LogFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure(log_format)
    log.get_logger().info(
        "x",
        password="hunter2",
        Passphrase="hunter2",
        client_secret=["hunter2"],
        nested={"identity": "hunter2", "deeper": [{"private_key": b"hunter2"}]},
        identity_file="/etc/identity.txt",
    )
    err = capsys.readouterr().err
    assert "hunter2" not in err
    assert err.count(log.REDACTED) == 5
    assert "/etc/identity.txt" in err


_JSON = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_JSON)
def test_redaction_leaves_other_facts_alone(value: object) -> None:
    event = log.redact(None, "info", {"facts": value, "password": value})
    assert event["password"] == log.REDACTED
    if not any(word in repr(value).lower() for word in ("pass", "secret", "identit", "private")):
        assert event["facts"] == value


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_logged_exception_shows_no_local_variables(
    log_format: log.LogFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure(log_format)
    local = "hunter" + "2"
    try:
        raise KeyError(len(local))
    except KeyError:
        log.get_logger().exception("x")
    err = capsys.readouterr().err
    assert "KeyError: 7" in err
    assert "hunter2" not in err
