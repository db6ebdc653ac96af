"""What the dashboard and the audit pages show, read across apps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from apps.dashboard.activity import recent_activity as recent_activity
from apps.dashboard.activity import sync_summary as sync_summary
from apps.users.selectors import DashboardCounts

RANGES = (7, 30, 60, 90)


@dataclass(frozen=True)
class Part:
    """A slice of the donut, or a line below it, with the list it counts."""

    label: str
    hint: str
    count: int
    query: str
    css: str


def distribution(counts: DashboardCounts) -> list[Part]:
    """Everybody in four slices (DECISIONS.md §4); they add up to the total."""
    days = counts.days

    def part(label: str, hint: str, css: str, *names: str) -> Part:
        count = sum(int(getattr(counts, name)) for name in names)
        return Part(label, hint, count, urlencode({"partition": ",".join(names), "days": days}), css)

    return [
        part("Active", f"used a product within {days} days", "1", "active"),
        part("Inactive", "hold a licence, no recent use or none ever", "2", "inactive", "never_active"),
        part(
            "Deactivated, suspended or no licence",
            "hold no licence in use",
            "5",
            "suspended",
            "deactivated",
            "no_licence",
        ),
        part("Not known", "Atlassian gives no date for them", "4", "unknown"),
    ]


def partition_lines(counts: DashboardCounts) -> list[Part]:
    """The seven parts behind the four slices, for the table under the chart."""
    words = {
        "active": "Active",
        "inactive": "Inactive",
        "never_active": "Never active",
        "unknown": "Not known",
        "suspended": "Suspended",
        "deactivated": "Deactivated",
        "no_licence": "No licence",
    }
    return [
        Part(label, "", int(getattr(counts, name)), urlencode({"partition": name, "days": counts.days}), "")
        for name, label in words.items()
    ]


@dataclass(frozen=True)
class Arc:
    """One slice as an SVG circle's dash: `dash` and `gap` along the circumference, `offset` where it begins."""

    css: str
    dash: str
    offset: str
    title: str


def donut(parts: Sequence[Part], radius: float = 62, gap: float = 3) -> list[Arc]:
    """Arcs of the non-empty parts, with a small gap between them."""
    total = sum(part.count for part in parts)
    around = 2 * 3.14159265 * radius
    shown = [part for part in parts if part.count]
    arcs, at = [], 0.0
    for part in shown:
        length = around * part.count / total
        title = f"{part.label}: {part.count:,} users, {100 * part.count / total:.0f}%"
        visible = max(length - (gap if len(shown) > 1 else 0), 0.8)
        arcs.append(Arc(part.css, f"{visible:.1f} {around:.1f}", f"{-at:.1f}", title))
        at += length
    return arcs
