"""Growth with size as an SVG beside docs/benchmarks.md: lines over sizes, axes from zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

__all__ = ["Growth", "plot"]

_FOLDER = Path(__file__).parents[2] / "docs" / "plots"
_WIDTH, _HEIGHT, _MARGIN = 640, 360, 56
_COLOURS = ("#1f6feb", "#8250df", "#1a7f37", "#bc4c00", "#57606a")


@dataclass(frozen=True)
class Growth:
    """Every way's seconds, one for each size. ``across`` says what the sizes are."""

    across: str
    sizes: Sequence[float]
    seconds: Mapping[str, Sequence[float]]


def plot(name: str, growth: Growth) -> str:
    """Write docs/plots/NAME.svg; the Markdown that shows it there."""
    _FOLDER.mkdir(exist_ok=True)
    (_FOLDER / f"{name}.svg").write_text(_svg(growth))
    return f"![Seconds over {growth.across}](plots/{name}.svg)"


def _svg(growth: Growth) -> str:
    sizes = growth.sizes
    most_x, most_y = max(sizes), max(one for way in growth.seconds.values() for one in way)

    def x(size: float) -> float:
        return _MARGIN + (_WIDTH - 2 * _MARGIN) * size / most_x

    def y(value: float) -> float:
        return _HEIGHT - _MARGIN - (_HEIGHT - 2 * _MARGIN) * value / most_y

    left, right, bottom, top = x(0), x(most_x), y(0), y(most_y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<path d="M{left} {top} V{bottom} H{right}" fill="none" stroke="#57606a"/>',
        _text(_WIDTH / 2, _HEIGHT - 12, growth.across, anchor="middle"),
        _text(left, top - 16, "seconds"),
        _text(left - 6, bottom, "0", anchor="end"),
        _text(left - 6, top + 4, f"{most_y:.1f}", anchor="end"),
        *(_text(x(size), bottom + 18, f"{size:.0f}", anchor="middle") for size in _apart(sizes, most_x)),
    ]
    for number, (name, seconds) in enumerate(growth.seconds.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = [(x(size), y(value)) for size, value in zip(sizes, seconds, strict=True)]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colour}"/>' for px, py in points]
        parts.append(_text(left + 12, top + 8 + 16 * number, name, fill=colour))
    return "\n".join([*parts, "</svg>\n"])


def _apart(sizes: Sequence[float], most: float) -> list[float]:
    """Those whose labels do not run into that of the next larger one."""
    shown: list[float] = []
    for size in sorted(sizes, reverse=True):
        if not shown or shown[-1] - size > most / 12:
            shown.append(size)
    return shown


def _text(x: float, y: float, text: str, *, anchor: str = "start", fill: str = "#24292f") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}">{escape(text)}</text>'
