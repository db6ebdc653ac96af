"""Growth curves as SVG: a small panel for each line, both axes logarithmic, AUM beside its limit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

COLUMNS, WIDTH, HEIGHT, LEFT, TOP, PLOT_WIDTH, PLOT_HEIGHT = 3, 300, 190, 48, 34, 230, 116
# Read on a light and on a dark page alike.
STYLE = """
text { font: 11px system-ui, sans-serif; fill: #6b7280 }
.title { font-weight: 600; font-size: 12px; fill: #4b5563 }
.grid { stroke: #9ca3af; stroke-width: .5; opacity: .5 }
.aum { stroke: #2563eb; fill: none; stroke-width: 2.5 }
.limit { stroke: #d97706; fill: none; stroke-width: 1.5; stroke-dasharray: 5 3 }
.linear { stroke: #9ca3af; fill: none; stroke-width: 1; stroke-dasharray: 1 3 }
circle.aum { fill: #2563eb; stroke: none }
circle.limit { fill: #d97706; stroke: none }
@media (prefers-color-scheme: dark) { text { fill: #9ca3af } .title { fill: #d1d5db } .aum { stroke: #60a5fa }
  circle.aum { fill: #60a5fa } }
"""


@dataclass(frozen=True)
class Curve:
    """Milliseconds at each size, of AUM and of its limit."""

    name: str
    aum: Mapping[int, float]
    limit: Mapping[int, float]


def growth(curves: Sequence[Curve]) -> str:
    """The whole picture."""
    rows = math.ceil(len(curves) / COLUMNS)
    width, height = COLUMNS * WIDTH, rows * HEIGHT + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" aria-label="Time at growing sizes, AUM beside its limit">',
        f"<style>{STYLE}</style>",
        '<line class="aum" x1="48" x2="72" y1="16" y2="16"/><text x="78" y="20">AUM</text>',
        '<line class="limit" x1="120" x2="144" y1="16" y2="16"/><text x="150" y="20">limit in the same run</text>',
        '<line class="linear" x1="280" x2="304" y1="16" y2="16"/><text x="310" y="20">proportional to the size</text>',
    ]
    for number, curve in enumerate(curves):
        column, row = number % COLUMNS, number // COLUMNS
        parts.append(f'<g transform="translate({column * WIDTH} {row * HEIGHT + 28})">{_panel(curve)}</g>')
    return "\n".join([*parts, "</svg>\n"])


def _panel(curve: Curve) -> str:
    sizes = sorted(curve.aum)
    values = [*curve.aum.values(), *curve.limit.values()]
    low = math.floor(math.log10(max(min(values), 0.001)))
    high = max(math.ceil(math.log10(max(values))), low + 2)
    first, last = math.log10(sizes[0]), math.log10(sizes[-1])

    def x(size: float) -> float:
        return LEFT + (math.log10(size) - first) / (last - first) * PLOT_WIDTH

    def y(value: float) -> float:
        return TOP + PLOT_HEIGHT * (1 - (math.log10(max(value, 0.001)) - low) / (high - low))

    parts = [f'<text class="title" x="{LEFT}" y="{TOP - 10}">{escape(_shortened(curve.name))}</text>']
    for power in range(low, high + 1, max(1, (high - low) // 3)):
        at = y(10.0**power)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{LEFT + PLOT_WIDTH}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{at + 4:.1f}" text-anchor="end">{_duration(10.0**power)}</text>')
    for size in sizes:
        parts.append(f'<text x="{x(size):.1f}" y="{TOP + PLOT_HEIGHT + 15}" text-anchor="middle">{_count(size)}</text>')
    begin = curve.aum[sizes[0]]
    end = min(begin * sizes[-1] / sizes[0], 10.0**high)
    parts.append(_line("linear", [(x(sizes[0]), y(begin)), (x(sizes[0] * end / begin), y(end))]))
    for kind, points in (("limit", curve.limit), ("aum", curve.aum)):
        places = [(x(size), y(points[size])) for size in sizes]
        parts.append(_line(kind, places))
        parts += [f'<circle class="{kind}" cx="{a:.1f}" cy="{b:.1f}" r="2.5"/>' for a, b in places]
    return "".join(parts)


def _line(kind: str, places: Sequence[tuple[float, float]]) -> str:
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    return f'<polyline class="{kind}" points="{points}"/>'


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:38]}…"


def _duration(milliseconds: float) -> str:
    if milliseconds < 1000:
        return f"{milliseconds:g} ms"
    return f"{milliseconds / 1000:g} s" if milliseconds < 60_000 else f"{milliseconds / 60_000:.0f} min"


def _count(size: int) -> str:
    return f"{size / 1_000_000:g} M" if size >= 1_000_000 else f"{size / 1000:g} k" if size >= 1000 else str(size)
