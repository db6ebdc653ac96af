"""The number of licences that a product may reach before somebody is told (S289)."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from apps.audit.services import record
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.organizations.selectors import open_alerts
from apps.organizations.services import raise_alert, resolve_alert
from apps.pricing.models import LicenceAlert
from apps.pricing.selectors import licence_alerts, seats
from apps.users.products import label_of, product_of
from aum.common.errors import InvalidInput

KIND = "licence_use"
MAX_SEATS = 10_000_000


def set_licence_alert(*, organization: Organization, product: str, above: Any, actor: Actor) -> LicenceAlert | None:
    """Alert when more than `above` licences of `product` are in use; None or "" turns it off. Checked at once.

    Raises InvalidInput.
    """
    key = product_of(product)
    wanted = _whole(above)
    with transaction.atomic():
        row = LicenceAlert.objects.of(organization).select_for_update().filter(product=key).first()
        before = row.above if row else None
        if wanted == before:
            return row
        if wanted is None:
            assert row is not None
            row.delete()
            row = None
        else:
            row, _made = LicenceAlert.objects.update_or_create(
                organization=organization,
                product=key,
                defaults={"above": wanted, "set_by": actor.name, "set_at": timezone.now()},
            )
        record(
            organization=organization,
            actor=actor,
            action="licence_alert.set" if wanted is not None else "licence_alert.ended",
            target_kind="product",
            target_ref=key,
            target_name=label_of(key),
            before={"above": before},
            after={"above": wanted},
        )
        check_licence_use(organization)
    return row


def _whole(value: Any) -> int | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    text = str(value).strip()
    if isinstance(value, bool) or not (text.isascii() and text.isdecimal() and int(text[:12]) <= MAX_SEATS):
        raise InvalidInput(fields={"above": ["Enter a whole number of licences, or leave it empty for no alert."]})
    return int(text)


def check_licence_use(organization: Organization) -> list[str]:
    """Raise or close the alert of each product; returns the products above their number.

    An alert that is open already is left as it is until the number of licences changes, so that nobody is told twice.
    """
    limits, used = licence_alerts(organization), seats(organization)
    over: list[str] = []
    for product in {*limits, *used}:
        key, limit = f"{KIND}:{product}", limits.get(product)
        if limit is None or used.get(product, 0) <= limit.above:
            resolve_alert(organization=organization, dedup_key=key)
            continue
        over.append(product)
        title = f"{label_of(product)}: {used[product]:,} licences in use, more than {limit.above:,}"
        if open_alerts(organization).filter(dedup_key=key, title=title).exists():
            continue
        raise_alert(
            organization=organization,
            kind=KIND,
            severity="warning",
            title=title,
            detail="Free licences by a rule, or raise the number at Settings, Prices and licences.",
            link=f"{reverse('users:list', args=[organization.slug])}?account_status=active&membership_status=active"
            f"&product={product}",
            dedup_key=key,
        )
    return sorted(over)
