"""Who administers something: changed by an owner's hand alone, with a second person, never below two admins (P15)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.db.models import Q, QuerySet

from apps.operations.actions import ADMINISTRATIVE
from apps.operations.models import Operation, OperationItem
from apps.operators.models import Operator
from apps.operators.permissions import Permission
from apps.operators.selectors import permissions_of
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.users.models import Account, AccountStatus, Group
from apps.users.products import ORG_ADMIN_ROLES, role_name
from apps.users.selectors import latest_merged_sync
from aum.common.errors import NotAllowed

Outcome = OperationItem.Outcome
# An organisation keeps at least this many active admins.
MIN_ADMINS = 2
TOO_FEW_ADMINS = f"Fewer than {MIN_ADMINS} organisation admins would be left."


def is_administrative(operation: Operation) -> bool:
    """Whether the operation changes who is in a group that grants administration."""
    return not ADMINISTRATIVE.isdisjoint(operation.action.split("+"))


def refuse_unless_by_owner(
    organization: Organization,
    names: Iterable[str],
    *,
    actor: Actor,
    operator: Operator | None,
    is_undo: bool = False,
) -> None:
    """Raises NotAllowed where `names` hold a change of administration that is not an owner's own, by hand.

    An owner alone gives nobody administration; what they took they can give back, after typing the count.
    """
    wanted = ADMINISTRATIVE.intersection(names)
    if not wanted:
        return
    if actor.kind != "operator" or operator is None:
        raise NotAllowed(
            "Who is in a group that grants administration is changed by an owner who signed in, not by a rule, file, "
            "script, command or request."
        )
    if Permission.OWN not in permissions_of(operator, organization):
        raise NotAllowed("Only an owner changes who is in a group that grants administration. Ask one.")
    if organization.is_one_operator and "add_to_admin_group" in wanted and not is_undo:
        raise NotAllowed(
            "Giving administration needs a second person, and this organisation has one operator. Add an approver "
            "under Settings, People, or do it in Atlassian Administration."
        )


def gives_organization_admin(group: Group) -> bool:
    """Whether the group makes its members organisation admins, by its grants as last read."""
    return any(role_name(grant["role"]) in ORG_ADMIN_ROLES for grant in group.grants)


def organization_admins(organization: Organization) -> QuerySet[Account]:
    """Active organisation admins, as the mirror shows them."""
    return Account.objects.of(organization).filter(
        is_org_admin=True, vanished_at__isnull=True, account_status=AccountStatus.ACTIVE
    )


def refused_now(operation: Operation, items: Sequence[OperationItem]) -> dict[int, str]:
    """Item key → why a change of administration is not written after all, of the items of a claimed chunk.

    Its author may have lost the role, its approval must stand, and two organisation admins stay. Those whom any run
    takes at this moment, or took since the last sync, count as gone already: the mirror may still show them as admins.
    """
    own = [item for item in items if item.action in ADMINISTRATIVE]
    if not own:
        return {}
    if operation.actor is None or Permission.OWN not in permissions_of(operation.actor, operation.organization):
        return {item.pk: "Who started this is no longer an owner." for item in own}
    if not operation.is_approved:
        return {item.pk: "Nobody approved this change of administration." for item in own}
    leaving = [item for item in own if item.action == "remove_from_admin_group"]
    groups = Group.objects.in_bulk([item.parameters.get("group_pk") or 0 for item in leaving])
    leaving = [
        item
        for item in leaving
        if (group := groups.get(item.parameters.get("group_pk") or 0)) is None or gives_organization_admin(group)
    ]
    if not leaving:
        return {}
    left = set(organization_admins(operation.organization).values_list("pk", flat=True))
    left -= _being_taken(operation.organization, besides=leaving)
    refused = {}
    for item in leaving:
        if item.account_id in left and len(left) <= MIN_ADMINS:
            refused[item.pk] = f"{TOO_FEW_ADMINS} Make somebody else an admin first."
        else:
            left.discard(item.account_id or 0)
    return refused


def _being_taken(organization: Organization, *, besides: Sequence[OperationItem]) -> set[int]:
    """Accounts whose administration any run is taking, or took since the data was read."""
    under_way = Q(status__in=(OperationItem.Status.CLAIMED, OperationItem.Status.IN_DOUBT))
    merged = latest_merged_sync(organization)
    if merged is not None and merged.started_at is not None:
        under_way |= Q(written_at__gt=merged.started_at, outcome__in=(Outcome.DONE, Outcome.UNRESOLVED))
    rows = OperationItem.objects.of(organization).filter(under_way, action="remove_from_admin_group")
    rows = rows.exclude(pk__in=[item.pk for item in besides])
    return {pk for pk in rows.values_list("account_id", flat=True) if pk is not None}
