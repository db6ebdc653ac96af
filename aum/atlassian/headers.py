"""What the headers of an answer say about waiting, and about the request's id. Pure functions."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from aum.atlassian.schemas import parse_instant

Headers = Mapping[str, str]

BACKOFF_FLOOR_SECONDS: Final = 0.5
BACKOFF_CAP_SECONDS: Final = 60.0
# Beyond this difference between Atlassian's `Date` and our clock, ours is not trusted to read an absolute reset.
_CLOCK_TOLERANCE_SECONDS: Final = 2.0
_REQUEST_ID_HEADERS: Final = ("Atl-Traceid", "Atl-Request-Id", "X-Request-Id", "X-ARequestId", "X-Trace-Id")
# Epoch values below this are seconds from now, as some gateways send; above it, milliseconds.
_EPOCH_MIN: Final = 1_000_000_000
_EPOCH_MILLIS: Final = 100_000_000_000


@dataclass(frozen=True, slots=True)
class Quota:
    """X-RateLimit-*: `remaining` requests until `reset_seconds` from now, of `limit` (None = not said) a window."""

    limit: int | None
    remaining: int
    reset_seconds: float


def request_id_of(headers: Headers) -> str | None:
    """Atlassian's id of the request, at most 128 printable characters; None when it sent none."""
    for name in _REQUEST_ID_HEADERS:
        value = "".join(c for c in headers.get(name, "") if c.isprintable()).strip()
        if value:
            return value[:128]
    return None


def told_wait_seconds(headers: Headers, now: datetime) -> float | None:
    """Seconds to wait as the answer says: Retry-After (seconds or HTTP date), else X-RateLimit-Reset; None =
    neither.
    """
    wait = _retry_after(headers, now)
    return wait if wait is not None else _reset_seconds(headers, now)


def quota_of(headers: Headers, now: datetime) -> Quota | None:
    """The quota that an answer tells of; None unless both Remaining and Reset are there and readable."""
    remaining, reset = _whole(headers.get("X-RateLimit-Remaining")), _reset_seconds(headers, now)
    if remaining is None or reset is None:
        return None
    return Quota(_whole(headers.get("X-RateLimit-Limit")), remaining, reset)


def limit_reason(headers: Headers) -> str:
    """RateLimit-Reason (jira-burst-based, jira-quota-..., jira-per-issue-on-write), or ""."""
    return headers.get("RateLimit-Reason", "").strip()[:64]


def backoff_seconds(strikes: int) -> float:
    """Exponential back-off with full jitter above a floor, for a refusal that named no time. `strikes` from 1."""
    ceiling = min(BACKOFF_CAP_SECONDS, BACKOFF_FLOOR_SECONDS * 2.0 ** min(strikes, 16))
    return random.uniform(BACKOFF_FLOOR_SECONDS, ceiling)


def _retry_after(headers: Headers, now: datetime) -> float | None:
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        at = _http_date(value)
        return None if at is None else max(0.0, (at - _their_now(headers, now)).total_seconds())
    return seconds if 0 <= seconds < float("inf") else None


def _reset_seconds(headers: Headers, now: datetime) -> float | None:
    value = headers.get("X-RateLimit-Reset", "").strip()
    if not value:
        return None
    try:
        number = float(value)
    except ValueError:
        at = parse_instant(value) or _http_date(value)
    else:
        if 0 <= number < _EPOCH_MIN:
            return number
        try:
            at = datetime.fromtimestamp(number / 1000 if number >= _EPOCH_MILLIS else number, UTC)
        except (ValueError, OverflowError, OSError):
            return None
    return None if at is None else max(0.0, (at - _their_now(headers, now)).total_seconds())


def _their_now(headers: Headers, now: datetime) -> datetime:
    """Our clock, unless the answer's Date shows that it is off: absolute times are Atlassian's."""
    date = _http_date(headers.get("Date", ""))
    return date if date and abs((date - now).total_seconds()) > _CLOCK_TOLERANCE_SECONDS else now


def _http_date(value: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _whole(value: str | None) -> int | None:
    try:
        return max(0, int(float(value))) if value else None
    except (ValueError, OverflowError):
        return None
