"""Two plans of a rule held against each other: who was added, who was removed, for whom the change is another one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import Q, QuerySet

from apps.operations.models import Operation, OperationItem
from apps.operations.selectors import NO_LONGER, why_gone
from apps.rules.models import CleanupRule
from apps.users.models import Account

GROUPS = ("added", "removed", "changed", "unchanged")
PLANS_OFFERED = 50

# One row a person: the signature is what would happen to them, action by action.
_SIDES = """
    WITH newer AS (
        SELECT subject, min(account_id) AS account_id,
               string_agg(action || ' ' || target, E'\\n' ORDER BY action, target) AS what
        FROM operations_operationitem WHERE operation_id = %(newer)s GROUP BY subject
    ), older AS (
        SELECT subject, min(account_id) AS account_id,
               string_agg(action || ' ' || target, E'\\n' ORDER BY action, target) AS what
        FROM operations_operationitem WHERE operation_id = %(older)s GROUP BY subject
    ), both_sides AS (
        SELECT coalesce(newer.subject, older.subject) AS subject,
               coalesce(newer.account_id, older.account_id) AS account_id,
               CASE WHEN older.subject IS NULL THEN 'added' WHEN newer.subject IS NULL THEN 'removed'
                    WHEN newer.what <> older.what THEN 'changed' ELSE 'unchanged' END AS part
        FROM newer FULL JOIN older ON older.subject = newer.subject
    )
"""


@dataclass(frozen=True)
class Difference:
    """One person in one of GROUPS. `reason`: why they are in the newer plan, or were in the older one."""

    subject: str
    account: Account | None
    part: str
    reason: dict[str, Any]
    # Of the removed: why the newer plan has them no more.
    why_not: str = ""


def plans_of(rule: CleanupRule) -> QuerySet[Operation]:
    """The rule's finished plans, runs and what-ifs among them, newest first."""
    mine = Q(rule_id=rule.pk) | Q(rule_id__isnull=True, frozen__what_if__rule_id=rule.pk)
    found: QuerySet[Operation] = (
        Operation.objects.of(rule.organization).filter(mine, undo_of__isnull=True).exclude(plan_hash="").order_by("-id")
    )
    return found


def counts(newer: Operation, older: Operation) -> dict[str, int]:
    """People in each of GROUPS."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"{_SIDES} SELECT part, count(*) FROM both_sides GROUP BY part", {"newer": newer.pk, "older": older.pk}
        )
        found = dict(cursor.fetchall())
    return {part: found.get(part, 0) for part in GROUPS}


def differences(
    newer: Operation, older: Operation, part: str, *, after: str = "", limit: int = 100
) -> list[Difference]:
    """The first `limit` people of one group whose subject comes after `after`, in order of their subjects."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""{_SIDES} SELECT subject, account_id FROM both_sides
                WHERE part = %(part)s AND subject COLLATE "C" > %(after)s
                ORDER BY subject COLLATE "C" LIMIT %(limit)s""",
            {"newer": newer.pk, "older": older.pk, "part": part, "after": after, "limit": limit},
        )
        rows = cursor.fetchall()
    side = older if part == "removed" else newer
    accounts = Account.objects.in_bulk([pk for _subject, pk in rows if pk])
    subjects = [subject for subject, _pk in rows]
    reasons = dict(
        OperationItem.objects.filter(operation=side, subject__in=subjects)
        .order_by("subject", "pk")
        .distinct("subject")
        .values_list("subject", "reason")
    )
    gone = why_gone(newer, list(accounts)) if part == "removed" else {}
    return [
        Difference(
            subject,
            accounts.get(pk),
            part,
            reasons.get(subject) or {},
            gone.get(pk, NO_LONGER) if part == "removed" else "",
        )
        for subject, pk in rows
    ]


def all_differences(newer: Operation, older: Operation) -> Iterator[Difference]:
    """Everybody who was added, removed or changed, for an export."""
    for part in GROUPS[:3]:
        after = ""
        while rows := differences(newer, older, part, after=after, limit=1000):
            yield from rows
            after = rows[-1].subject
