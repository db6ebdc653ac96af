"""Brakes, data trust and the other reasons for which a live plan is held before its first write (P5, P11)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import Q, QuerySet
from django.utils import timezone

from apps.operations import hooks
from apps.operations.actions import REGISTRY
from apps.operations.models import Operation, OperationItem
from apps.operations.planning import licensed_people
from apps.operations.selection import Limits, selection_from_json
from apps.operations.services.administration import (
    MIN_ADMINS,
    TOO_FEW_ADMINS,
    gives_organization_admin,
    is_administrative,
    organization_admins,
)
from apps.organizations.models import Organization
from apps.users.models import Account, Group
from apps.users.selectors import data_trust

DAY = timedelta(hours=24)
TOKEN_LIMIT = 25
TAKING = tuple(name for name, action in REGISTRY.items() if action.takes_access)


@dataclass(frozen=True)
class Brakes:
    """The limits in force for one plan: the tighter of the organisation's and the rule's."""

    max_count: int
    max_share_percent: Decimal
    max_per_day: int
    max_group_share_percent: int

    @classmethod
    def of(cls, organization: Organization, limits: Limits) -> Brakes:
        counts = [organization.max_count, limits.max_count]
        shares = [Decimal(organization.max_share_percent), limits.max_share_percent]
        return cls(
            min(value for value in counts if value is not None),
            min(value for value in shares if value is not None),
            organization.max_per_day,
            min(
                value
                for value in (organization.max_group_share_percent, limits.max_group_share_percent)
                if value is not None
            ),
        )

    def can_trip(self, licensed: int) -> bool:
        """Whether a plan over everybody would be held. With nobody licensed yet there is nothing to protect.

        The share of a group does not count here: whether a group is large enough changes from sync to sync.
        """
        return not licensed or self.max_count < licensed or self.max_share_percent < 100 or self.max_per_day < licensed


def limits_can_trip(*, organization: Organization, limits: Limits) -> bool:
    """False for a set of limits none of which can trip at the organisation's present size: it is refused when saved."""
    return Brakes.of(organization, limits).can_trip(licensed_people(organization).count())


def takes_access(operation: Operation) -> bool:
    """Whether any of the operation's actions takes access: only these are bound by brakes and data trust."""
    return any(REGISTRY[name].takes_access for name in operation.action.split("+") if name in REGISTRY)


def used_in_last_day(organization: Organization, now: datetime) -> int:
    """People whose access any source set out to take within the rolling 24 hours, those under way included.

    Counted from the items: what was given back before its call, or skipped, took nothing.
    """
    under_way_or_written = Q(status=OperationItem.Status.CLAIMED) | Q(written_at__gt=now - DAY)
    items = OperationItem.objects.of(organization).filter(under_way_or_written, action__in=TAKING)
    return items.order_by().values("operation_id", "subject").distinct().count()


def share_percent(people: int, licensed: int) -> Decimal:
    """Share of licensed people, in percent; 100 when nobody is licensed."""
    return Decimal(people) * 100 / licensed if licensed else Decimal(100)


def _held(code: str, sentence: str, **numbers: Any) -> dict[str, Any]:
    return {"code": code, "sentence": sentence, **numbers}


def gate_plan(operation: Operation) -> list[dict[str, Any]]:
    """Why a live plan is held, each with code and sentence; empty when it may run."""
    reasons: list[dict[str, Any]] = []
    organization, people = operation.organization, operation.people_count
    if not people:
        return reasons
    if takes_access(operation):
        trust = data_trust(organization)
        reasons += [_held("data_trust", reason) for reason in trust.reasons]
        reasons += _missing_protection(operation)
        limits = Limits.from_json(operation.frozen.get("limits", {}))
        brakes = Brakes.of(organization, limits)
        if not brakes.can_trip(operation.licensed_count):
            reasons.append(
                _held("limits_cannot_trip", "The limits are so wide that none of them could ever hold a run.")
            )
        if people > brakes.max_count:
            reasons.append(
                _held(
                    "count",
                    f"{people:,} people are more than the limit of {brakes.max_count:,} in one run.",
                    limit=brakes.max_count,
                )
            )
        share = share_percent(people, operation.licensed_count)
        if share > brakes.max_share_percent:
            reasons.append(
                _held(
                    "share",
                    f"{share:.1f} % of the {operation.licensed_count:,} licensed people are more than the limit of "
                    f"{brakes.max_share_percent.normalize():f} %.",
                    limit=str(brakes.max_share_percent),
                )
            )
        used = used_in_last_day(organization, timezone.now())
        if used + people > brakes.max_per_day:
            reasons.append(
                _held(
                    "per_day",
                    f"With the {used:,} of the last 24 hours, {people:,} people would pass the daily limit of "
                    f"{brakes.max_per_day:,}.",
                    limit=brakes.max_per_day,
                )
            )
        reasons += _largest_group_shares(operation, brakes)
        reasons += _admins_left(operation)
        if "delete" in operation.action.split("+"):
            reasons.append(_held("delete", "Deleting accounts always needs an approval."))
    if is_administrative(operation):
        reasons.append(_held("administration", "Changing who is in an admin group always needs another person."))
    if operation.is_by_token and people > TOKEN_LIMIT:
        reasons.append(_held("token", f"A script's plan for more than {TOKEN_LIMIT} people needs an approval."))
    for gate in hooks.plan_gates:
        found = gate(operation)
        if found:
            reasons.append(_held(*found))
    return reasons


# Of smaller groups a run may well meet everybody.
GROUP_FROM = 20


def _taken_from(operation: Operation, *, besides_groups: Sequence[int]) -> QuerySet[Account]:
    """People of the plan whom an action takes access from, those held out of it left aside.

    `besides_groups`: admin groups (our keys) whose leaving does not count.
    """
    items = OperationItem.objects.filter(
        operation=operation, action__in=TAKING, status=OperationItem.Status.PENDING
    ).exclude(action="remove_from_admin_group", parameters__group_pk__in=list(besides_groups))
    return Account.objects.of(operation.organization).filter(pk__in=items.values("account"))


def _largest_group_shares(operation: Operation, brakes: Brakes) -> list[dict[str, Any]]:
    """The groups of which the plan would take more than the limit, the three worst by name."""
    if brakes.max_group_share_percent >= 100:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            """WITH taken AS MATERIALIZED (
                   SELECT DISTINCT account_id AS id FROM operations_operationitem
                   WHERE operation_id = %s AND action = ANY(%s) AND status = 'pending' AND account_id IS NOT NULL),
               lost AS (
                   SELECT g.id AS group_id, count(*) AS n FROM taken JOIN users_account a ON a.id = taken.id
                   CROSS JOIN LATERAL unnest(a.group_ids) AS g(id) GROUP BY g.id HAVING count(*) * 100 > %s * %s),
               sized AS (
                   SELECT lost.group_id, lost.n, count(*) AS members FROM lost
                   JOIN users_groupmembership m ON m.group_id = lost.group_id
                   JOIN users_account a ON a.id = m.account_id
                   WHERE a.vanished_at IS NULL AND a.account_status = 1 AND a.membership_status = 1
                   GROUP BY lost.group_id, lost.n)
               SELECT g.name, sized.n, sized.members FROM sized JOIN users_group g ON g.id = sized.group_id
               WHERE sized.members >= %s AND sized.n * 100 > %s * sized.members
               ORDER BY sized.n::float / sized.members DESC, g.name LIMIT 3""",
            [
                operation.pk,
                list(TAKING),
                brakes.max_group_share_percent,
                GROUP_FROM,
                GROUP_FROM,
                brakes.max_group_share_percent,
            ],
        )
        rows = cursor.fetchall()
    return [
        _held(
            "group_share",
            f"{lost:,} of the {members:,} people in {name} are more than the limit of "
            f"{brakes.max_group_share_percent} % of one group.",
            limit=brakes.max_group_share_percent,
        )
        for name, lost, members in rows
    ]


def _admins_left(operation: Operation) -> list[dict[str, Any]]:
    """A plan never leaves fewer than two active organisation admins, whatever let them into it (P15)."""
    admins = organization_admins(operation.organization)
    groups = Group.objects.of(operation.organization).filter(is_administrative=True)
    plain = [group.pk for group in groups if not gives_organization_admin(group)]
    taken = _taken_from(operation, besides_groups=plain).filter(pk__in=admins.values("pk")).count()
    if not taken or admins.count() - taken >= MIN_ADMINS:
        return []
    return [_held("admins_left", f"{TOO_FEW_ADMINS} Plan without them.")]


def protected_now(organization: Organization) -> list[int]:
    """Keys of the organisation's protected groups, as a plan notes them: another set voids what is held."""
    groups = Group.objects.of(organization).filter(protection__isnull=False)
    return list(groups.order_by("pk").values_list("pk", flat=True))


def _missing_protection(operation: Operation) -> list[dict[str, Any]]:
    """A protected group that is missing holds the plan: its members can no longer be told (DECISIONS.md §9)."""
    data = operation.frozen.get("selection")
    if not data or operation.is_undo:
        return []
    wanted = set(selection_from_json(data).protected_group_ids)
    organization = operation.organization
    wanted |= set(Group.objects.of(organization).filter(protection__isnull=False).values_list("pk", flat=True))
    gone = (
        Group.objects.of(organization).filter(pk__in=wanted, vanished_at__isnull=False).values_list("name", flat=True)
    )
    return [_held("protected_group_missing", f"The protected group {name} is no longer in Atlassian.") for name in gone]
