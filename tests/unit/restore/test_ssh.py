"""The ssh host: how the client is called, and what is made of every end it can take. A script is ssh here."""

from __future__ import annotations

import json
import stat
import sys
import threading
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from etcdguard.errors import EtcdGuardError, Refused, UsageError, WrongKey
from etcdguard.restore.ssh import SshHost, SshOptions
from etcdguard.restore.steps import PROTOCOL, StepProgress, StepRequest

_REQUEST = StepRequest(version="1", step="status", members=("m1",), identities=(SecretStr("AGE-SECRET-X"),))
_GOOD = json.dumps({"protocol": PROTOCOL, "version": "1", "ok": True, "facts": {"phase": "staged"}})


def _host(folder: Path, script: str) -> SshHost:
    """``script`` is Python; it finds ``sys`` imported."""
    program = folder / "ssh"
    program.write_text(f"#!{sys.executable} -IS\nimport sys\n{script}\n")
    program.chmod(stat.S_IRWXU)
    return SshHost("cp1", "admin@cp1", SshOptions(program=str(program)))


def test_the_command_line_says_how_and_holds_no_secret() -> None:
    options = SshOptions(Path("/x/ssh config"), "sudo etcdguard", "/etc/my config")
    argv = options.argv("admin@cp1")
    assert argv[:3] == ("ssh", "-F", "/x/ssh config")
    assert "BatchMode=yes" in argv
    assert not any("StrictHostKeyChecking" in word for word in argv)
    assert argv[-3:] == ("--", "admin@cp1", "sudo etcdguard node --config '/etc/my config'")


def test_the_request_goes_through_the_pipe_and_one_connection_serves_all_steps(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    host = _host(
        tmp_path,
        f"print('motd', flush=True)\nfor line in sys.stdin:\n"
        f"    open({str(seen)!r}, 'a').write(repr(sys.argv) + line)\n    print({_GOOD!r}, flush=True)",
    )
    assert host.run(_REQUEST, 10).facts == {"phase": "staged"}
    assert host.run(_REQUEST, 10).ok
    host.close()

    first, second = seen.read_text().splitlines()
    argv, _, request = first.partition("]")
    assert "AGE-SECRET-X" not in argv
    assert json.loads(request)["identities"] == ["AGE-SECRET-X"]
    assert first == second
    assert "AGE-SECRET-X" not in repr(_REQUEST)


def test_progress_comes_before_the_answer_and_only_delays_it(tmp_path: Path) -> None:
    lines = [json.dumps({"protocol": PROTOCOL, "progress": "fetch", "bytes": count}) for count in (1, 2)]
    script = f"for line in sys.stdin:\n    print(*{[*lines, _GOOD]!r}, sep='\\n', flush=True)"
    host = _host(tmp_path, script)
    told: list[StepProgress] = []

    assert host.run(_REQUEST, 10, told.append).facts == {"phase": "staged"}
    assert host.run(_REQUEST, 10).ok
    host.close()

    assert [(at.progress, at.bytes) for at in told] == [("fetch", 1), ("fetch", 2)]


def test_an_error_is_an_answer(tmp_path: Path) -> None:
    answer = {"protocol": PROTOCOL, "version": "1", "ok": False}
    error = {"exit_code": 12, "message": "no key fits", "hint": "x"}
    host = _host(tmp_path, f"print({json.dumps({**answer, 'error': error})!r}, flush=True)\nsys.stdin.read()")
    found = host.run(_REQUEST, 10)
    host.close()
    assert found.error is not None
    with pytest.raises(WrongKey, match="cp1: no key fits"):
        raise found.error.error("cp1")


_CHANGED = "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\\nHost key verification failed."


@pytest.mark.parametrize(
    ("code", "complaint", "kind", "message", "hint"),
    [
        (255, _CHANGED, Refused, "ssh host key has changed", "ssh-keygen -R"),
        (255, "Host key verification failed.", Refused, "not known here", "compare the fingerprint"),
        (255, "admin@cp1: Permission denied (publickey).", Refused, "does not let us in", "agent"),
        (255, "connect to host cp1: timed out", EtcdGuardError, "cannot be reached", "ssh admin@cp1 true"),
        (127, "sh: 1: etcdguard: not found", Refused, "not found there", "--remote-command"),
        (64, '{"log": 1}\\nerror: config.yaml: bad\\nhint: x', EtcdGuardError, "64: config.yaml: bad", "try"),
        (0, "", Refused, "is not JSON", "profile"),
    ],
)
def test_every_end_without_an_answer_is_told(
    tmp_path: Path, code: int, complaint: str, kind: type[EtcdGuardError], message: str, hint: str
) -> None:
    host = _host(tmp_path, f"print('hello')\nprint('{complaint}', file=sys.stderr)\nsys.exit({code})")
    with pytest.raises(kind) as failure:
        host.run(_REQUEST, 10)
    assert failure.value.message.startswith("cp1: ")
    assert message in failure.value.message
    assert hint in failure.value.hint


def test_another_protocol_is_refused(tmp_path: Path) -> None:
    host = _host(tmp_path, """print('{"protocol": 99, "ok": true}', flush=True)\nsys.stdin.read()""")
    with pytest.raises(Refused, match="speaks protocol 99, not 1"):
        host.run(_REQUEST, 10)
    host.close()


def test_a_step_without_end_is_given_up(tmp_path: Path) -> None:
    host = _host(tmp_path, "import time\ntime.sleep(600)")
    with pytest.raises(EtcdGuardError, match=r"no end of status within 0\.5 s"):
        host.run(_REQUEST, 0.5)


def test_a_connection_lost_between_steps_is_made_again(tmp_path: Path) -> None:
    host = _host(tmp_path, f"sys.stdin.readline()\nprint({_GOOD!r}, flush=True)\nsys.exit(255)")
    assert host.run(_REQUEST, 10).ok
    assert host.run(_REQUEST, 10).ok
    host.close()


def test_the_end_of_its_input_interrupts_the_other_side(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    host = _host(
        tmp_path,
        f"sys.stdin.readline()\nprint({_GOOD!r}, flush=True)\nsys.stdin.read()\nopen({str(ended)!r}, 'w')",
    )
    assert host.run(_REQUEST, 10).ok
    host.interrupt()
    host.close()
    assert ended.exists()


def test_a_step_that_was_cut_short_is_not_asked_again(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    host = _host(
        tmp_path,
        f"for line in sys.stdin:\n    open({str(asked)!r}, 'a').write('x')\n"
        f"    if len(open({str(asked)!r}).read()) == 2: break\n    print({_GOOD!r}, flush=True)\n"
        "sys.stdin.read()\nsys.exit(130)",
    )
    assert host.run(_REQUEST, 10).ok

    def interrupts() -> None:
        while not asked.exists() or asked.read_text() != "xx":
            time.sleep(0.01)
        host.interrupt()

    thread = threading.Thread(target=interrupts)
    thread.start()
    with pytest.raises(EtcdGuardError, match="ended with code 130"):
        host.run(_REQUEST, 60)
    thread.join()
    assert asked.read_text() == "xx"


def test_without_a_client_the_hint_says_so() -> None:
    host = SshHost("cp1", "cp1", SshOptions(program="/no/ssh"))
    with pytest.raises(UsageError, match="cannot run /no/ssh"):
        host.run(_REQUEST, 1)
