"""Trends of the dashboard's cards, from the stored daily figures and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from apps.organizations.models import Organization
from apps.pricing.selectors import today
from apps.savings.models import DailySnapshot

WIDTH, HEIGHT = 84, 30
MOST_POINTS = 30
INACTIVE = ("inactive", "never_active", "suspended", "deactivated")


@dataclass(frozen=True)
class Trend:
    """A figure against an earlier day. `since` is that day, None without an earlier figure; paths are SVG."""

    now: int
    before: int | None
    since: date | None
    line: str
    area: str

    @property
    def change(self) -> int:
        return 0 if self.before is None else self.now - self.before

    @property
    def words(self) -> str:
        """`+14`, `−3`, `no change`; empty without an earlier figure."""
        if self.before is None:
            return ""
        if not self.change:
            return "no change"
        return f"{'+' if self.change > 0 else '−'}{abs(self.change):,}"


def trends(organization: Organization, days: int, now: dict[str, int]) -> dict[str, Trend]:
    """Trends of total, active and inactive over a range; `now` has the figures that the cards show."""
    day = today(organization)
    rows = list(
        DailySnapshot.objects.of(organization)
        .filter(day__gte=day - timedelta(days=days + 7), day__lt=day)
        .order_by("day")
        .values("day", "total", "figures")
    )
    start = day - timedelta(days=days)
    # The day so long ago, or the nearest one after it; a figure from before the range only where none is inside.
    earlier = [row for row in rows if row["day"] <= start][-1:] or rows[:1]
    inside = [row for row in rows if row["day"] >= (earlier[0]["day"] if earlier else start)]
    return {name: _trend(now[name], [(row["day"], _value(row, name, days)) for row in inside], day) for name in now}


def _value(row: dict[str, object], name: str, days: int) -> int:
    if name == "total":
        return int(row["total"])  # type: ignore[call-overload,no-any-return]  # a column of integers
    figures: dict[str, int] = row["figures"].get(str(days), {})  # type: ignore[attr-defined]  # JSON
    if name == "inactive":
        return sum(figures.get(part, 0) for part in INACTIVE)
    return figures.get(name, 0)


def _trend(now: int, earlier: Sequence[tuple[date, int]], day: date) -> Trend:
    before = earlier[0] if earlier else None
    line, area = sparkline([*earlier, (day, now)])
    return Trend(now, before[1] if before else None, before[0] if before else None, line, area)


def sparkline(points: Sequence[tuple[date, float]]) -> tuple[str, str]:
    """(line, area) as SVG paths, x by date; two empty texts for fewer than two points."""
    if len(points) < 2:
        return "", ""
    step = max(1, len(points) // MOST_POINTS)
    shown = [*points[:-1][::step], points[-1]]
    first, last = shown[0][0], shown[-1][0]
    width = max((last - first).days, 1)
    values = [value for _day, value in shown]
    low, high = min(values), max(values)
    spread = (high - low) or 1
    drawn = [
        (
            WIDTH * (day - first).days / width,
            HEIGHT - 3 - (HEIGHT - 6) * ((value - low) / spread if high > low else 0.5),
        )
        for day, value in shown
    ]
    line = " ".join(f"{'L' if index else 'M'}{x:.1f} {y:.1f}" for index, (x, y) in enumerate(drawn))
    return line, f"{line} L{WIDTH} {HEIGHT} L0 {HEIGHT}Z"
