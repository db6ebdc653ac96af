"""Conditions on groups, on products held, and on what gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import ClassVar

from django.db import models
from django.db.models import Exists, F, OuterRef, Q, Value
from django.db.models.expressions import CombinedExpression
from django.db.models.lookups import GreaterThanOrEqual

from apps.users.models import (
    Group,
    Product,
    ProductAccess,
)
from apps.users.predicates.meanings import Context, PredicateError, holds_q
from apps.users.predicates.registry import Predicate, checked_products, in_words, set_value
from apps.users.products import bits_of, label_of


class _Groups(Predicate):
    """Groups by our key, or by Atlassian's id of the group."""

    groups: tuple[str, ...]
    joint: ClassVar[str] = "or"
    prefix: ClassVar[str]

    def __post_init__(self) -> None:
        names = tuple(dict.fromkeys(str(group).strip() for group in self.groups))
        if not names or any(not name or len(name) > 128 for name in names):
            raise PredicateError(self.name, "Choose at least one group.")
        set_value(self, "groups", names)

    def pks(self, context: Context) -> list[int]:
        """Keys of the groups; one that does not exist becomes 0, which no account is in."""
        own = {name for name in self.groups if name.isascii() and name.isdecimal() and len(name) < 19}
        foreign = [name for name in self.groups if name not in own]
        found: dict[str, int] = {}
        if foreign:
            rows = Group.objects.of(context.organization).filter(group_id__in=foreign)
            found = dict(rows.values_list("group_id", "pk"))
        return [int(name) if name in own else found.get(name, 0) for name in self.groups]

    def sentence(self, context: Context) -> str:
        return f"{self.prefix} {in_words(context.group_names(self.pks(context)), self.joint)}"


@dataclass(frozen=True)
class InAnyGroup(_Groups):
    name = "group"
    label = "Groups"
    prefix = "Member of"
    groups: tuple[str, ...]

    def q(self, context: Context) -> Q:
        return Q(group_ids__overlap=self.pks(context))


@dataclass(frozen=True)
class InAllGroups(_Groups):
    name = "group_all"
    label = "In all of these groups"
    prefix = "Member of all of"
    joint = "and"
    groups: tuple[str, ...]

    def q(self, context: Context) -> Q:
        return Q(group_ids__contains=self.pks(context))


@dataclass(frozen=True)
class InNoGroup(_Groups):
    name = "group_none"
    label = "In none of these groups"
    prefix = "Not a member of"
    groups: tuple[str, ...]

    def q(self, context: Context) -> Q:
        return ~Q(group_ids__overlap=self.pks(context))


@dataclass(frozen=True)
class HoldsProduct(Predicate):
    name = "product"
    label = "Product"
    products: tuple[str, ...]

    def __post_init__(self) -> None:
        set_value(self, "products", checked_products(self.products, self.name))
        if not self.products:
            raise PredicateError(self.name, "Choose at least one product.")

    def q(self, context: Context) -> Q:
        return holds_q(self.products)

    def sentence(self, context: Context) -> str:
        return f"Has {in_words([label_of(product) for product in self.products])}"


@dataclass(frozen=True)
class GetsBy(Predicate):
    """By what access comes: a group that grants a product or administration, a direct role, or unseen."""

    name = "grants"
    label = "Access by"
    words: ClassVar[Mapping[str, str]] = {
        **{str(product): f"a group that grants {product.label}" for product in Product},
        "administration": "a group that grants administration",
        "direct": "a direct role",
        "unseen": "a way that cannot be seen",
    }
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        names = tuple(dict.fromkeys(str(value).strip() for value in self.values))
        if not names or any(name not in self.words for name in names):
            raise PredicateError(self.name, f"Choose {in_words(list(self.words))}.")
        set_value(self, "values", names)

    def q(self, context: Context) -> Q:
        found: list[Q] = []
        bits = bits_of(value for value in self.values if value in Product.values)
        granting = Q(pk=0)
        if bits:
            masked = CombinedExpression(F("granted_products"), "&", Value(bits), output_field=models.IntegerField())
            granting |= Q(GreaterThanOrEqual(masked, 1))
        if "administration" in self.values:
            granting |= Q(is_administrative=True)
        if granting != Q(pk=0):
            groups = Group.objects.of(context.organization).filter(granting, vanished_at__isnull=True)
            found.append(Q(group_ids__overlap=list(groups.order_by("pk").values_list("pk", flat=True))))
        own = ProductAccess.objects.filter(account=OuterRef("pk"))
        if "direct" in self.values:
            found.append(Q(Exists(own.filter(direct=ProductAccess.Direct.YES))))
        if "unseen" in self.values:
            found.append(Q(Exists(own.filter(direct=ProductAccess.Direct.UNKNOWN, group_ids=[]))))
        # Alone, an EXISTS becomes a join; beside an OR it is asked for everybody.
        return reduce(or_, found)

    def unknown_q(self, context: Context) -> Q | None:
        if "direct" not in self.values:
            return None
        return Q(Exists(ProductAccess.objects.filter(account=OuterRef("pk"), direct=ProductAccess.Direct.UNKNOWN)))

    def sentence(self, context: Context) -> str:
        return f"Has access by {in_words([self.words[value] for value in self.values])}"
