"""What an evidence pack takes from other apps: the notices that were sent before the run acted."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from apps.notifications.models import Delivery
from apps.operations.models import Operation, OperationItem


def notices_of(operation: Operation) -> list[dict[str, Any]]:
    """Notices of the run's rule about the people of the plan, made before it ended, by time, as JSON-able rows."""
    if operation.rule_id is None:
        return []
    people = OperationItem.objects.filter(operation=operation).values("account")
    rows = (
        Delivery.objects.of(operation.organization)
        .filter(
            kind=Delivery.Kind.NOTICE,
            rule_id=operation.rule_id,
            account__in=people,
            created_at__lte=operation.finished_at or operation.created_at,
        )
        .select_related("account")
        .order_by("pk")
    )
    found = [
        {
            "at": _instant(row.accepted_at or row.created_at),
            "account_id": row.account.account_id if row.account else "",
            "audience": row.audience,
            "recipient": row.recipient,
            "subject": row.subject,
            "status": row.status,
            "server_answer": row.server_answer,
            "message_id": row.message_id,
            "announced_at": _instant(row.announced_at),
        }
        for row in rows.iterator(chunk_size=2000)
    ]
    return sorted(found, key=lambda notice: notice["at"])


def _instant(at: datetime | None) -> str:
    return at.isoformat() if at else ""
