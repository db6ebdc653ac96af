"""The explorer's filters: from a query string or REST parameters to predicates and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode

from django.db.models import Q

from apps.users.predicates import (
    AccountStatusIs,
    ActiveDays,
    ActivityIs,
    AddedAfter,
    AddedBefore,
    AddedDaysAgo,
    ClaimStatusIs,
    Context,
    EmailDomain,
    ExternalOnly,
    GetsBy,
    HoldsProduct,
    InactiveDays,
    InAllGroups,
    InAnyGroup,
    InNoGroup,
    IsExempt,
    IsProtected,
    IsSynced,
    KindIs,
    LastActiveAfter,
    LastActiveBefore,
    MembershipStatusIs,
    NeverAcceptedDays,
    NeverActiveDays,
    PartitionIs,
    Predicate,
    PredicateError,
    SearchText,
    StatusForDays,
    UsesOneProduct,
    all_of,
)

# Words of a select box that mean: this filter is off.
_OFF = frozenset({"", "all", "any"})


def add_filter(name: str, build: Callable[[Given], Predicate]) -> None:
    """Let a higher app add a parameter to the explorer, REST, views and plans by filter (in `AppConfig.ready`)."""
    _BUILDERS[name] = build


def filter_names() -> tuple[str, ...]:
    """All parameters that are filters."""
    return tuple(_BUILDERS)


class Parameters(Protocol):
    """A QueryDict, or anything like it."""

    def getlist(self, key: str) -> list[Any]: ...


class _Mapping:
    """A plain mapping of values or lists as Parameters."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def getlist(self, key: str) -> list[Any]:
        value = self._values.get(key)
        if value is None:
            return []
        return list(value) if isinstance(value, list | tuple) else [value]


@dataclass(frozen=True)
class Given:
    """What one parameter was given, with those that say where activity is measured and over how many days."""

    values: tuple[Any, ...]
    measured_in: tuple[str, ...]
    range_days: Any


# Parameter → predicate. Those that take several values take them repeated or separated by commas.
_BUILDERS: dict[str, Callable[[Given], Predicate]] = {
    "search": lambda given: SearchText(given.values[0]),
    "account_status": lambda given: AccountStatusIs(given.values),
    "membership_status": lambda given: MembershipStatusIs(given.values),
    "claim_status": lambda given: ClaimStatusIs(given.values),
    "external_only": lambda given: ExternalOnly(given.values[0]),
    "kind": lambda given: KindIs(given.values),
    "is_synced": lambda given: IsSynced(given.values[0]),
    "group": lambda given: InAnyGroup(given.values),
    "group_all": lambda given: InAllGroups(given.values),
    "group_none": lambda given: InNoGroup(given.values),
    "product": lambda given: HoldsProduct(given.values),
    "grants": lambda given: GetsBy(given.values),
    "activity": lambda given: ActivityIs(given.values, given.measured_in),
    "inactive_days": lambda given: InactiveDays(given.values[0], given.measured_in),
    "never_active_days": lambda given: NeverActiveDays(given.values[0], given.measured_in),
    "never_accepted_days": lambda given: NeverAcceptedDays(given.values[0]),
    "active_days": lambda given: ActiveDays(given.values[0], given.measured_in),
    "uses_one_product": lambda given: UsesOneProduct(given.values[0]),
    "last_active_before": lambda given: LastActiveBefore(given.values[0], given.measured_in),
    "last_active_after": lambda given: LastActiveAfter(given.values[0], given.measured_in),
    "added_before": lambda given: AddedBefore(given.values[0]),
    "added_after": lambda given: AddedAfter(given.values[0]),
    "added_days": lambda given: AddedDaysAgo(given.values[0]),
    "exempt": lambda given: IsExempt(given.values[0]),
    "protected": lambda given: IsProtected(given.values[0]),
    "status_days": lambda given: StatusForDays(given.values[0]),
    "domain": lambda given: EmailDomain(given.values),
    "partition": lambda given: PartitionIs(given.values, given.range_days or 30),
}
# Those that say how somebody uses a product: a value may name its own products, as in `activity=jira:never`.
MEASURED = frozenset(
    {"activity", "active_days", "inactive_days", "never_active_days", "last_active_before", "last_active_after"}
)
_WHOLE = frozenset({"search"})
_OWN_PRODUCTS = re.compile(r"([A-Za-z][A-Za-z0-9_-]*(?:\+[A-Za-z][A-Za-z0-9_-]*)*):(.+)", re.DOTALL)
_FIELDS = {"products": "inactive_product", "product": "inactive_product"}


@dataclass(frozen=True)
class Chip:
    """One active filter: its sentence, and the query string without it."""

    name: str
    sentence: str
    without: str


@dataclass(frozen=True)
class AccountFilters:
    """A list of predicates that came from parameters, or can be written as such."""

    conditions: tuple[Predicate, ...] = ()

    @classmethod
    def parse(cls, parameters: Parameters | Mapping[str, Any]) -> tuple[AccountFilters, dict[str, list[str]]]:
        """(filters, errors by parameter). What is wrong is left out of the filters and named in the errors.

        Empty values and "all" mean that a filter is off; parameters that are no filters (ordering, limit) are passed
        over. `inactive_product` says where `activity`, the days and the dates of last login are measured; a value with
        products of its own (`activity=jira:never`, `last_active_before=jira+jsm:2026-01-31`) is a condition by itself.
        """
        source: Any = parameters if hasattr(parameters, "getlist") else _Mapping(parameters)
        measured_in = _values(source, "inactive_product")
        days = _values(source, "days")
        conditions: list[Predicate] = []
        errors: dict[str, list[str]] = {}
        for name, build in _BUILDERS.items():
            values = _values(source, name)
            if not values:
                continue
            for own, given in _by_products(values, measured_in) if name in MEASURED else [(measured_in, values)]:
                try:
                    condition = build(Given(given, own, days[0] if days else ""))
                except PredicateError as error:
                    errors.setdefault(_FIELDS.get(error.field, error.field), []).append(str(error))
                else:
                    if condition not in conditions:
                        conditions.append(condition)
        return cls(tuple(conditions)), errors

    def as_q(self, context: Context) -> Q:
        """All of them, among accounts that are still there."""
        return all_of(self.conditions, context)

    def as_params(self) -> list[tuple[str, str]]:
        """The parameters that `parse` reads back into equal filters, in a fixed order."""
        params: list[tuple[str, str]] = []
        # One list of products for all of them has a parameter of its own; several lists go with their values.
        products = {condition.products for condition in self.conditions if condition.name in MEASURED}  # type: ignore[attr-defined]  # these have it
        for condition in self.conditions:
            is_own = len(products) > 1 and condition.name in MEASURED
            params += [pair for pair in _params_of(condition, is_own=is_own) if pair not in params]
        return params

    def query_string(self) -> str:
        return urlencode(self.as_params())

    def chips(self, context: Context) -> list[Chip]:
        """The active filters in words, each with the query string that drops it."""
        return [
            Chip(
                condition.name,
                condition.sentence(context),
                AccountFilters(tuple(other for other in self.conditions if other is not condition)).query_string(),
            )
            for condition in self.conditions
        ]

    def __bool__(self) -> bool:
        return bool(self.conditions)


def _values(source: Parameters, name: str) -> tuple[str, ...]:
    texts = (str(value).strip() for value in source.getlist(name))
    parts: Iterable[str] = texts if name in _WHOLE else (part.strip() for text in texts for part in text.split(","))
    return tuple(part for part in parts if part.lower() not in _OFF)


def own_params(condition: Predicate) -> list[tuple[str, str]]:
    """The parameters of one measured condition with its products in each value, so that nothing else moves them."""
    return _params_of(condition, is_own=True)


def _by_products(values: Iterable[str], measured_in: tuple[str, ...]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """(products, values) of each condition that `values` ask for."""
    found: dict[tuple[str, ...], list[str]] = {}
    for value in values:
        own = _OWN_PRODUCTS.fullmatch(value)
        products, text = (tuple(own[1].split("+")), own[2]) if own else (measured_in, value)
        found.setdefault(products, []).append(text)
    return [(products, tuple(texts)) for products, texts in found.items()]


def _params_of(condition: Predicate, *, is_own: bool = False) -> list[tuple[str, str]]:
    data = condition.as_json()
    name = str(data.pop("name"))
    if is_own:
        before = f"{'+'.join(data['products'])}:" if data["products"] else ""
        values = next(value for key, value in data.items() if key != "products")
        return [(name, f"{before}{_text(part)}") for part in (values if isinstance(values, list) else [values])]
    params: list[tuple[str, str]] = []
    for key, value in data.items():
        target = {"products": "product" if name == "product" else "inactive_product", "days": "days"}.get(key, name)
        if name != "partition" and key == "days":
            target = name
        if key == "group_ids":
            continue
        params += [(target, _text(part)) for part in (value if isinstance(value, list) else [value])]
    return params


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
