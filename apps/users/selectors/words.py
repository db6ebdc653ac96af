"""How the mirror's values read on a screen. Times are UTC."""

from __future__ import annotations

from datetime import UTC, datetime

from apps.users.models import Activity, Product
from apps.users.products import label_of

_SHORT = {Product.JIRA: "Jira", Product.JSM: "JSM"}


def short_label(product: str) -> str:
    """The product's name where space is scarce."""
    return _SHORT[Product(product)] if product in _SHORT else label_of(product)


def day(at: datetime | None) -> str:
    """`14 Mar 2023`, or nothing."""
    return f"{at.astimezone(UTC):%d %b %Y}" if at else ""


def moment(at: datetime | None) -> str:
    """`14 Mar 2023, 11:50 UTC`, or nothing."""
    return f"{at.astimezone(UTC):%d %b %Y, %H:%M} UTC" if at else ""


def age(at: datetime, now: datetime) -> str:
    """How long ago, in one unit: `2 h` below two days, then whole days."""
    hours = int(max((now - at).total_seconds(), 0) // 3600)
    return f"{hours} h" if hours < 48 else f"{hours // 24:,} d"


def login(activity: int, at: datetime | None, now: datetime) -> str:
    """A last login in words: an age, "never", or "not known", with the date that was known before."""
    if activity == Activity.KNOWN and at is not None:
        return age(at, now)
    if activity == Activity.NEVER:
        return "never"
    if activity == Activity.UNKNOWN:
        return f"not known since {day(at)}" if at else "not known"
    return ""


def capped(value: int, is_capped: bool) -> str:
    """`1,234`, or `10,000+` where counting stopped."""
    return f"{value:,}+" if is_capped else f"{value:,}"


def people(value: int, is_capped: bool) -> str:
    """`1,234 users`, `1 user`, or `more than 10,000 users` where counting stopped."""
    if is_capped:
        return f"more than {value:,} users"
    return f"{value:,} user{'' if value == 1 else 's'}"
