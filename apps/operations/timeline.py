"""What operations tell the page of a person: previews that found them, plans that hold them, what is about to happen.

What a run did stands in the audit log, which the timeline reads itself. Registered in `OperationsConfig.ready`.
"""

from __future__ import annotations

from datetime import datetime

from django.db.models import DateTimeField, F
from django.db.models.functions import Coalesce
from django.utils import timezone

from apps.operations.actions import REGISTRY
from apps.operations.models import LeftOut, Operation, OperationItem
from apps.operations.planning import LEFT_OUT_LABELS
from apps.operations.reasons import reason_sentence
from apps.users.models import Account
from apps.users.registries import TimelineEntry, Upcoming, timeline_sources, upcoming_sources

_WHEN = Coalesce("operation__planned_at", "operation__created_at", output_field=DateTimeField())
# A finished item of a live run has an audit event of its own.
_SAID_BY_AUDIT = {"operation__mode": Operation.Mode.LIVE, "status": OperationItem.Status.FINISHED}


def entries(account: Account, before: datetime | None, limit: int) -> list[TimelineEntry]:
    """Previews and plans that hold the person or left them out, newest first."""
    found = [*_items(account, before, limit), *_left_out(account, before, limit)]
    return sorted(found, key=lambda entry: entry.at, reverse=True)[:limit]


def _items(account: Account, before: datetime | None, limit: int) -> list[TimelineEntry]:
    items = (
        OperationItem.objects.filter(account=account)
        .exclude(**_SAID_BY_AUDIT)
        .select_related("operation__organization")
        .annotate(when=_WHEN)
        .order_by("-when", "-pk")
    )
    if before is not None:
        items = items.filter(when__lt=before)
    found = []
    for item in items[:limit]:
        operation: Operation = item.operation
        label = REGISTRY[item.action].label
        title = f"Found by preview: {label}" if operation.mode == Operation.Mode.SAFE else f"In a plan: {label}"
        found.append(
            TimelineEntry(
                item.when,
                "preview",
                title,
                f"{operation.name}: {reason_sentence(item.reason, item.when)}",
                by=operation.actor_text,
                url=operation.get_absolute_url(),
                url_label=f"#{operation.number}",
                icon="eye",
                ref=f"item-{item.pk}",
            )
        )
    return found


def _left_out(account: Account, before: datetime | None, limit: int) -> list[TimelineEntry]:
    rows = (
        LeftOut.objects.filter(account=account)
        .select_related("operation__organization")
        .annotate(when=_WHEN)
        .order_by("-when", "-pk")
    )
    if before is not None:
        rows = rows.filter(when__lt=before)
    return [
        TimelineEntry(
            row.when,
            "preview",
            f"Left out: {LEFT_OUT_LABELS.get(row.reason, row.reason)}",
            "; ".join(part for part in (row.operation.name, row.detail) if part),
            by=row.operation.actor_text,
            url=row.operation.get_absolute_url(),
            url_label=f"#{row.operation.number}",
            icon="minus",
            ref=f"left-out-{row.pk}",
        )
        for row in rows[:limit]
    ]


def upcoming(account: Account) -> list[Upcoming]:
    """Open live plans that still hold the person."""
    items = (
        OperationItem.objects.filter(
            account=account, operation__mode=Operation.Mode.LIVE, operation__status__in=Operation.OPEN
        )
        .exclude(status=OperationItem.Status.FINISHED)
        .select_related("operation__organization")
        .order_by(F("operation__created_at").asc(), "pk")
    )
    return [
        Upcoming(
            timezone.now() if item.operation.status in Operation.WORKING else None,
            REGISTRY[item.action].label,
            item.operation.name,
            item.operation.get_absolute_url(),
            f"run #{item.operation.number}: {item.operation.get_status_display().lower()}",
        )
        for item in items[:20]
    ]


def register() -> None:
    """Fill the registries of the users pages; done once, in `OperationsConfig.ready`."""
    timeline_sources.append(entries)
    upcoming_sources.append(upcoming)
