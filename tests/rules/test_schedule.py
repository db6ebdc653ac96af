from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import crontab_parser
from hypothesis import given
from hypothesis import strategies as st

from apps.rules.schedule import due_between, next_due, next_run, next_runs
from tests.examples import OVER_VALUES

# Half hours, gaps at midnight (Santiago, Beirut, Nuuk at 23:00), half-hour changes (Lord Howe), double changes (Troll,
# Casablanca), far ends of the day, and one without changes.
ZONES = [
    "UTC",
    "Europe/Vienna",
    "America/New_York",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/Nuuk",
    "America/St_Johns",
    "Asia/Beirut",
    "Asia/Kolkata",
    "Asia/Tehran",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Antarctica/Troll",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Kiritimati",
]


def values(recurrence: str = "daily", **fields: Any) -> Any:
    defaults: dict[str, Any] = {"weekdays": [], "month_day": None, "run_at": time(9), "timezone": "UTC"}
    defaults["blackout_dates"] = []
    return SimpleNamespace(recurrence=recurrence, **(defaults | fields))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("recurrence", "weekdays", "month_day", "run_at", "zone", "after", "expected"),
    [
        ("daily", [], None, time(9), "UTC", "2026-03-01T08:59", "2026-03-01T09:00"),
        ("daily", [], None, time(9), "UTC", "2026-03-01T09:00", "2026-03-02T09:00"),  # strictly later
        ("daily", [], None, time(9), "Europe/Vienna", "2026-03-01T08:00", "2026-03-02T08:00"),
        ("daily", [], None, time(0, 30), "Pacific/Kiritimati", "2026-03-01T10:00", "2026-03-01T10:30"),
        ("daily", [], None, time(23, 59), "Pacific/Pago_Pago", "2026-03-01T10:58", "2026-03-01T10:59"),
        ("weekly", [3], None, time(6), "UTC", "2026-11-25T00:00", "2026-11-26T06:00"),  # a Thursday
        ("weekly", [0, 3], None, time(6), "UTC", "2026-11-26T06:00", "2026-11-30T06:00"),
        ("weekly", [2], None, time(6), "UTC", "2026-11-25T07:00", "2026-12-02T06:00"),  # the same day next week
        ("monthly", [], 15, time(6), "UTC", "2026-11-25T00:00", "2026-12-15T06:00"),
        ("monthly", [], 31, time(6), "UTC", "2026-11-25T00:00", "2026-11-30T06:00"),
        ("monthly", [], 31, time(6), "UTC", "2027-02-01T00:00", "2027-02-28T06:00"),
        ("monthly", [], 29, time(6), "UTC", "2028-02-01T00:00", "2028-02-29T06:00"),  # a leap year
        ("monthly", [], 30, time(6), "UTC", "2027-01-30T06:00", "2027-02-28T06:00"),
        ("monthly", [], 1, time(6), "UTC", "2026-12-31T23:00", "2027-01-01T06:00"),
        # Clocks go forward in Vienna on 29 March 2026: 02:00 is 03:00.
        ("daily", [], None, time(2, 30), "Europe/Vienna", "2026-03-28T12:00", "2026-03-29T01:00"),
        ("daily", [], None, time(2), "Europe/Vienna", "2026-03-28T12:00", "2026-03-29T01:00"),
        ("daily", [], None, time(3), "Europe/Vienna", "2026-03-28T12:00", "2026-03-29T01:00"),
        ("daily", [], None, time(1, 59), "Europe/Vienna", "2026-03-28T12:00", "2026-03-29T00:59"),
        ("daily", [], None, time(2, 30), "Europe/Vienna", "2026-03-29T01:00", "2026-03-30T00:30"),
        # Clocks go back there on 25 October 2026: 02:30 comes twice and the first one counts.
        ("daily", [], None, time(2, 30), "Europe/Vienna", "2026-10-24T12:00", "2026-10-25T00:30"),
        ("daily", [], None, time(2, 30), "Europe/Vienna", "2026-10-25T00:30", "2026-10-26T01:30"),
        # Midnight itself is skipped in Santiago on 6 September 2026.
        ("daily", [], None, time(0, 0), "America/Santiago", "2026-09-05T12:00", "2026-09-06T04:00"),
        # 23:30 of 28 March 2026 is skipped in Nuuk: the day runs at the midnight that follows.
        ("daily", [], None, time(23, 30), "America/Nuuk", "2026-03-28T12:00", "2026-03-29T01:00"),
        ("daily", [], None, time(23, 30), "America/Nuuk", "2026-03-29T01:00", "2026-03-30T00:30"),
        # Lord Howe moves its clocks by half an hour on 4 October 2026.
        ("daily", [], None, time(2, 15), "Australia/Lord_Howe", "2026-10-03T12:00", "2026-10-03T15:30"),
        # Samoa had no 30 December 2011.
        ("daily", [], None, time(9), "Pacific/Apia", "2011-12-29T20:00", "2011-12-30T19:00"),
    ],
)
def test_next_due(
    recurrence: str,
    weekdays: Sequence[int],
    month_day: int | None,
    run_at: time,
    zone: str,
    after: str,
    expected: str,
) -> None:
    assert next_due(recurrence, weekdays, month_day, run_at, zone, at(after)) == at(expected)


@pytest.mark.parametrize(
    ("recurrence", "weekdays", "month_day"),
    [("weekly", [], None), ("weekly", [7], None), ("monthly", [], None), ("hourly", [0], None)],
)
def test_a_schedule_that_never_comes_is_refused(
    recurrence: str, weekdays: Sequence[int], month_day: int | None
) -> None:
    with pytest.raises(ValueError):
        next_due(recurrence, weekdays, month_day, time(9), "UTC", at("2026-01-01T00:00"))


def test_the_answer_is_utc_whatever_the_zone_of_the_question() -> None:
    asked = at("2026-03-01T08:00").astimezone(ZoneInfo("Asia/Kolkata"))

    due = next_run(values(), asked)

    assert due == at("2026-03-01T09:00")
    assert due.tzinfo is UTC


def test_next_runs_are_in_order() -> None:
    runs = next_runs(values("monthly", month_day=31), 4, at("2026-12-01T00:00"))

    assert runs == [at("2026-12-31T09:00"), at("2027-01-31T09:00"), at("2027-02-28T09:00"), at("2027-03-31T09:00")]


def test_due_between_excludes_its_beginning_and_includes_its_end() -> None:
    due = due_between(values(), at("2026-03-01T09:00"), at("2026-03-03T09:00"))

    assert due == [at("2026-03-02T09:00"), at("2026-03-03T09:00")]
    assert due_between(values(), at("2026-03-03T09:00"), at("2026-03-01T09:00")) == []


# --- properties -----------------------------------------------------------------------------------------------------

times = st.builds(time, st.integers(0, 23), st.integers(0, 59))
zones = st.sampled_from(ZONES)
starts = st.datetimes(datetime(2012, 1, 1), datetime(2035, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))


def _local_days(runs: list[datetime], run_at: time, zone: str) -> list[date]:
    """The local day each run is for: a run moved over midnight by a gap belongs to the day before."""
    days = []
    for moment in runs:
        local = moment.astimezone(ZoneInfo(zone))
        days.append(local.date() if local.time() >= run_at else local.date() - timedelta(days=1))
    return days


@OVER_VALUES
@given(run_at=times, zone=zones, start=starts)
def test_each_local_day_is_due_exactly_once(run_at: time, zone: str, start: datetime) -> None:
    runs = next_runs(values(run_at=run_at, timezone=zone), 200, start)

    days = _local_days(runs, run_at, zone)

    assert days == [days[0] + timedelta(days=n) for n in range(200)]
    assert runs == sorted(set(runs))


@OVER_VALUES
@given(run_at=times, zone=zones, start=starts, weekdays=st.sets(st.integers(0, 6), min_size=1))
def test_weekly_is_due_on_its_weekdays_only_and_on_each_of_them(
    run_at: time, zone: str, start: datetime, weekdays: set[int]
) -> None:
    runs = next_runs(values("weekly", weekdays=sorted(weekdays), run_at=run_at, timezone=zone), 60, start)

    days = _local_days(runs, run_at, zone)

    span = [days[0] + timedelta(days=n) for n in range((days[-1] - days[0]).days + 1)]
    assert days == [day for day in span if day.weekday() in weekdays]


@OVER_VALUES
@given(run_at=times, zone=zones, start=starts, month_day=st.integers(1, 31))
def test_monthly_is_due_once_a_month(run_at: time, zone: str, start: datetime, month_day: int) -> None:
    runs = next_runs(values("monthly", month_day=month_day, run_at=run_at, timezone=zone), 30, start)

    days = _local_days(runs, run_at, zone)

    months = [day.year * 12 + day.month for day in days]
    assert months == [months[0] + n for n in range(30)]
    for day in days:
        assert day.day == month_day or (day.day < month_day and (day + timedelta(days=1)).day == 1)


@OVER_VALUES
@given(
    run_at=times,
    zone=zones,
    start=starts,
    spans=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 40)), min_size=1, max_size=4),
)
def test_blackout_dates_are_never_due_and_every_other_day_is_once(
    run_at: time, zone: str, start: datetime, spans: list[tuple[int, int]]
) -> None:
    first = start.date()
    dark = [(first + timedelta(days=begin), first + timedelta(days=begin + length)) for begin, length in spans]
    texts = [f"{begin}..{end}" if begin != end else f"{begin}" for begin, end in dark]

    runs = next_runs(values(run_at=run_at, timezone=zone, blackout_dates=texts), 150, start)

    days = _local_days(runs, run_at, zone)
    span = [days[0] + timedelta(days=n) for n in range((days[-1] - days[0]).days + 1)]
    assert days == [day for day in span if not any(begin <= day <= end for begin, end in dark)]


@pytest.mark.parametrize("recurrence", ["daily", "weekly", "monthly"])
@pytest.mark.parametrize("zone", ZONES[:12])
def test_three_years_are_due_once_on_each_due_day(zone: str, recurrence: str) -> None:
    schedule = values(recurrence, weekdays=[0, 4], month_day=31, run_at=time(2, 30), timezone=zone)
    start, end = datetime(2024, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)

    days = _local_days(due_between(schedule, start, end), time(2, 30), zone)

    def is_due(day: date) -> bool:
        if recurrence == "weekly":
            return day.weekday() in (0, 4)
        return recurrence == "daily" or (day + timedelta(days=1)).day == 1

    span = [days[0] + timedelta(days=n) for n in range((days[-1] - days[0]).days + 1)]
    assert days == [day for day in span if is_due(day)]
    assert len(days) > {"daily": 1090, "weekly": 310, "monthly": 34}[recurrence]


@OVER_VALUES
@given(run_at=times, zone=zones, start=starts, ahead=st.integers(0, 86_400 * 3))
def test_what_is_shown_is_what_fires(run_at: time, zone: str, start: datetime, ahead: int) -> None:
    """Asked at any moment before it, the next run is the same instant."""
    schedule = values(run_at=run_at, timezone=zone)
    moment = start + timedelta(seconds=ahead)

    due = due_between(schedule, start, moment)

    assert next_run(schedule, moment) == next_run(schedule, due[-1] if due else start)


@pytest.mark.parametrize(
    ("zone", "day", "run_at"),
    [
        ("America/Sao_Paulo", date(2017, 10, 15), time(0, 15)),
        ("Asia/Beirut", date(2024, 3, 31), time(0, 0)),
        ("America/Santiago", date(2025, 9, 7), time(0, 59)),
        ("Africa/Cairo", date(2024, 4, 26), time(0, 1)),
    ],
)
def test_a_gap_at_midnight_keeps_its_day(zone: str, day: date, run_at: time) -> None:
    start = datetime.combine(day, time(0), UTC) - timedelta(days=2)

    runs = next_runs(values(run_at=run_at, timezone=zone), 6, start)

    on_the_day = [
        moment.astimezone(ZoneInfo(zone)) for moment in runs if moment.astimezone(ZoneInfo(zone)).date() == day
    ]
    assert [local.time() for local in on_the_day] == [time(1)]


def test_celery_reads_the_days_of_month_that_we_write() -> None:
    assert crontab_parser(31, 1).parse("28-31") == {28, 29, 30, 31}
