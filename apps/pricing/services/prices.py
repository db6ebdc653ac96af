"""Writing the price book: values are judged in one place, whoever sends them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from django.db import IntegrityError, transaction

from apps.audit.services import record
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.pricing.models import PriceTier, ProductPrice
from apps.users.products import label_of, product_of
from aum.common.errors import InvalidInput

MAX_PRICE = Decimal("1000000")
MAX_TIERS = 20
EARLIEST = date(2000, 1, 1)
LATEST = date(2100, 1, 1)


@dataclass(frozen=True)
class PriceInput:
    """A price as typed or sent; texts are read, so that pages and REST say the same about them.

    `tiers`: (from_users, price per user) pairs, used with the tier modes graduated and volume.
    """

    product: str = ""
    tier: str = ""
    currency: str = ""
    billing: str = ProductPrice.Billing.MONTHLY.value
    tier_mode: str = ProductPrice.TierMode.FLAT.value
    unit_price: Any = None
    valid_from: Any = None
    renewal_on: Any = None
    tiers: Sequence[tuple[Any, Any]] = ()


FIELDS = tuple(field.name for field in dataclasses.fields(PriceInput))


def values_of(price: ProductPrice) -> PriceInput:
    """A row as values, the base of a change."""
    tiers = tuple((tier.from_users, tier.unit_price) for tier in price.tiers.all())
    return PriceInput(**{name: getattr(price, name) for name in FIELDS if name != "tiers"}, tiers=tiers)


@transaction.atomic
def add_price(*, organization: Organization, values: PriceInput, actor: Actor, is_demo: bool = False) -> ProductPrice:
    """A new row of the price book. Raises InvalidInput that names each wrong field."""
    cleaned = _clean(values, organization, None)
    price = _written(ProductPrice(organization=organization, created_by=actor.name, is_demo=is_demo), cleaned)
    _record(price, actor, "price.added", after=_content(cleaned))
    return price


@transaction.atomic
def change_price(*, price: ProductPrice, values: PriceInput, actor: Actor) -> ProductPrice:
    """Correct a row: the savings of its months are computed anew from it. Raises InvalidInput."""
    row: ProductPrice = ProductPrice.objects.select_for_update().get(pk=price.pk)
    before, cleaned = _content(values_of(row)), _clean(values, row.organization, row)
    after = _content(cleaned)
    changed = [name for name in after if after[name] != before[name]]
    if not changed:
        return row
    row.is_demo = False
    row = _written(row, cleaned)
    _record(
        row,
        actor,
        "price.changed",
        before={name: before[name] for name in changed},
        after={name: after[name] for name in changed},
    )
    return row


@transaction.atomic
def remove_price(*, price: ProductPrice, actor: Actor) -> None:
    """Take a row out: its months are computed from the one before it, or shown in licences only."""
    row = ProductPrice.objects.select_for_update().filter(pk=price.pk).first()
    if row is None:
        return
    _record(row, actor, "price.removed", before=_content(values_of(row)))
    row.delete()


def _written(row: ProductPrice, values: PriceInput) -> ProductPrice:
    for name in FIELDS:
        if name != "tiers":
            setattr(row, name, getattr(values, name))
    try:
        with transaction.atomic():
            row.save()
    except IntegrityError:
        raise InvalidInput(fields={"valid_from": [_taken(values)]}) from None
    row.tiers.all().delete()
    PriceTier.objects.bulk_create(
        PriceTier(organization=row.organization, price=row, from_users=start, unit_price=amount)
        for start, amount in values.tiers
    )
    written: ProductPrice = ProductPrice.objects.prefetch_related("tiers").get(pk=row.pk)
    return written


def _taken(values: PriceInput) -> str:
    return f"{label_of(values.product)} already has a price from {values.valid_from}. Change that one, or choose a day."


def _record(price: ProductPrice, actor: Actor, action: str, *, before: Any = None, after: Any = None) -> None:
    record(
        organization=price.organization,
        actor=actor,
        action=action,
        target_kind="price",
        target_ref=str(price.pk),
        target_name=f"{label_of(price.product)} from {price.valid_from}",
        before=before,
        after=after,
    )


def _content(values: PriceInput) -> dict[str, Any]:
    """Cleaned values as JSON; amounts as text."""
    content: dict[str, Any] = {name: getattr(values, name) for name in FIELDS if name != "tiers"}
    content["unit_price"] = _plain(values.unit_price)
    content["valid_from"] = str(values.valid_from)
    content["renewal_on"] = str(values.renewal_on) if values.renewal_on else None
    content["tiers"] = [{"from_users": start, "unit_price": _plain(amount)} for start, amount in values.tiers]
    return content


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize():f}"


# --- judging ----------------------------------------------------------------------------------------------------------


class _Errors(dict[str, list[str]]):
    def add(self, name: str, sentence: str) -> None:
        self.setdefault(name, [sentence])


def _clean(values: PriceInput, organization: Organization, row: ProductPrice | None) -> PriceInput:
    errors = _Errors()
    billing = _choice(values.billing, ProductPrice.Billing.values, "billing", errors)
    tier_mode = _choice(values.tier_mode, ProductPrice.TierMode.values, "tier_mode", errors)
    tiers = _tiers(values.tiers, errors) if tier_mode != ProductPrice.TierMode.FLAT else ()
    if tier_mode != ProductPrice.TierMode.FLAT and not tiers:
        errors.add("tiers", "Enter at least the first tier: from user 1 and its price.")
    unit_price = tiers[0][1] if tiers else _amount(values.unit_price, "unit_price", errors)
    renewal_on = None
    if billing == ProductPrice.Billing.ANNUAL:
        renewal_on = _day(values.renewal_on, "renewal_on", errors, "Enter the day on which the contract is renewed.")
    cleaned = PriceInput(
        product=_product(values.product, errors),
        tier=_tier(values.tier, errors),
        currency=_currency(values.currency, organization, errors),
        billing=billing,
        tier_mode=tier_mode,
        unit_price=unit_price,
        valid_from=_day(values.valid_from, "valid_from", errors, "Enter the first day on which this price holds."),
        renewal_on=renewal_on,
        tiers=tiers,
    )
    if not errors and _is_taken(cleaned, organization, row):
        errors.add("valid_from", _taken(cleaned))
    if errors:
        raise InvalidInput(fields=errors)
    return cleaned


def _is_taken(values: PriceInput, organization: Organization, row: ProductPrice | None) -> bool:
    others = ProductPrice.objects.of(organization).filter(product=values.product, valid_from=values.valid_from)
    return (others.exclude(pk=row.pk) if row else others).exists()


def _choice(value: Any, allowed: Sequence[str], name: str, errors: _Errors) -> str:
    if str(value) not in allowed:
        errors.add(name, f"Choose one of {', '.join(allowed)}.")
    return str(value)


def _product(value: Any, errors: _Errors) -> str:
    key = product_of(str(value or ""))
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,59}", key, re.ASCII):
        errors.add("product", "Name a product by its key, such as jira, confluence, jsm or bitbucket.")
    return key


def _tier(value: Any, errors: _Errors) -> str:
    text = " ".join(str(value or "").split())
    if len(text) > 60 or not text.isprintable():
        errors.add("tier", "Use at most 60 characters that can be shown, such as Standard or Premium.")
    return text


def _currency(value: Any, organization: Organization, errors: _Errors) -> str:
    code = str(value or organization.currency).strip().upper()
    if not re.fullmatch(r"[A-Z]{3}", code, re.ASCII):
        errors.add("currency", "Enter the three letters of a currency, such as USD or EUR.")
    return code


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        amount = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return amount if amount.is_finite() else None


def _amount(value: Any, name: str, errors: _Errors) -> Decimal:
    if value is None or not str(value).strip():
        errors.add(name, "Enter the price of one user.")
        return Decimal(0)
    amount = _number(value)
    if amount is None or amount < 0:
        errors.add(name, "Enter an amount such as 7.53, with a point before the decimals.")
        return Decimal(0)
    if amount > MAX_PRICE or amount != amount.quantize(Decimal("0.0001")):
        errors.add(name, "Enter at most 1,000,000, with at most four decimals.")
        return Decimal(0)
    return amount


def _tiers(values: Sequence[tuple[Any, Any]], errors: _Errors) -> tuple[tuple[int, Decimal], ...]:
    """Tiers in order; the first begins at user 1 and none twice."""
    found: list[tuple[int, Decimal]] = []
    for start, price in values:
        number = _number(start)
        if number is None or number != int(number) or not 1 <= number <= 10_000_000:
            errors.add("tiers", "Each tier begins at a whole number of users, from 1 on.")
            continue
        found.append((int(number), _amount(price, "tiers", errors)))
    found.sort()
    starts = [start for start, _price in found]
    if len(found) > MAX_TIERS:
        errors.add("tiers", f"Enter at most {MAX_TIERS} tiers.")
    if len(set(starts)) < len(starts):
        errors.add("tiers", "Two tiers begin at the same number of users.")
    if starts and starts[0] != 1:
        errors.add("tiers", "The first tier begins at user 1.")
    return tuple(found)


def _day(value: Any, name: str, errors: _Errors, missing: str) -> date | None:
    if isinstance(value, date):
        day: date | None = value
    else:
        text = str(value or "").strip()
        if not text:
            errors.add(name, missing)
            return None
        try:
            day = date.fromisoformat(text)
        except ValueError:
            day = None
    if day is None or not EARLIEST <= day <= LATEST:
        errors.add(name, "Enter a date such as 2026-01-31.")
        return None
    return day
