"""Reads of ledger, snapshots and insights; nothing in this package changes anything."""

from apps.savings.selectors.entries import (
    entry_lines,
    free_entries,
    free_now,
    given_back,
    returned_entries,
)
from apps.savings.selectors.insights import (
    CLASSES,
    Insight,
    dashboard_insights,
    insight_named,
    insights,
    open_count,
    possible_seats,
    put_aside,
)
from apps.savings.selectors.ledger import (
    Books,
    MonthSavings,
    area_chart,
    bars,
    first_month,
    is_demo_history,
    parse_month,
    people_in,
    seat_lines,
)
from apps.savings.selectors.scheduled import Scheduled, scheduled
from apps.savings.selectors.trends import Trend, sparkline, trends

__all__ = [
    "CLASSES",
    "Books",
    "Insight",
    "MonthSavings",
    "Scheduled",
    "Trend",
    "area_chart",
    "bars",
    "dashboard_insights",
    "entry_lines",
    "first_month",
    "free_entries",
    "free_now",
    "given_back",
    "insight_named",
    "insights",
    "is_demo_history",
    "open_count",
    "parse_month",
    "people_in",
    "possible_seats",
    "put_aside",
    "returned_entries",
    "scheduled",
    "seat_lines",
    "sparkline",
    "trends",
]
