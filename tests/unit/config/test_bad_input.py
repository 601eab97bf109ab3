"""Everything a person can get wrong in the file: one line that names the place, one hint, exit code 64."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etcdguard.config import load, parse
from etcdguard.errors import ConfigError

from .texts import MINIMAL, PATH, RECIPIENT, parsed

_SECRET = "hunter2hunter2"
_REPOSITORY = MINIMAL + "repositories:\n  - name: a\n"
_MEMBER = MINIMAL + "members:\n  - name: m1\n    peer_urls: [https://h:2380]\n    data_dir: /var/lib/etcd\n"

# (file, what the error says, what the hint says)
_CASES = {
    "snapshot-of-hours": (
        MINIMAL + "backup: {max_rate: 1023KiB}\n",
        "backup.max_rate: less than 1MiB a second",
        "write 20MiB, or leave it out",
    ),
    "not-yaml": ("cluster: [", "config.yaml:1: not valid YAML", "docs/configuration.md"),
    "tab-indent": ("cluster:\n\tname: prod\n", "config.yaml:2: not valid YAML", "docs/configuration.md"),
    "control-character": ("cluster: \x00", "not valid YAML", "docs/configuration.md"),
    "unreadable-integer": ("cluster: 0b_", "not valid YAML", "docs/configuration.md"),
    "impossible-date": ("cluster: 2026-99-99", "not valid YAML", "docs/configuration.md"),
    "two-documents": (MINIMAL + "---\na: b\n", "not valid YAML", "docs/configuration.md"),
    "a-list": ("- cluster", "must be a mapping of sections", "docs/configuration.md"),
    "key-not-text": ("? [a]\n: b\n", ":1: a key must be plain text", "docs/configuration.md"),
    "alias": ("cluster: &c {name: a}\nmembers: *c\n", ":2: YAML aliases", "docs/configuration.md"),
    "tag": ("cluster: !!str x\n", ":1: YAML tags", "docs/configuration.md"),
    "duplicate-section": (
        MINIMAL + "cluster: {name: b}\n",
        ":5: cluster: given twice, first on line 1",
        "docs/",
    ),
    "duplicate-key": (
        "cluster:\n  name: a\n  name: b\n",
        ":3: cluster.name: given twice, first on line 2",
        "docs/",
    ),
    "empty": ("", "config.yaml: cluster: is required", "docs/configuration.md"),
    "no-encryption": ("cluster: {name: a}\n", "encryption: is missing", "encryption: {disabled: true}"),
    "empty-section": (MINIMAL + "backup:\n", ":5: backup: must be a mapping", "docs/configuration.md"),
    "unknown-section": (
        MINIMAL + "retntion: {}\n",
        ":5: retntion: unknown key, did you mean 'retention'?",
        "cluster",
    ),
    "unknown-key": (
        MINIMAL.replace("name: prod", "name: prod\n  endpoint: [a:1]"),
        ":3: cluster.endpoint: unknown key, did you mean 'endpoints'?",
        "command_timeout",
    ),
    "misplaced-key": (MINIMAL + "endpoints: [a:1]\n", "did you mean 'cluster.endpoints'?", "cluster"),
    "far-off-key": (
        MINIMAL + "zzzz: 1\n",
        ":5: zzzz: unknown key",
        "keys that may stand here: cluster, members",
    ),
    "unknown-key-in-list": (
        _REPOSITORY + "    s33: {}\n",
        "repositories[0].s33: unknown key, did you mean 's3'?",
        "s3",
    ),
    "unknown-key-deep": (
        _REPOSITORY + "    s3: {bucket: bbb, endpoint: 'https://x'}\n",
        ":7: repositories[0].s3.endpoint: unknown key, did you mean 'endpoint_url'?",
        "endpoint_url",
    ),
    "name-a-number": (
        "cluster: {name: 5}\nencryption: {disabled: true}\n",
        ":1: cluster.name: must be text",
        "docs/",
    ),
    "name-a-path": ("cluster: {name: a/b}\nencryption: {disabled: true}\n", "not a usable name", "letters"),
    "endpoints-text": (
        MINIMAL.replace("name: prod", "name: prod\n  endpoints: https://h:2379"),
        "cluster.endpoints: must be a list",
        "docs/configuration.md",
    ),
    "endpoints-none": (
        MINIMAL.replace("name: prod", "name: prod\n  endpoints: []"),
        "must not be empty",
        "docs/",
    ),
    "endpoint-no-port": (
        MINIMAL.replace("name: prod", "name: prod\n  endpoints: [https://h]"),
        ":3: cluster.endpoints[0]: not an etcd endpoint",
        "HOST:PORT",
    ),
    "endpoint-scheme": (
        MINIMAL.replace("name: prod", "name: prod\n  endpoints: ['ftp://h:1']"),
        "not an etcd",
        "http",
    ),
    "endpoint-port": (
        MINIMAL.replace("name: prod", "name: prod\n  endpoints: ['h:99999']"),
        "not a valid",
        "PORT",
    ),
    "endpoint-password": (
        MINIMAL.replace("name: prod", f"name: prod\n  endpoints: ['https://u:{_SECRET}@h:1']"),
        "must not hold a user or password",
        "HOST:PORT",
    ),
    "timeout-number": (MINIMAL + "backup: {timeout: 30}\n", ":5: backup.timeout: must be a duration", "30s"),
    "timeout-words": (MINIMAL + "backup: {timeout: 5 minutes}\n", "not a duration: '5 minutes'", "30s"),
    "timeout-zero": (MINIMAL + "backup: {timeout: 0s}\n", "must be longer than zero", "30s"),
    "timeout-huge": (MINIMAL + "backup: {timeout: 999999999w}\n", "not a usable duration", "30s"),
    "size-words": (MINIMAL + "backup: {max_bytes: lots}\n", "not a size: 'lots'", "16GiB"),
    "size-bool": (MINIMAL + "backup: {max_bytes: true}\n", "must be a size", "16GiB"),
    "size-zero": (MINIMAL + "backup: {max_bytes: 0}\n", "must be more than zero", "16GiB"),
    "level-high": (MINIMAL + "backup: {compression_level: 20}\n", "must be at most 19", "docs/"),
    "level-low": (MINIMAL + "backup: {compression_level: 0}\n", "must be at least 1", "docs/"),
    "level-text": (MINIMAL + "backup: {compression_level: '3'}\n", "must be a whole number", "docs/"),
    "prefer": (MINIMAL + "backup: {prefer: leadr}\n", "must be 'follower', 'local' or 'leader'", "docs/"),
    "bool-text": (MINIMAL + "daemon: {election: 'yes'}\n", "daemon.election: must be true or false", "docs/"),
    "listen": (MINIMAL + "daemon: {listen: localhost}\n", "not an address to listen on", "127.0.0.1"),
    "threshold-name": (
        MINIMAL + "checks: {thresholds: {wal_sync: {warn: 1s}}}\n",
        "checks: thresholds.wal_sync: no check with a threshold has this name",
        "did you mean wal_fsync?",
    ),
    "threshold-number": (
        MINIMAL + "checks: {thresholds: {database_quota: 0.8}}\n",
        "thresholds.database_quota: must hold warn, fail or both",
        "the default is database_quota: {warn: 0.8, fail: 0.95}",
    ),
    "threshold-level": (
        MINIMAL + "checks: {thresholds: {database_quota: {worn: 0.8}}}\n",
        "thresholds.database_quota: must hold warn, fail or both",
        "the default is",
    ),
    "threshold-text": (
        MINIMAL + "checks: {thresholds: {database_quota: {warn: high}}}\n",
        "thresholds.database_quota: must be a number",
        "the default is",
    ),
    "threshold-bool": (
        MINIMAL + "checks: {thresholds: {prefix_share: {warn: true}}}\n",
        "thresholds.prefix_share: must be a number",
        "the default is prefix_share: {warn: 0.5}",
    ),
    "threshold-size-bool": (
        MINIMAL + "checks: {thresholds: {value_size: {warn: true}}}\n",
        "thresholds.value_size: must be a size like 512KiB",
        "the default is value_size: {warn: 1MiB, fail: 1400KiB}",
    ),
    "threshold-time": (
        MINIMAL + "checks: {thresholds: {wal_fsync: {warn: 0.1}}}\n",
        "thresholds.wal_fsync: must be a duration like 100ms or 7d",
        "the default is wal_fsync: {warn: 100ms, fail: 1s}",
    ),
    "threshold-size": (
        MINIMAL + "checks: {thresholds: {value_size: {warn: big}}}\n",
        "not a size: 'big'",
        "512MiB",
    ),
    "threshold-percent": (
        MINIMAL + "checks: {thresholds: {database_quota: {warn: 80, fail: 95}}}\n",
        "thresholds.database_quota: a share lies above 0 and is at most 1",
        "the default is",
    ),
    "threshold-order": (
        MINIMAL + "checks: {thresholds: {certificates: {warn: 1h}}}\n",
        "thresholds.certificates: it would fail before it warns: warn < 1h, fail < 1d",
        "fail past warn",
    ),
    "webhook": (
        MINIMAL + "notify: {webhooks: ['ftp://x']}\n",
        "notify.webhooks[0].url: not an http",
        "https://",
    ),
    "cert-without-key": (
        MINIMAL.replace("name: prod", "name: prod\n  cert: a.pem"),
        ":1: cluster: cert and key belong together, key is missing",
        "set key",
    ),
    "key-without-cert": (
        MINIMAL.replace("name: prod", "name: prod\n  key: a"),
        "cert is missing",
        "set cert",
    ),
    "password-no-user": (
        MINIMAL.replace("name: prod", "name: prod\n  password_file: a"),
        "no user",
        "set user",
    ),
    "s3-and-file": (
        _REPOSITORY + "    s3: {bucket: bbb}\n    file: {path: p}\n",
        ":6: repositories[0]: a repository is either s3 or file",
        "exactly one",
    ),
    "neither": (_REPOSITORY, "repositories[0]: a repository is either s3 or file", "exactly one"),
    "fraction-text": (
        MINIMAL + "retention: {keep_last: 1, max_fraction: much}\n",
        "retention.max_fraction: must be a number",
        "docs/",
    ),
    "schedule-number": (
        MINIMAL + "backup: {schedule: 5}\n",
        "backup.schedule: must be a schedule, or a list of them",
        "",
    ),
    "member-url-scheme": (
        _MEMBER.replace("https://h:2380", "ftp://h:2380"),
        "peer_urls[0]: not a member URL",
        "https://10.0.0.1:2380",
    ),
    "member-url-no-port": (
        _MEMBER.replace("https://h:2380", "https://h"),
        "peer_urls[0]: not a member URL",
        "https://10.0.0.1:2380",
    ),
    "bucket-url": (_REPOSITORY + "    s3: {bucket: 's3://b/p'}\n", "not a bucket name", "prefix"),
    "prefix-slash": (_REPOSITORY + "    s3: {bucket: bbb, prefix: /a}\n", "not a key prefix", "slash"),
    "prefix-dots": (_REPOSITORY + "    s3: {bucket: bbb, prefix: a/../b}\n", "not a key prefix", "slash"),
    "kms-key-alone": (
        _REPOSITORY + "    s3: {bucket: bbb, sse_kms_key_id: k}\n",
        "needs sse: aws:kms",
        "set sse",
    ),
    "lock-days": (
        _REPOSITORY + "    s3: {bucket: bbb, object_lock: {mode: GOVERNANCE, days: 0}}\n",
        "s3.object_lock.days: must be at least 1",
        "docs/",
    ),
    "repository-twice": (
        _REPOSITORY + "    file: {path: p}\n  - name: a\n    file: {path: q}\n",
        "two repositories are named 'a'",
        "its own name",
    ),
    "member-twice": (
        _MEMBER + "  - name: m1\n    peer_urls: [https://i:2380]\n    data_dir: /d\n",
        "two members are named 'm1'",
        "its own name",
    ),
    "member-no-urls": (
        MINIMAL + "members: [{name: a, data_dir: /d}]\n",
        "members[0].peer_urls: is required",
        "docs/",
    ),
    "member-url": (
        _MEMBER.replace("https://h:2380", "h:2380"),
        "peer_urls[0]: not a",
        "https://10.0.0.1:2380",
    ),
    "data-dir-relative": (
        _MEMBER.replace("/var/lib/etcd", "etcd"),
        "data_dir: must be an absolute path",
        "host",
    ),
    "service-kind": (_MEMBER + "    service: {kind: docker}\n", "must be 'systemd' or 'static-pod'", "docs/"),
    "unit-pattern": (
        _MEMBER + "    control_plane: {units: ['kube-*.service']}\n",
        "members[0].control_plane.units[0]: not a systemd unit",
        "without wildcards",
    ),
    "unit-option": (
        _MEMBER + "    service: {kind: systemd, unit: --now}\n",
        "members[0].service.unit: not a systemd unit",
        "etcd.service",
    ),
    "ssh-option": (
        _MEMBER + "    ssh: -oProxyCommand=x\n",
        "members[0].ssh: not an ssh destination",
        "user@host",
    ),
    "service-no-unit": (_MEMBER + "    service: {kind: systemd}\n", "has a unit and no manifest", "set unit"),
    "service-both": (
        _MEMBER + "    service: {kind: static-pod, unit: u, manifest: /m}\n",
        "has a manifest and no unit",
        "set manifest",
    ),
    "recipients-none": (MINIMAL.replace(RECIPIENT, ""), "needs exactly one of recipients", "disabled: true"),
    "recipient": (
        MINIMAL.replace(RECIPIENT, "bob"),
        ":4: encryption.recipients[0]: not an age recipient",
        "age1",
    ),
    "passphrase-and-recipients": (MINIMAL + "  passphrase_file: p\n", "needs exactly one of", "give one"),
    "recipients-both": (MINIMAL + "  recipients_file: p\n", "needs exactly one of", "give one"),
    "disabled-and-recipients": (MINIMAL + "  disabled: true\n", "disabled: true goes alone", "remove"),
    "disabled-and-identity": (
        "cluster: {name: a}\nencryption: {disabled: true, identity_file: i}\n",
        "disabled: true goes alone",
        "remove",
    ),
    "disabled-false": (
        "cluster: {name: a}\nencryption: {disabled: false}\n",
        "needs exactly one of",
        "disabled: true",
    ),
    "keeps-nothing": (MINIMAL + "retention: {min_verified: 2}\n", "retention: keeps nothing", "keep_*"),
    "keeps-zero": (
        MINIMAL + "retention: {keep_last: 0, keep_daily: 0, keep_yearly: 0}\n",
        "retention: keeps nothing",
        "keep_*",
    ),
    "keeps-nothing-by-schedule": (
        MINIMAL + "retention: {schedule: 1d, max_fraction: 1.0}\n",
        "retention: keeps nothing",
        "keep_*",
    ),
    "keep-within-zero": (MINIMAL + "retention: {keep_within: 0d}\n", "retention.keep_within: ", "7d"),
    "keep-within-unit": (MINIMAL + "retention: {keep_within: 3 weeks}\n", "retention.keep_within: ", "7d"),
    "keep-within-order": (MINIMAL + "retention: {keep_within: 3h7d}\n", "retention.keep_within: ", "7d"),
    "no-verified-one": (
        MINIMAL + "retention: {keep_last: 3, min_verified: 0}\n",
        "retention.min_verified: must be at least 1",
        "docs/",
    ),
    "fraction-zero": (
        MINIMAL + "retention: {keep_last: 3, max_fraction: 0}\n",
        "retention.max_fraction: ",
        "docs/",
    ),
    "fraction-more-than-all": (
        MINIMAL + "retention: {keep_last: 3, max_fraction: 1.5}\n",
        "retention.max_fraction: ",
        "docs/",
    ),
    "keeps-two-ways": (
        MINIMAL + "retention: {keep_last: 3, keep_last: 5}\n",
        "keep_last",
        "",
    ),
    "keep-negative": (MINIMAL + "retention: {keep_last: -1}\n", "must be at least 0", "docs/"),
    "path-nul": (MINIMAL + 'backup: {spool_dir: "a\\0b"}\n', "cannot hold a NUL", "path"),
    "path-empty": (MINIMAL + "backup: {spool_dir: ''}\n", "backup.spool_dir: must be a path", "path"),
    "password": (
        MINIMAL.replace("name: prod", f"name: prod\n  password: {_SECRET}"),
        ":3: cluster.password: a secret must not stand in the file",
        "cluster.password_file",
    ),
    "user-and-password": (
        MINIMAL.replace("name: prod", f"name: prod\n  user: root:{_SECRET}"),
        ":3: cluster.user: a secret must not stand in the file",
        "write the name alone",
    ),
    "passphrase": (
        MINIMAL + f"  passphrase: {_SECRET}\n",
        "encryption.passphrase: a secret",
        "passphrase_file",
    ),
    "identity-as-recipient": (
        MINIMAL.replace(RECIPIENT, f"AGE-SECRET-KEY-1{_SECRET.upper()}"),
        "not an age recipient",
        "identity_file",
    ),
    "access-key": (
        _REPOSITORY + f"    s3: {{bucket: bbb, secret_access_key: {_SECRET}}}\n",
        ":7: repositories[0].s3.secret_access_key: a secret must not stand in the file",
        "credentials come from the environment",
    ),
}


@pytest.mark.parametrize(("text", "message", "hint"), _CASES.values(), ids=_CASES.keys())
def test_is_refused_with_the_place_and_a_hint(text: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    error = caught.value
    assert message in error.message
    assert hint in error.hint
    assert error.message.startswith(str(PATH))
    assert "\n" not in error.message + error.hint
    assert error.exit_code == 64
    assert _SECRET not in (error.message + error.hint).lower()


def test_all_problems_are_told_in_one_line() -> None:
    text = MINIMAL + "backup: {prefer: x, timeout: 1, compression_level: 99}\nverfy: {}\n"
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    message = caught.value.message
    assert "(and 3 more: " in message
    for place in ("backup.prefer: ", "backup.timeout: ", "backup.compression_level: ", "verfy: unknown key"):
        assert place in message


def test_a_list_is_not_called_empty_because_its_items_are_wrong() -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(MINIMAL.replace("name: prod", "name: prod\n  endpoints: [nowhere]"))
    assert caught.value.message.endswith("cluster.endpoints[0]: not an etcd endpoint")


def test_a_long_list_of_problems_is_cut() -> None:
    text = MINIMAL + "".join(f"unknown{number}: 1\n" for number in range(9))
    with pytest.raises(ConfigError, match=r"and 8 more: .*; and 4 others\)$"):
        parsed(text)


def test_a_missing_file_points_to_init(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration file") as caught:
        load(tmp_path / "config.yaml", {}, {})
    assert "etcdguard init" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xfe", "not UTF-8 text"), (None, "Is a directory")],
    ids=["latin", "folder"],
)
def test_an_unreadable_file(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "config.yaml"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load(path, {}, {})


_YAML_WORDS = [
    "cluster",
    "encryption",
    ": ",
    "- ",
    "\n",
    "  ",
    "[",
    "]",
    "{",
    "}",
    "&a ",
    "*a",
    "!!int ",
    "'",
    "0x_",
    "?",
]


@settings(deadline=None)
@given(st.lists(st.sampled_from(_YAML_WORDS) | st.text(max_size=5)).map("".join))
def test_no_text_raises_anything_else(text: str) -> None:
    with suppress(ConfigError):
        parse(text, PATH)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(ConfigError):
        parsed("a: " + "[" * 1500)
