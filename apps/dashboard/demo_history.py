"""Three months of figures, prices and freed licences for the demo organisation, so that each page has something to see.

Invented, marked as such in every row, and labelled wherever they are shown. Never made for another organisation. They
follow from the people that the demo has: who is suspended or deactivated there was freed on one of the past weeks, and
a few who are active were freed and came back.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.pricing.selectors import local_midnight, seats, today
from apps.pricing.services import PriceInput, add_price
from apps.savings.models import DailySnapshot, LedgerEntry
from apps.savings.services import take_snapshot
from apps.users.models import Account, AccountStatus, MembershipStatus, ProductAccess
from apps.users.predicates import Partition
from apps.users.selectors import dashboard_counts, latest_merged_sync

DAYS = 90
RANGES = (7, 30, 60, 90)
PRICES = {"jira": "8.00", "confluence": "6.00", "jsm": "20.00", "bitbucket": "3.00"}
PLANS = {"jira": "Standard", "confluence": "Standard", "jsm": "Standard", "bitbucket": "Standard"}
SUSPENSION, DEACTIVATION = "Suspend after 60 days (demo)", "Deactivate leavers (demo)"
RETURNED = 12
# Weeks ago on which the demo's runs took place; most are older than a month, so that months differ.
WEEKS_AGO = (12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1)


def make_money_history(organization: Organization) -> bool:
    """Fill the demo's past once, after its first sync; False for any other organisation or when it is there."""
    if not organization.is_demo or latest_merged_sync(organization) is None:
        return False
    with transaction.atomic():
        Organization.objects.select_for_update().get(pk=organization.pk)
        if DailySnapshot.objects.of(organization).filter(is_demo=True).exists():
            return False
        day = today(organization)
        _prices(organization, day)
        _ledger(organization, day)
        _days(organization, day)
    take_snapshot(organization)
    return True


def _prices(organization: Organization, day: date) -> None:
    first = (day.replace(day=1) - timedelta(days=365)).replace(day=1)
    for product, amount in PRICES.items():
        values = PriceInput(
            product=product, tier=PLANS[product], currency=organization.currency, unit_price=amount, valid_from=first
        )
        add_price(organization=organization, values=values, actor=Actor.system("AUM demo"), is_demo=True)


def _ledger(organization: Organization, day: date) -> None:
    out = (
        Account.objects.of(organization)
        .filter(vanished_at__isnull=True)
        .exclude(account_status=AccountStatus.ACTIVE, membership_status=MembershipStatus.ACTIVE)
        .order_by("account_id")
    )
    entries: list[LedgerEntry] = []
    held = _products(organization)
    for index, account in enumerate(out.iterator()):
        is_suspended = account.membership_status == MembershipStatus.SUSPENDED
        at = _run_at(organization, day, WEEKS_AGO[index % len(WEEKS_AGO)])
        entries += [
            LedgerEntry(
                organization=organization,
                account=account,
                product=product,
                action="suspend" if is_suspended else "deactivate",
                freed_at=at,
                source_name=SUSPENSION if is_suspended else DEACTIVATION,
                is_demo=True,
            )
            for product in held.get(account.pk, [])
        ]
    entries += _returned(organization, day, held)
    # The demo's runs (demo_records) may have been posted before: nobody is freed twice.
    known = set(LedgerEntry.objects.of(organization).values_list("account_id", "product"))
    fresh = [entry for entry in entries if (entry.account_id, entry.product) not in known]
    LedgerEntry.objects.bulk_create(fresh, ignore_conflicts=True)


def _returned(organization: Organization, day: date, held: dict[int, list[str]]) -> list[LedgerEntry]:
    """A few who were suspended and restored after some days."""
    active = Account.objects.of(organization).filter(
        account_status=AccountStatus.ACTIVE, membership_status=MembershipStatus.ACTIVE, last_active_at__isnull=False
    )
    entries = []
    for index, account in enumerate(active.order_by("account_id")[:RETURNED]):
        at = _run_at(organization, day, 3 + index % 9)
        entries += [
            LedgerEntry(
                organization=organization,
                account=account,
                product=product,
                action="suspend",
                freed_at=at,
                source_name=SUSPENSION,
                ended_at=at + timedelta(days=4 + index % 5),
                ended_by=LedgerEntry.EndedBy.SEEN,
                is_demo=True,
            )
            for product in held.get(account.pk, [])
        ]
    return entries


def _run_at(organization: Organization, day: date, weeks_ago: int) -> datetime:
    return local_midnight(organization, day - timedelta(weeks=weeks_ago)) + timedelta(hours=6)


def _products(organization: Organization) -> dict[int, list[str]]:
    held: dict[int, list[str]] = {}
    rows = ProductAccess.objects.of(organization).filter(product__in=PRICES).order_by("account_id", "product")
    for account, product in rows.values_list("account_id", "product").distinct():
        held.setdefault(account, []).append(product)
    return held


def _days(organization: Organization, day: date) -> None:
    """A slow growth of the organisation and a slow fall of idleness, ending in what is counted today."""
    now = timezone.now()
    counts = {days: dashboard_counts(organization, days) for days in RANGES}
    used, idle = seats(organization), {row.product: row.idle for row in counts[30].products}
    rows = []
    for back in range(DAYS, 0, -1):
        # A ripple of one week, so that lines look like counted ones; 0 today.
        share = back / DAYS + (0.06 if back % 7 in (1, 2) else 0.0)
        total = counts[30].total - round(counts[30].total * 0.04 * share)
        figures: dict[str, dict[str, Any]] = {}
        for days, row in counts.items():
            parts = {part: int(getattr(row, part)) for part in Partition.values}
            for part in ("inactive", "never_active"):
                parts[part] += round(parts[part] * 0.3 * share)
            for part in ("suspended", "deactivated"):
                parts[part] -= round(parts[part] * 0.7 * share)
            parts["active"] = max(total - sum(number for part, number in parts.items() if part != "active"), 0)
            everywhere = row.idle_everywhere + round(row.idle_everywhere * 0.3 * share)
            figures[str(days)] = {**parts, "idle_everywhere": everywhere}
        then = {product: number + round(number * 0.05 * share) for product, number in used.items()}
        rows.append(
            DailySnapshot(
                organization=organization,
                day=day - timedelta(days=back),
                taken_at=now,
                total=total,
                figures=figures,
                seats=then,
                peak_seats=then,
                idle={product: number + round(number * 0.3 * share) for product, number in idle.items()},
                is_demo=True,
            )
        )
    DailySnapshot.objects.bulk_create(rows, ignore_conflicts=True)


def make_by_id(organization_id: int) -> bool:
    """The same by key; False for an organisation that is gone."""
    organization = Organization.objects.filter(pk=organization_id).first()
    return organization is not None and make_money_history(organization)
