"""When a rule is due: pure functions, used for display and for firing alike (docs/decisions/0008-schedule.md).

A rule is due once on each due local day. A time that the clocks skip counts at the first instant after the gap, one
that they repeat at its first occurrence. A monthly day beyond the month's end means the last day. A local day that a
zone left out altogether (Samoa, 30 December 2011) is not due.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

DAILY, WEEKLY, MONTHLY = "daily", "weekly", "monthly"
_SECOND = timedelta(seconds=1)


class Scheduled(Protocol):
    """What rules and the values of a form have in common. `weekdays`: 0 is Monday; `timezone`: an IANA name."""

    @property
    def recurrence(self) -> str: ...
    @property
    def weekdays(self) -> Sequence[int]: ...
    @property
    def month_day(self) -> int | None: ...
    @property
    def run_at(self) -> time: ...
    @property
    def timezone(self) -> str: ...
    @property
    def blackout_dates(self) -> Sequence[str]: ...


def next_due(
    recurrence: str,
    weekdays: Sequence[int],
    month_day: int | None,
    run_at: time,
    tz: str,
    after: datetime,
    blackout_dates: Sequence[str] = (),
) -> datetime:
    """The first instant, strictly later than `after` (aware), at which such a schedule is due; UTC.

    On `blackout_dates` (local dates and spans, as `CleanupRule.blackout_dates` keeps them) it is not due.
    Raises ValueError for a weekly schedule without weekdays, a monthly one without its day, or an unknown recurrence.
    """
    zone = ZoneInfo(tz)
    # A day before, because a gap at midnight moves a day's run into the next day.
    first = after.astimezone(zone).date() - timedelta(days=1)
    spans = [_span(text) for text in blackout_dates]
    for day in _due_days(recurrence, weekdays, month_day, first):
        if any(start <= day <= end for start, end in spans):
            continue
        at = _instant(day, run_at, zone)
        if at is not None and at > after:
            return at
    raise AssertionError("the days of a schedule do not end")


def _span(text: str) -> tuple[date, date]:
    first, _, last = text.partition("..")
    return date.fromisoformat(first), date.fromisoformat(last or first)


def next_run(values: Scheduled, after: datetime) -> datetime:
    """`next_due` of a rule, or of the values of a form."""
    return next_due(
        values.recurrence,
        values.weekdays,
        values.month_day,
        values.run_at,
        values.timezone,
        after.astimezone(UTC),
        values.blackout_dates,
    )


def next_runs(values: Scheduled, count: int, after: datetime) -> list[datetime]:
    """The next `count` instants after `after`, in order; UTC."""
    runs: list[datetime] = []
    for _ in range(count):
        after = next_run(values, after)
        runs.append(after)
    return runs


def due_between(values: Scheduled, after: datetime, until: datetime) -> list[datetime]:
    """Every instant later than `after` and not later than `until` at which `values` are due, in order; UTC."""
    due: list[datetime] = []
    at = next_run(values, after)
    while at <= until:
        due.append(at)
        at = next_run(values, at)
    return due


def _due_days(recurrence: str, weekdays: Sequence[int], month_day: int | None, first: date) -> Iterator[date]:
    """Local days of the schedule from `first` on, without end."""
    if recurrence == MONTHLY:
        if month_day is None:
            raise ValueError("A monthly schedule needs a day of the month.")
        yield from (day for day in _monthly(month_day, first) if day >= first)
        return
    if recurrence not in (DAILY, WEEKLY):
        raise ValueError(f"There is no recurrence called {recurrence!r}.")
    wanted = frozenset(range(7) if recurrence == DAILY else weekdays)
    if not wanted & frozenset(range(7)):
        raise ValueError("A weekly schedule needs a weekday, from 0 (Monday) to 6.")
    day = first
    while True:
        if day.weekday() in wanted:
            yield day
        day += timedelta(days=1)


def _monthly(month_day: int, first: date) -> Iterator[date]:
    year, month = first.year, first.month
    while True:
        yield date(year, month, min(month_day, calendar.monthrange(year, month)[1]))
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)


def _instant(day: date, run_at: time, zone: ZoneInfo) -> datetime | None:
    """The UTC instant at which `run_at` comes on `day` in `zone`; None when the zone has no such day."""
    wall = datetime.combine(day, run_at, zone)  # fold 0: of a repeated time the first
    at = wall.astimezone(UTC)
    if at.astimezone(zone).replace(tzinfo=None) == wall.replace(tzinfo=None):
        return at
    # In a gap, fold 0 reads the time with the offset before it and fold 1 with the one after it, so that the end of
    # the gap lies between the two instants.
    gap_end = _first_with_new_offset(wall.replace(fold=1).astimezone(UTC), at, zone)
    return gap_end if (gap_end - _SECOND).astimezone(zone).date() == day or _date(gap_end, zone) == day else None


def _date(at: datetime, zone: ZoneInfo) -> date:
    return at.astimezone(zone).date()


def _first_with_new_offset(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """The first second, later than `before` and not later than `after`, with the offset that holds at `after`."""
    offset = after.astimezone(zone).utcoffset()
    while after - before > _SECOND:
        middle = before + timedelta(seconds=int((after - before).total_seconds()) // 2)
        if middle.astimezone(zone).utcoffset() == offset:
            after = middle
        else:
            before = middle
    return after
