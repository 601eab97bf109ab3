"""A cluster's period as one inline SVG: sizes of backups, gaps, verifications and drills over time. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from html import escape
from typing import Any

from etcdguard.human import counted, human_bytes, human_duration

__all__ = ["timeline"]

_WIDTH = 1000
_LEFT, _RIGHT = 90, 990
_TOP, _BASE = 14, 134
"""Between these stand the backups, as high as their databases are large."""
_GAPS, _CHECKS, _DRILLS, _AXIS = 146, 172, 198, 216
_STEPS = (
    *(timedelta(hours=hours) for hours in (1, 2, 3, 6, 12)),
    *(timedelta(days=days) for days in (1, 2, 7, 14, 30, 61, 91, 183, 365)),
)
_MOST_LABELS = 9

_Cluster = Mapping[str, Any]


def timeline(cluster: _Cluster, start: datetime, end: datetime) -> str:
    """The drawing; what it says in words stands in its title."""
    scale = _Scale(start, end)
    backups = [one for one in cluster["backups"] if start <= one["created_at"] < end]
    top = max((one["db_bytes"] or 0 for one in backups), default=0) or 1
    drills = [one for one in cluster["verifications"] if one["level"] == "drill"]
    checks = [one for one in cluster["verifications"] if one["level"] != "drill"]
    late = [gap for gap in cluster["gaps"] if gap["exceeds"]]
    title = (
        f"{counted(len(backups), 'backup')}, databases up to {human_bytes(top)}; "
        f"{counted(len(late), 'gap')} too long; {counted(len(checks), 'verification')}, "
        f"{counted(len(drills), 'drill')}"
    )
    parts = [
        f'<svg role=img aria-label="{escape(title)}" viewBox="0 0 {_WIDTH} 246" width="100%">',
        f"<title>{escape(title)}</title>",
        *_labels(top),
        *_backups(scale, backups, top),
        *_gaps(scale, late),
        *_marks(scale, checks, _CHECKS, "check"),
        *_marks(scale, drills, _DRILLS, "drill"),
        *_axis(scale),
        "</svg>",
    ]
    return "".join(parts)


class _Scale:
    def __init__(self, start: datetime, end: datetime) -> None:
        self.start, self.end = start, end
        self._length = (end - start).total_seconds()

    def x(self, moment: datetime) -> float:
        """Where it stands; what lies outside stands at the edge."""
        share = (moment - self.start).total_seconds() / self._length
        return round(_LEFT + min(1.0, max(0.0, share)) * (_RIGHT - _LEFT), 1)


def _labels(top: int) -> Iterator[str]:
    told = ((_TOP + 8, human_bytes(top)), (_BASE, "backups"), (_GAPS + 9, "gaps"))
    for y, text in (*told, (_CHECKS + 4, "verified"), (_DRILLS + 4, "drills")):
        yield f'<text x="{_LEFT - 8}" y="{y}" text-anchor=end>{text}</text>'
    yield f'<path class=axis d="M{_LEFT} {_BASE}H{_RIGHT}"/>'


def _backups(scale: _Scale, backups: Iterable[Mapping[str, Any]], top: int) -> Iterator[str]:
    """One path for each state, so that thousands of backups stay a small drawing."""
    paths: dict[str, list[str]] = {}
    for one in backups:
        height = max(3.0, (one["db_bytes"] or 0) / top * (_BASE - _TOP))
        line = f"M{scale.x(one['created_at'])} {_BASE}v-{height:.1f}"
        paths.setdefault(_state(one), []).append(line)
    for state, lines in sorted(paths.items()):
        yield f'<path class="bar {state}" d="{"".join(lines)}"/>'


def _state(backup: Mapping[str, Any]) -> str:
    """The worst of its copies that are there; else what became of them."""
    states = {copy["state"] for copy in backup["copies"]}
    return next(one for one in ("damaged", "missing", "present", "deleted") if one in states)


def _gaps(scale: _Scale, gaps: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for gap in gaps:
        x, end = scale.x(gap["start"]), scale.x(gap["end"])
        title = f"{human_duration(gap['seconds'])} without a backup, from {_moment(gap['start'])}"
        yield (
            f'<rect class=gap x="{x}" y="{_GAPS}" width="{max(2.0, end - x):.1f}" height="12">'
            f"<title>{title}</title></rect>"
        )


def _marks(scale: _Scale, checks: Iterable[Mapping[str, Any]], y: int, kind: str) -> Iterator[str]:
    for one in checks:
        x = scale.x(one["at"])
        shape = f"M{x} {y - 6}l6 11h-12z" if kind == "drill" else f"M{x - 3} {y - 3}h6v6h-6z"
        took = "" if one["rto_seconds"] is None else f", restored in {human_duration(one['rto_seconds'])}"
        title = escape(f"{one['level']} {one['outcome']} {_moment(one['at'])}{took}")
        yield f'<path class="mark {one["outcome"]}" d="{shape}"><title>{title}</title></path>'


def _axis(scale: _Scale) -> Iterator[str]:
    length = scale.end - scale.start
    step = next((one for one in _STEPS if length / one <= _MOST_LABELS), length / _MOST_LABELS)
    form = "%Y-%m-%d" if step >= timedelta(days=1) else "%m-%d %H:%M"
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    moment = epoch + -(-(scale.start - epoch) // step) * step
    yield f'<path class=axis d="M{_LEFT} {_AXIS}H{_RIGHT}"/>'
    while moment <= scale.end:
        x = scale.x(moment)
        anchor = "start" if x < _LEFT + 40 else "end" if x > _RIGHT - 40 else "middle"
        yield f'<path class=axis d="M{x} {_AXIS}v5"/>'
        yield f'<text x="{x}" y="{_AXIS + 19}" text-anchor={anchor}>{moment.strftime(form)}</text>'
        moment += step


def _moment(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
