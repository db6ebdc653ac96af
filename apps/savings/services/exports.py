"""CSV of the savings pages. Each download leaves a row in the audit log."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from apps.audit.services import record
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.savings.billing import Month
from apps.savings.selectors.ledger import Books, seat_lines
from aum.common.csv import neutralise

LICENCE_HEADINGS = (
    "month",
    "product",
    "account_id",
    "name",
    "email",
    "freed_at",
    "returned_at",
    "days",
    "amount",
    "currency",
    "rule_or_run",
    "run",
)
MONTH_HEADINGS = ("month", "product", "kind", "licences", "amount", "currency")


def licences_csv(organization: Organization, month: Month, product: str, *, actor: Actor) -> str:
    """Everybody behind a month; the amounts of a product add up to the page's."""
    lines = seat_lines(organization, month, product)
    rows = [
        (
            month.key,
            line.product,
            line.account_id,
            line.name,
            line.email,
            _instant(line.freed_at),
            _instant(line.ended_at),
            line.days,
            "" if line.amount is None else line.amount,
            line.currency,
            line.source,
            line.run_number or "",
        )
        for line in lines
    ]
    _record(organization, actor, f"licences of {month.key}", len(rows))
    return _text(LICENCE_HEADINGS, rows)


def months_csv(organization: Organization, until: Month, *, actor: Actor) -> str:
    """Twelve months by product, and the projection; kinds are never added up."""
    books = Books.of(organization)
    rows: list[Sequence[object]] = []
    for savings in books.months(until, 12):
        rows += [
            (
                savings.month.key,
                row.product,
                "realised",
                row.seats,
                "" if row.amount is None else row.amount,
                row.currency,
            )
            for row in savings.products
        ]
    for ahead in (1, 2):
        savings = books.projected(ahead)
        rows += [
            (
                savings.month.key,
                row.product,
                "projected",
                row.seats,
                "" if row.amount is None else row.amount,
                row.currency,
            )
            for row in savings.products
        ]
    _record(organization, actor, f"twelve months to {until.key}", len(rows))
    return _text(MONTH_HEADINGS, rows)


def _instant(at: datetime | None) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if at else ""


def _text(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(headings)
    # Amounts may be below zero: a minus sign of our own is no formula.
    writer.writerows([[neutralise(cell) if isinstance(cell, str) else cell for cell in row] for row in rows])
    return "\ufeff" + text.getvalue()


def _record(organization: Organization, actor: Actor, what: str, rows: int) -> None:
    record(
        organization=organization,
        actor=actor,
        action="savings.exported",
        target_kind="savings",
        target_name=what,
        after={"rows": rows},
    )
