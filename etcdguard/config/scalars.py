"""Single values as they are written in the file: durations, sizes, paths, names and addresses.

Each type refuses what it does not understand with a message that never repeats the value where it could be a
secret.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, InstanceOf, SecretStr, ValidationInfo

from etcdguard.retention import Period
from etcdguard.slots import HINT as SCHEDULE_HINT
from etcdguard.slots import BadSchedule, Schedule, parse_schedule

__all__ = [
    "Address",
    "BucketName",
    "CalendarPeriod",
    "Duration",
    "Endpoint",
    "HostPath",
    "HttpUrl",
    "Invalid",
    "LocalPath",
    "MemberUrl",
    "Name",
    "Prefix",
    "RecipientText",
    "SecretUrl",
    "ScheduleText",
    "Size",
    "SshDestination",
    "UnitName",
    "format_duration",
    "format_size",
    "parse_duration",
    "parse_size",
]


class Invalid(ValueError):
    """A value that cannot be used; ``hint`` says what would be, in one line."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


_SECONDS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(
    r"(?:([0-9]{1,9})w)?(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?"
    r"(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?(?:([0-9]{1,9})ms)?",
    re.ASCII,
)
_DURATION_HINT = "write a number with a unit: 500ms, 30s, 5m, 2h, 7d, 4w, or together: 1h30m"

_SIZES = {
    "TiB": 2**40,
    "GiB": 2**30,
    "MiB": 2**20,
    "KiB": 2**10,
    "TB": 10**12,
    "GB": 10**9,
    "MB": 10**6,
    "KB": 10**3,
}
_SIZE = re.compile(rf"([0-9]{{1,15}}) ?({'|'.join(_SIZES)}|B)?", re.ASCII)
_SIZE_HINT = "write bytes, or a number with a unit: 512MiB, 16GiB, 20GB"


def parse_duration(text: str) -> timedelta:
    """``"30s"``, ``"1h30m"``: units w, d, h, m, s, ms, largest first. Raises Invalid; zero is refused."""
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise Invalid(f"not a duration: {text!r}", _DURATION_HINT)
    *whole, milliseconds = (int(group or 0) for group in match.groups())
    seconds = sum(number * unit for number, unit in zip(whole, _SECONDS.values(), strict=True))
    try:
        duration = timedelta(seconds=seconds, milliseconds=milliseconds)
    except OverflowError as e:
        raise Invalid(f"not a usable duration: {text!r}", _DURATION_HINT) from e
    if not duration:
        raise Invalid("must be longer than zero", _DURATION_HINT)
    return duration


def format_duration(duration: timedelta) -> str:
    """The shortest text that ``parse_duration`` reads back as the same whole milliseconds."""
    seconds, milliseconds = divmod(duration // timedelta(milliseconds=1), 1000)
    text = ""
    for unit, length in _SECONDS.items():
        number, seconds = divmod(seconds, length)
        text += f"{number}{unit}" if number else ""
    return text + (f"{milliseconds}ms" if milliseconds else "")


def parse_size(text: str) -> int:
    """``"16GiB"`` or ``"500MB"`` in bytes. Raises Invalid; zero is refused."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise Invalid(f"not a size: {text!r}", _SIZE_HINT)
    size = int(match[1]) * _SIZES.get(match[2], 1)
    if not size:
        raise Invalid("must be more than zero", _SIZE_HINT)
    return size


def format_size(size: int) -> str:
    """The shortest text in binary units that ``parse_size`` reads back as the same number."""
    unit = next((unit for unit in ("TiB", "GiB", "MiB", "KiB") if size and size % _SIZES[unit] == 0), None)
    return f"{size // _SIZES[unit]}{unit}" if unit else str(size)


def _duration(value: Any) -> timedelta:
    if not isinstance(value, str):
        raise Invalid("must be a duration in quotes or with a unit", _DURATION_HINT)
    return parse_duration(value)


def _period(value: Any) -> Period:
    try:
        return value if isinstance(value, Period) else Period.parse(str(value))
    except ValueError as e:
        raise Invalid(
            str(e), "write years, months, weeks, days, hours, largest first: 2y5m7d3h (m is months), 14d, 48h"
        ) from e


def _size(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise Invalid("must be a size", _SIZE_HINT)
    return parse_size(str(value))


def _schedule(value: Any) -> Schedule:
    texts = value if isinstance(value, (list, tuple)) else (value,)
    if not all(isinstance(text, str) for text in texts):
        raise Invalid("must be a schedule, or a list of them", SCHEDULE_HINT)
    try:
        return parse_schedule(texts)
    except BadSchedule as e:
        raise Invalid(str(e), SCHEDULE_HINT) from e


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise Invalid(f"must be {what}", f"write {what} as text")
    return value


def _local_path(value: Any, info: ValidationInfo) -> Path:
    base = info.context["base"] if info.context else Path()
    return Path(base) / _path_text(value)


def _path_text(value: Any) -> str:
    text = _text(value, "a path")
    if "\0" in text:
        raise Invalid("a path cannot hold a NUL byte", "write the path as it stands on disk")
    return text


def _host_path(value: Any) -> Path:
    path = Path(_path_text(value))
    if not path.is_absolute():
        raise Invalid("must be an absolute path", "it is a path on the member's host, e.g. /var/lib/etcd")
    return path


def _pattern(pattern: str, what: str, hint: str) -> AfterValidator:
    compiled = re.compile(pattern, re.ASCII)

    def check(text: str) -> str:
        if compiled.fullmatch(text) is None:
            raise Invalid(f"not {what}", hint)
        return text

    return AfterValidator(check)


def _split_url(text: str, hint: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of a URL without user information; raises Invalid."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as e:
        raise Invalid("not a valid address", hint) from e
    if "@" in parts.netloc:
        raise Invalid("an address must not hold a user or password", hint)
    if not host or re.search(r"\s", text):
        raise Invalid("not a valid address", hint)
    return parts.scheme, host, port


def _endpoint(text: str) -> str:
    hint = "write http[s]://HOST:PORT or HOST:PORT, e.g. https://10.0.0.1:2379"
    address = text if "://" in text else f"//{text}"
    scheme, _, port = _split_url(address, hint)
    parts = urlsplit(address)
    if scheme not in ("", "http", "https") or port is None or parts.path not in ("", "/") or parts.query:
        raise Invalid("not an etcd endpoint", hint)
    return text


def _member_url(text: str) -> str:
    hint = "write http[s]://HOST:PORT, e.g. https://10.0.0.1:2380"
    scheme, _, port = _split_url(text, hint)
    if scheme not in ("http", "https") or port is None:
        raise Invalid("not a member URL", hint)
    return text


def _http_url(text: str) -> str:
    hint = "write http[s]://HOST[:PORT], e.g. https://s3.example.org"
    scheme, _, _ = _split_url(text, hint)
    if scheme not in ("http", "https"):
        raise Invalid("not an http or https URL", hint)
    return text


def _secret_url(secret: SecretStr) -> SecretStr:
    _http_url(secret.get_secret_value())
    return secret


def _prefix(text: str) -> str:
    if text and any(part in ("", ".", "..") for part in text.split("/")):
        raise Invalid("not a key prefix", "write it without a leading or trailing slash, e.g. clusters/prod")
    return text


def _address(text: str) -> str:
    hint = "write HOST:PORT, e.g. 127.0.0.1:9379"
    _, _, port = _split_url(f"//{text}", hint)
    if port is None or "/" in text:
        raise Invalid("not an address to listen on", hint)
    return text


Duration = Annotated[timedelta, BeforeValidator(_duration)]
"""A span of time longer than zero."""

CalendarPeriod = Annotated[Period, BeforeValidator(_period)]
"""Years, months, weeks, days and hours by the calendar."""

ScheduleText = Annotated[InstanceOf[Schedule], BeforeValidator(_schedule)]
"""When a job is due: an interval or times of day, one or several of them."""

Size = Annotated[int, BeforeValidator(_size)]
"""Bytes, more than zero."""

LocalPath = Annotated[Path, BeforeValidator(_local_path)]
"""A path on this machine; a relative one starts at the folder of the configuration file."""

HostPath = Annotated[Path, BeforeValidator(_host_path)]
"""An absolute path on a member's host."""

Name = Annotated[
    str,
    _pattern(
        r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}",
        "a usable name",
        "use letters, digits, '.', '_' and '-', starting with a letter or digit, at most 63",
    ),
]
"""A name that is safe as one part of an object key and of a file name."""

BucketName = Annotated[
    str,
    _pattern(
        r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]",
        "a bucket name",
        "write the bucket's name alone; a path inside it belongs to 'prefix'",
    ),
]

RecipientText = Annotated[
    str,
    _pattern(
        r"age1[0-9a-z]{10,}",
        "an age recipient",
        "recipients are public and begin with 'age1'; a secret key belongs to identity_file",
    ),
]
"""An age recipient by its looks; ``crypto.recipients`` parses it fully."""

SshDestination = Annotated[
    str,
    _pattern(
        r"[A-Za-z0-9_\[:][!-~]{0,254}",
        "an ssh destination",
        "write a host, user@host or an alias from ~/.ssh/config, without spaces and options",
    ),
]
"""Cannot be taken for an option of the ssh client."""

UnitName = Annotated[
    str,
    _pattern(
        r"[A-Za-z0-9:_.@\\][A-Za-z0-9:_.@\\-]{0,254}",
        "a systemd unit",
        "write one unit's name, e.g. etcd.service, without wildcards",
    ),
]

Endpoint = Annotated[str, AfterValidator(_endpoint)]
MemberUrl = Annotated[str, AfterValidator(_member_url)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
Prefix = Annotated[str, AfterValidator(_prefix)]
Address = Annotated[str, AfterValidator(_address)]

SecretUrl = Annotated[SecretStr, AfterValidator(_secret_url)]
"""A URL that may carry a token; redacts itself."""
