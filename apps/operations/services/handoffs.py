"""Hand-off: what the identity provider has to do, per operation, and what it gave back (B7).

A line is opened when an operation ends with something that AUM may not touch there, and closed by the sync that sees it
done. Access that AUM or the provider took and that is there again is flagged, told, and left alone by rules.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from apps.audit.services import EventRow, record_many
from apps.operations import hooks
from apps.operations.models import HandOff, LeftOut, Operation
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.organizations.services import raise_alert, resolve_alert
from apps.users.models import (
    Account,
    AccountStatus,
    ClaimStatus,
    Group,
    ManagementSource,
    MembershipStatus,
    SyncRun,
)
from aum.common.errors import DomainError

# How long after a run AUM looks for access that came back.
WATCHED_DAYS = 30
State = HandOff.State

# SQL over account `a` and a target: whether what the action wanted is so. `{target}` names the target's column.
_GROUP_HELD = (
    "EXISTS (SELECT 1 FROM users_group g JOIN organizations_directory d ON d.id = g.directory_id "
    "WHERE a.group_ids @> ARRAY[g.id] AND 'group:' || d.directory_id || '/' || g.group_id = {target})"
)
_PRODUCT_HELD = (
    "EXISTS (SELECT 1 FROM users_productaccess p WHERE p.account_id = a.id "
    "AND {target} IN ('product:' || p.product || '@' || p.resource, 'product:' || p.product))"
)


def _is_so(action: str, target: str) -> str:
    """SQL: the mirror shows the account in the state that the action leads to, or gone."""
    states = f"""CASE {action}
        WHEN 'suspend' THEN a.membership_status <> {MembershipStatus.ACTIVE.value}
        WHEN 'deactivate' THEN a.account_status <> {AccountStatus.ACTIVE.value}
        WHEN 'delete' THEN a.is_for_deletion OR a.account_status = {AccountStatus.CLOSED.value}
        WHEN 'remove_from_directory' THEN a.membership_status = {MembershipStatus.NO_MEMBERSHIP.value}
        WHEN 'remove_from_group' THEN NOT {_GROUP_HELD.format(target=target)}
        WHEN 'remove_from_admin_group' THEN NOT {_GROUP_HELD.format(target=target)}
        WHEN 'add_to_admin_group' THEN {_GROUP_HELD.format(target=target)}
        WHEN 'add_to_group' THEN {_GROUP_HELD.format(target=target)}
        WHEN 'remove_product_access' THEN NOT {_PRODUCT_HELD.format(target=target)}
        ELSE false END"""
    return f"(a.vanished_at IS NOT NULL OR {states})"


def note_finished(operation: Operation) -> None:
    """Open a line for each item and each left-out person of a live run that was handed off. Called as it ends."""
    if not operation.is_live:
        return
    products = [p for spec in operation.frozen.get("actions", ()) for p in spec.get("products", ())]
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO operations_handoff
                   (organization_id, operation_id, account_id, action, target, target_name, detail, state)
               SELECT i.organization_id, i.operation_id, i.account_id, i.action, i.target,
                      left(coalesce(i.parameters ->> 'name', i.parameters ->> 'product', ''), 300), i.detail, 'open'
               FROM operations_operationitem i
               WHERE i.operation_id = %s AND i.outcome = 'handed_off' AND i.account_id IS NOT NULL
                 AND NOT EXISTS (SELECT 1 FROM operations_handoff h
                                 WHERE h.account_id = i.account_id AND h.action = i.action AND h.target = i.target
                                   AND h.state IN ('open', 'came_back'))
               ORDER BY i.id  -- the list keeps the order of the run
               ON CONFLICT DO NOTHING""",
            [operation.pk],
        )
        opened = cursor.rowcount
        for product in dict.fromkeys(products):
            cursor.execute(
                """INSERT INTO operations_handoff
                       (organization_id, operation_id, account_id, action, target, target_name, detail, state)
                   SELECT l.organization_id, l.operation_id, l.account_id, 'remove_product_access', 'product:' || %s,
                          %s, l.detail, 'open'
                   FROM operations_leftout l
                   WHERE l.operation_id = %s AND l.reason = 'handed_off'
                     AND EXISTS (SELECT 1 FROM users_productaccess p
                                 WHERE p.account_id = l.account_id AND p.product = %s)
                     AND NOT EXISTS (SELECT 1 FROM operations_handoff h
                                     WHERE h.account_id = l.account_id AND h.target = 'product:' || %s
                                       AND h.state IN ('open', 'came_back'))
                   ORDER BY l.id
                   ON CONFLICT DO NOTHING""",
                [product, product, operation.pk, product, product],
            )
            opened += cursor.rowcount
    if opened:
        raise_alert(
            organization=operation.organization,
            kind="hand_off",
            severity="info",
            title=f"Run #{operation.number}: {opened:,} change{'' if opened == 1 else 's'} for the identity provider",
            detail="Do them there; the next sync closes the list.",
            link=f"/o/{operation.organization.slug}/hand-offs/?operation={operation.number}",
            dedup_key=f"hand_off:{operation.pk}",
        )
        for hook in hooks.on_handed_off:
            hook(operation)


def settle_after_sync(run: SyncRun) -> None:
    """Close what is done by now, and flag what came back. A sync without trust settles nothing."""
    if not run.is_trusted:
        return
    organization = run.organization
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"""UPDATE operations_handoff h SET state = 'done', changed_at = %s, changed_by = 'sync'
                FROM users_account a
                WHERE a.id = h.account_id AND h.organization_id = %s AND h.state IN ('open', 'came_back')
                  AND {_is_so("h.action", "h.target")} RETURNING h.id""",
            [timezone.now(), organization.pk],
        )
        done = [row[0] for row in cursor.fetchall()]
        cursor.execute(
            f"""UPDATE operations_handoff h SET state = 'came_back', changed_at = %s, changed_by = 'sync'
                FROM users_account a
                WHERE a.id = h.account_id AND h.organization_id = %s AND h.state = 'done'
                  AND h.changed_at > now() - interval '{WATCHED_DAYS} days' AND h.changed_at < %s
                  AND NOT {_is_so("h.action", "h.target")} RETURNING h.id""",
            [timezone.now(), organization.pk, run.started_at],
        )
        back = [row[0] for row in cursor.fetchall()]
        # What AUM itself took from people whom the provider manages, and nobody gave back through AUM since.
        cursor.execute(
            f"""INSERT INTO operations_handoff
                    (organization_id, operation_id, account_id, action, target, target_name, detail, state, changed_by)
                SELECT i.organization_id, i.operation_id, i.account_id, i.action, i.target,
                       left(coalesce(i.parameters ->> 'name', i.parameters ->> 'product', ''), 300),
                       'The identity provider gave it back.', 'came_back', 'sync'
                FROM operations_operationitem i JOIN users_account a ON a.id = i.account_id
                WHERE i.organization_id = %s AND i.outcome = 'done'
                  AND i.written_at > now() - interval '{WATCHED_DAYS} days'
                  AND i.finished_at < %s AND a.management_source = {ManagementSource.SYNCED.value}
                  AND i.action IN ('suspend', 'deactivate', 'remove_from_group', 'remove_from_admin_group',
                                   'remove_product_access', 'remove_from_directory')
                  AND NOT {_is_so("i.action", "i.target")}
                  AND NOT EXISTS (SELECT 1 FROM operations_operationitem later
                                  WHERE later.account_id = i.account_id AND later.id > i.id AND later.outcome = 'done')
                ON CONFLICT DO NOTHING RETURNING id""",
            [organization.pk, run.started_at],
        )
        back += [row[0] for row in cursor.fetchall()]
        _record(organization, HandOff.objects.filter(pk__in=done + back), Actor.system())
        _tell(organization)


def _record(organization: Organization, rows: object, actor: Actor, reason: str = "") -> None:
    record_many(
        organization=organization,
        rows=[
            EventRow(
                actor=actor,
                action=f"hand_off.{row.state}",
                target_kind="account",
                target_ref=row.account.account_id,
                target_name=row.account.name,
                target_email=row.account.email or "",
                reason=reason or row.detail,
                after={"action": row.action, "target": row.target_name or row.target},
                operation_id=row.operation_id,
                operation_number=row.operation.number,
            )
            for row in rows.select_related("account", "operation")  # type: ignore[attr-defined]
        ],
    )


def _tell(organization: Organization) -> None:
    """One alert while access that came back is not looked at."""
    count = HandOff.objects.of(organization).filter(state=State.CAME_BACK).count()
    if not count:
        resolve_alert(organization=organization, dedup_key="came_back")
        return
    raise_alert(
        organization=organization,
        kind="came_back",
        severity="warning",
        title=f"Access of {count:,} user{'' if count == 1 else 's'} came back",
        detail="The identity provider gave it again. Rules leave it alone until that is changed, or the line closed.",
        link=f"/o/{organization.slug}/hand-offs/?state=came_back",
        dedup_key="came_back",
    )


class AlreadyClosed(DomainError):
    code = "already_closed"
    detail = "This line is closed already."


def close_hand_off(*, hand_off: HandOff, actor: Actor, reason: str = "") -> HandOff:
    """Close a line by hand: rules may act on the person again. Raises AlreadyClosed."""
    with transaction.atomic():
        closed = HandOff.objects.filter(pk=hand_off.pk, state__in=[State.OPEN, State.CAME_BACK]).update(
            state=State.CLOSED, changed_at=timezone.now(), changed_by=actor.name[:254]
        )
        if not closed:
            raise AlreadyClosed
        _record(hand_off.organization, HandOff.objects.filter(pk=hand_off.pk), actor, reason)
        _tell(hand_off.organization)
    hand_off.refresh_from_db()
    return hand_off


def leave_to_provider(operation: Operation) -> None:
    """Take out of a rule's plan who waits for the identity provider, or whose access came back (never fought over)."""
    if operation.rule_id is None or operation.undo_of_id:
        return
    waiting = HandOff.objects.filter(
        account=OuterRef("account"), action=OuterRef("action"), state__in=[State.OPEN, State.CAME_BACK]
    ).filter(Q(target=OuterRef("target")) | Q(target="") | Q(action="remove_product_access"))
    items = operation.items.filter(Exists(waiting))
    found = list(items.values_list("account_id", flat=True).distinct())
    if not found:
        return
    back = set(HandOff.objects.filter(account__in=found, state=State.CAME_BACK).values_list("account_id", flat=True))
    items.delete()
    LeftOut.objects.bulk_create(
        [
            LeftOut(
                organization_id=operation.organization_id,
                operation=operation,
                account_id=pk,
                reason="came_back" if pk in back else "handed_off",
                detail="See Hand-off: change it in the identity provider, or close the line there.",
            )
            for pk in found
            if pk
        ],
        batch_size=1000,
        ignore_conflicts=True,
    )


@dataclass(frozen=True)
class Coverage:
    """How many people AUM can act on itself. `by_provider`: managed by an identity provider or a synced directory."""

    total: int
    external: int
    by_provider: int
    synced_groups: int

    @property
    def itself(self) -> int:
        return self.total - self.by_provider


def coverage(organization: Organization) -> Coverage:
    """Counts of the mirror: people, external ones, those of the identity provider, and groups that it manages."""
    people = Account.objects.of(organization).filter(vanished_at__isnull=True)
    return Coverage(
        total=people.count(),
        external=people.filter(claim_status=ClaimStatus.UNMANAGED).count(),
        by_provider=people.filter(management_source=ManagementSource.SYNCED).count(),
        synced_groups=Group.objects.of(organization).filter(is_synced=True, vanished_at__isnull=True).count(),
    )
