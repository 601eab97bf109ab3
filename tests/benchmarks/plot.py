"""A plot of growth as SVG beside docs/benchmarks.md: lines over sizes, axes from zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

__all__ = ["Line", "plot"]

_FOLDER = Path(__file__).parents[2] / "docs" / "plots"
_WIDTH, _HEIGHT, _MARGIN = 640, 360, 56
_COLOURS = ("#1f6feb", "#8250df", "#1a7f37", "#bc4c00", "#57606a")


@dataclass(frozen=True)
class Line:
    """One way's figures, one for each size."""

    name: str
    values: Sequence[float]


def plot(name: str, across: str, up: str, sizes: Sequence[float], lines: Sequence[Line]) -> Path:
    """Write docs/plots/NAME.svg and answer its path."""
    _FOLDER.mkdir(exist_ok=True)
    path = _FOLDER / f"{name}.svg"
    path.write_text(_svg(across, up, sizes, lines))
    return path


def _svg(across: str, up: str, sizes: Sequence[float], lines: Sequence[Line]) -> str:
    most_x, most_y = max(sizes), max(value for line in lines for value in line.values)

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
        _text(_WIDTH / 2, _HEIGHT - 12, across, anchor="middle"),
        _text(left, top - 16, up),
        _text(left - 6, bottom, "0", anchor="end"),
        _text(left - 6, top + 4, f"{most_y:.1f}", anchor="end"),
        *(_text(x(size), bottom + 18, f"{size:.0f}", anchor="middle") for size in sizes),
    ]
    for number, line in enumerate(lines):
        colour = _COLOURS[number % len(_COLOURS)]
        points = [(x(size), y(value)) for size, value in zip(sizes, line.values, strict=True)]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colour}"/>' for px, py in points]
        parts.append(_text(left + 12, top + 8 + 16 * number, line.name, fill=colour))
    return "\n".join([*parts, "</svg>\n"])


def _text(x: float, y: float, text: str, *, anchor: str = "start", fill: str = "#24292f") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}">{escape(text)}</text>'
