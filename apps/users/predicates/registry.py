"""The registry, what makes a condition of a name and parameters, and what checks parameters."""

from __future__ import annotations

import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from operator import and_
from typing import Any, ClassVar

from django.db import models
from django.db.models import Case, Q, QuerySet, Value, When
from django.db.models.lookups import Exact

from apps.organizations.models import Organization
from apps.users.models import (
    Account,
)
from apps.users.predicates.meanings import MAX_DAYS, Context, PredicateError, live_q
from apps.users.products import label_of, product_of

REGISTRY: dict[str, type[Predicate]] = {}


class Predicate(ABC):
    """A question about an account. Subclasses are frozen dataclasses; making one checks its parameters."""

    name: ClassVar[str]
    label: ClassVar[str]
    # Whether the answer depends on last activity: a rule leaves those out, by name, whose activity is not known (P1).
    reads_activity: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if name := cls.__dict__.get("name"):
            if name in REGISTRY:
                raise TypeError(f"Two predicates are called {name}.")
            REGISTRY[name] = cls

    @abstractmethod
    def q(self, context: Context) -> Q:
        """The condition over Account."""

    @abstractmethod
    def sentence(self, context: Context) -> str:
        """The condition in words, as on a filter's chip."""

    def unknown_q(self, context: Context) -> Q | None:
        """Accounts for which the answer is not known, so that neither the condition nor its opposite holds."""
        return None

    def as_json(self) -> dict[str, Any]:
        """`{"name": …, parameters}`, from which `from_json` makes an equal predicate."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]  # subclasses are dataclasses
        return {"name": self.name, **{key: _plain(value) for key, value in values.items()}}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value.isoformat() if isinstance(value, datetime) else value


def from_json(data: Mapping[str, Any]) -> Predicate:
    """The predicate that `as_json` wrote. Raises PredicateError for a name or parameter that does not exist."""
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items() if key != "name"}
    kind = REGISTRY.get(str(data.get("name")))
    if kind is None:
        raise PredicateError("name", f"There is no condition called {data.get('name')!r}.")
    try:
        return kind(**values)
    except TypeError as error:
        raise PredicateError(kind.name, f"The condition {kind.name} does not take these parameters.") from error


def all_of(conditions: Iterable[Predicate], context: Context) -> Q:
    """All conditions at once, among accounts that are still there."""
    return reduce(and_, (condition.q(context) for condition in conditions), live_q())


def matching(
    organization: Organization, conditions: Iterable[Predicate], *, now: datetime | None = None
) -> QuerySet[Account]:
    """The organisation's live accounts that meet all conditions."""
    return Account.objects.of(organization).filter(all_of(conditions, Context.of(organization, now=now)))


# --- conditions: a predicate, or its opposite -----------------------------------------------------------------------

# What a rule's conditions may not ask: protection and exemptions bind every rule anyway, and rules that name each other
# could go round in circles.
NOT_IN_RULES = frozenset({"protected", "exempt", "rule"})
_SPLIT = re.compile(r"[,;\n]")


@dataclass(frozen=True)
class Condition:
    """A predicate that holds, or with `is_not` one that certainly does not: what is not known is neither."""

    predicate: Predicate
    is_not: bool = False

    def q(self, context: Context) -> Q:
        held = self.predicate.q(context)
        if not self.is_not:
            return held
        unknown = self.predicate.unknown_q(context)
        met = held if unknown is None else held | unknown
        # Not `~met`: a comparison with a date that is not there is NULL, and so would be its opposite.
        flag = Case(When(met, then=Value(1)), default=Value(0), output_field=models.IntegerField())
        return Q(Exact(flag, 0))

    def open_q(self, context: Context) -> Q | None:
        """Accounts whose last activity would have to be known to answer; None where activity does not matter."""
        return self.predicate.unknown_q(context) if self.predicate.reads_activity else None

    def sentence(self, context: Context) -> str:
        words = self.predicate.sentence(context)
        return f"not ({words})" if self.is_not else words

    def as_json(self) -> dict[str, Any]:
        """`{"name", parameters}`, and `"not": true` for an opposite; `condition_of` reads it back."""
        return {**self.predicate.as_json(), **({"not": True} if self.is_not else {})}


def parameters_of(name: str) -> dict[str, bool]:
    """The parameters of a registered predicate → whether it takes several values."""
    fields = dataclasses.fields(REGISTRY[name])  # type: ignore[arg-type]  # subclasses are dataclasses
    return {f.name: str(f.type).startswith("tuple") for f in fields}


def condition_of(data: Mapping[str, Any]) -> Condition:
    """A condition from JSON, YAML or a form: texts of several values are split at commas, what is empty is left out.

    Raises PredicateError; its `field` is the parameter, or "name" for a predicate that does not exist.
    """
    name = str(data.get("name") or "").strip()
    if name not in REGISTRY or name in NOT_IN_RULES:
        raise PredicateError("name", f"There is no condition called {name!r}." if name else "Choose a condition.")
    parameters = parameters_of(name)
    if unknown := sorted(set(data) - {"name", "not", *parameters}):
        raise PredicateError("name", f"The condition {name} takes no {unknown[0]}.")
    is_not = checked_flag(data.get("not", False), "not")
    given: dict[str, Any] = {}
    for key, is_several in parameters.items():
        value = data.get(key)
        if is_several:
            parts = _SPLIT.split(value) if isinstance(value, str) else list(value or ())
            given[key] = tuple(text for part in parts if (text := str(part).strip()))
        elif value is not None and str(value).strip():
            given[key] = value
    kind = REGISTRY[name]
    if issubclass(kind, YesOrNo):
        # "Not a yes" is the one way to say no, so that equal conditions are written equally.
        is_not ^= not checked_flag(given.get("value", True), "value")
        given["value"] = True
    missing = [key for key, is_several in parameters.items() if not is_several and key not in given]
    for key in missing:
        if not _has_default(kind, key):
            given[key] = ""
    return Condition(kind(**given), is_not)


def _has_default(kind: type[Predicate], name: str) -> bool:
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]  # subclasses are dataclasses
    return fields[name].default is not dataclasses.MISSING


def in_words(names: Sequence[str], joint: str = "or") -> str:
    *head, last = names
    return f"{', '.join(head)} {joint} {last}" if head else last


def checked_days(value: Any, field_name: str) -> int:
    try:
        days = int(value)
    except (TypeError, ValueError):
        days = 0
    if not 1 <= days <= MAX_DAYS or str(value).strip() not in (str(days), f"+{days}"):
        raise PredicateError(field_name, f"Enter a whole number of days from 1 to {MAX_DAYS}.")
    return days


def checked_products(values: Any, field_name: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(product_of(str(value)) for value in values))
    if any(not name or len(name) > 60 for name in names):
        raise PredicateError(field_name, "Name a product, such as jira or confluence.")
    return names


def checked_instant(value: Any, field_name: str) -> datetime:
    try:
        at = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).strip())
    except ValueError as error:
        raise PredicateError(field_name, "Enter a date such as 2026-01-31.") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def checked_flag(value: Any, field_name: str) -> bool:
    if isinstance(value, bool):
        return value
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False}
    if str(value).strip().lower() not in words:
        raise PredicateError(field_name, "Answer true or false.")
    return words[str(value).strip().lower()]


def set_value(instance: Predicate, name: str, value: Any) -> None:
    """Normalise a parameter of a frozen dataclass while it is made."""
    object.__setattr__(instance, name, value)


def in_products(products: Sequence[str]) -> str:
    return f" in {in_words([label_of(product) for product in products])}" if products else ""


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class YesOrNo(Predicate):
    """A yes or no."""

    value: bool
    yes: ClassVar[str]
    no: ClassVar[str]

    def __post_init__(self) -> None:
        set_value(self, "value", checked_flag(self.value, self.name))

    @abstractmethod
    def condition(self, context: Context) -> Q:
        """What holds when the value is true."""

    def q(self, context: Context) -> Q:
        condition = self.condition(context)
        return condition if self.value else ~condition

    def sentence(self, context: Context) -> str:
        return self.yes if self.value else self.no
