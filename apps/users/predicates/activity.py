"""Conditions on dates: of last activity, of joining, of the status."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any

from django.db import models
from django.db.models import Case, F, Q, Value, When
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Coalesce
from django.db.models.lookups import Exact, GreaterThanOrEqual, LessThan

from apps.users.models import (
    Product,
)
from apps.users.predicates.meanings import (
    Context,
    dated_q,
    holds_q,
    idle_since,
    inactive_q,
    last_active,
    never_active_q,
    unknown_q,
)
from apps.users.predicates.registry import (
    Predicate,
    checked_days,
    checked_instant,
    checked_products,
    counted,
    in_products,
    set_value,
)


@dataclass(frozen=True)
class InactiveDays(Predicate):
    """Known activity, none for more than `days`: overall, or in all of `products` together."""

    name = "inactive_days"
    label = "Inactive"
    reads_activity = True
    days: int
    products: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        set_value(self, "days", checked_days(self.days, self.name))
        set_value(self, "products", checked_products(self.products, "inactive_product"))

    def q(self, context: Context) -> Q:
        return inactive_q(self.products, cutoff_at=context.cutoff(self.days), now=context.now)

    def unknown_q(self, context: Context) -> Q | None:
        return unknown_q(self.products)

    def sentence(self, context: Context) -> str:
        return f"No login{in_products(self.products)} for more than {counted(self.days, 'day')}"


@dataclass(frozen=True)
class NeverActiveDays(Predicate):
    """Never active, and added or given access more than `days` ago."""

    name = "never_active_days"
    label = "Never active"
    reads_activity = True
    days: int
    products: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        set_value(self, "days", checked_days(self.days, self.name))
        set_value(self, "products", checked_products(self.products, "inactive_product"))

    def q(self, context: Context) -> Q:
        return never_active_q(self.products, cutoff_at=context.cutoff(self.days), now=context.now)

    def unknown_q(self, context: Context) -> Q | None:
        return unknown_q(self.products)

    def sentence(self, context: Context) -> str:
        return f"Never logged in{in_products(self.products)}, added more than {counted(self.days, 'day')} ago"


@dataclass(frozen=True)
class NeverAcceptedDays(Predicate):
    """Invited by AUM, or added, more than `days` ago and never active at all, with or without a licence.

    The published document has no field for an accepted invitation, so this is what stands for it (DECISIONS.md §6).
    """

    name = "never_accepted_days"
    label = "Never accepted the invite"
    reads_activity = True
    days: int

    def __post_init__(self) -> None:
        set_value(self, "days", checked_days(self.days, self.name))

    def q(self, context: Context) -> Q:
        idle = Q(LessThan(idle_since(now=context.now), Value(context.cutoff(self.days))))
        return Q(last_active_at__isnull=True, has_unknown_activity=False, is_activity_read=True) & idle

    def unknown_q(self, context: Context) -> Q | None:
        return Q(has_unknown_activity=True) | Q(is_activity_read=False, last_active_at__isnull=True)

    def sentence(self, context: Context) -> str:
        return f"Invited more than {counted(self.days, 'day')} ago and never logged in anywhere"


@dataclass(frozen=True)
class ActiveDays(Predicate):
    """Newest known activity within the last `days`: overall, or in any of `products`."""

    name = "active_days"
    label = "Active"
    reads_activity = True
    days: int
    products: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        set_value(self, "days", checked_days(self.days, self.name))
        set_value(self, "products", checked_products(self.products, "inactive_product"))

    def q(self, context: Context) -> Q:
        since = context.now - timedelta(days=self.days)
        return Q(GreaterThanOrEqual(last_active(self.products), Value(since)))

    def unknown_q(self, context: Context) -> Q | None:
        # Who was seen inside the range is active, whatever else is not known.
        return unknown_q(self.products) & (~dated_q(self.products) | ~self.q(context))

    def sentence(self, context: Context) -> str:
        return f"Logged in{in_products(self.products)} within {counted(self.days, 'day')}"


@dataclass(frozen=True)
class UsesOneProduct(Predicate):
    """Holds two or more of the four products, and used exactly one of them within `days` plus the margin."""

    name = "uses_one_product"
    label = "Uses one of several products"
    reads_activity = True
    days: int

    def __post_init__(self) -> None:
        set_value(self, "days", checked_days(self.days, self.name))

    def q(self, context: Context) -> Q:
        cutoff_at = context.cutoff(self.days)
        held = _sum(holds_q((product,)) for product in Product.values)
        used = _sum(
            holds_q((product,)) & Q(**{f"{product}_last_active_at__gte": cutoff_at}) for product in Product.values
        )
        # A product that is new to the person has not had its time yet: the clock of each unused one has to be older.
        fresh = reduce(
            or_,
            (
                holds_q((product,))
                & ~Q(**{f"{product}_last_active_at__gte": cutoff_at, f"{product}_last_active_at__isnull": False})
                & ~Q(LessThan(idle_since((product,), now=context.now), Value(cutoff_at)))
                for product in Product.values
            ),
        )
        return Q(GreaterThanOrEqual(held, 2)) & Q(Exact(used, 1)) & ~self._open() & ~fresh

    @staticmethod
    def _open() -> Q:
        return reduce(or_, (holds_q((product,)) & unknown_q((product,)) for product in Product.values))

    def unknown_q(self, context: Context) -> Q | None:
        return self._open()

    def sentence(self, context: Context) -> str:
        return f"Holds several products and used only one of them within {counted(self.days, 'day')}"


def _sum(conditions: Iterable[Q]) -> CombinedExpression:
    """How many of the conditions hold, as an expression."""
    parts: Any = [
        Case(When(condition, then=Value(1)), default=Value(0), output_field=models.IntegerField())
        for condition in conditions
    ]
    total: CombinedExpression = reduce(lambda left, right: left + right, parts)
    return total


class _Instant(Predicate):
    at: datetime

    def __post_init__(self) -> None:
        set_value(self, "at", checked_instant(self.at, self.name))

    def sentence(self, context: Context) -> str:
        return f"{self.label} {self.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True)
class AddedBefore(_Instant):
    name = "added_before"
    label = "Added before"
    at: datetime

    def unknown_q(self, context: Context) -> Q | None:
        return Q(added_to_org_at__isnull=True)

    def q(self, context: Context) -> Q:
        return Q(added_to_org_at__lt=self.at)


@dataclass(frozen=True)
class AddedAfter(_Instant):
    name = "added_after"
    label = "Added at or after"
    at: datetime

    def unknown_q(self, context: Context) -> Q | None:
        return Q(added_to_org_at__isnull=True)

    def q(self, context: Context) -> Q:
        return Q(added_to_org_at__gte=self.at)


@dataclass(frozen=True)
class AddedDaysAgo(Predicate):
    """Added to the organisation more than `days` ago."""

    name = "added_days"
    label = "Added"
    days: int

    def __post_init__(self) -> None:
        set_value(self, "days", checked_days(self.days, self.name))

    def q(self, context: Context) -> Q:
        return Q(added_to_org_at__lt=context.now - timedelta(days=self.days))

    def unknown_q(self, context: Context) -> Q | None:
        return Q(added_to_org_at__isnull=True)

    def sentence(self, context: Context) -> str:
        return f"Added more than {counted(self.days, 'day')} ago"


class _LastActive(_Instant):
    reads_activity = True
    products: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        set_value(self, "products", checked_products(self.products, "product"))

    def unknown_q(self, context: Context) -> Q | None:
        return unknown_q(self.products)

    def sentence(self, context: Context) -> str:
        return super().sentence(context) + in_products(self.products)


@dataclass(frozen=True)
class LastActiveBefore(_LastActive):
    """Newest known activity before an instant, overall or in `products`; those without a date are left out."""

    name = "last_active_before"
    label = "Last login before"
    at: datetime
    products: tuple[str, ...] = ()

    def q(self, context: Context) -> Q:
        return Q(LessThan(last_active(self.products), Value(self.at)))


@dataclass(frozen=True)
class LastActiveAfter(_LastActive):
    name = "last_active_after"
    label = "Last login at or after"
    at: datetime
    products: tuple[str, ...] = ()

    def q(self, context: Context) -> Q:
        return Q(GreaterThanOrEqual(last_active(self.products), Value(self.at)))


@dataclass(frozen=True)
class StatusForDays(Predicate):
    """In the present status for more than `days`; counted from the first sight where the change was not seen."""

    name = "status_days"
    label = "In this status"
    days: int

    def __post_init__(self) -> None:
        set_value(self, "days", checked_days(self.days, self.name))

    def q(self, context: Context) -> Q:
        since = Coalesce(F("status_changed_at"), F("first_seen_at"))
        return Q(LessThan(since, Value(context.now - timedelta(days=self.days))))

    def sentence(self, context: Context) -> str:
        return f"In this status for more than {counted(self.days, 'day')}"
