"""Making plans: the row first, then the planning by a worker, which another one takes up after a kill."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Max, Q
from django.utils import timezone

from apps.operations import hooks, planning
from apps.operations.actions import OF_GROUPS, REGISTRY, action_named
from apps.operations.models import LeftOut, Operation, OperationItem
from apps.operations.selection import (
    ActionSpec,
    InviteSelection,
    Limits,
    RuleRef,
    Selection,
    selection_from_json,
    selection_to_json,
)
from apps.operations.services import finishing, invites
from apps.operations.services.administration import refuse_unless_by_owner
from apps.operations.services.gate import gate_plan, protected_now
from apps.operations.services.hydration import plan_product_access
from apps.operations.services.recording import record_operation
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.organizations.selectors import connection_state
from apps.organizations.services import FromFileOnly, NotConnected
from apps.users.models import Group
from apps.users.selectors import latest_merged_sync
from aum.atlassian.errors import AtlassianError
from aum.common.errors import DomainError, InvalidInput
from aum.common.tasks import enqueue_on_commit

logger = logging.getLogger(__name__)

BEAT_SECONDS = 60


class OperationAlreadyRunning(DomainError):
    code = "operation_already_running"
    detail = "This rule has a run that is not finished. Wait for it, or stop it first."


class PlanChanged(DomainError):
    code = "plan_changed"
    detail = "This is not the plan that you saw. Open it again and check what changed."


class PlanExpired(DomainError):
    code = "plan_expired"
    detail = "This preview has expired. Preview again, then apply the new one."


class NotApplicable(DomainError):
    code = "not_applicable"
    detail = "Only a finished preview can be applied."


def _next_number(organization: Organization) -> int:
    """The organisation's next run number; the lock holds until the caller's transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('operation-number'), %s)", [organization.pk])
    return (Operation.objects.of(organization).aggregate(n=Max("number"))["n"] or 0) + 1


def new_operation(organization: Organization, **fields: Any) -> Operation:
    merged = latest_merged_sync(organization)
    return Operation.objects.create(
        organization=organization,
        number=_next_number(organization),
        sync_run_id=merged.pk if merged else None,
        **fields,
    )


def started_by(actor: Actor, operator: Operator | None, is_by_token: bool) -> dict[str, Any]:
    return {"actor": operator, "actor_text": actor.name, "actor_ip": actor.ip_address, "is_by_token": is_by_token}


def _validated_actions(organization: Organization, actions: Sequence[ActionSpec]) -> None:
    """Raises InvalidInput for unknown actions and targets, and for adds that would give administration (P15)."""
    if not actions:
        raise InvalidInput(fields={"actions": ["Choose an action."]})
    for spec in actions:
        action_named(spec.name)
        if spec.name in OF_GROUPS:
            if not spec.group_ids:
                raise InvalidInput(fields={"groups": ["Choose at least one group."]})
            groups = list(Group.objects.of(organization).filter(pk__in=spec.group_ids, vanished_at__isnull=True))
            if len(groups) != len(set(spec.group_ids)):
                raise InvalidInput(fields={"groups": ["A chosen group no longer exists. Choose again."]})
            refusals = [refusal for group in groups if (refusal := planning.group_refusal(group, spec.name))]
            if refusals:
                raise InvalidInput(fields={"groups": refusals})
        if spec.name == "remove_product_access" and not spec.products:
            raise InvalidInput(fields={"products": ["Choose at least one product."]})
        if spec.name == "grant_product_access":
            raise InvalidInput(fields={"action": ["Product access is given back by undo, or given by a group."]})


@transaction.atomic
def plan_operation(
    *,
    organization: Organization,
    kind: str,
    mode: str,
    initiator: str,
    actor: Actor,
    operator: Operator | None,
    name: str,
    actions: Sequence[ActionSpec],
    selection: Selection,
    reason: str = "",
    rule: RuleRef | None = None,
    limits: Limits | None = None,
    is_by_token: bool = False,
    sentence: str = "",
) -> Operation:
    """A new operation in status planning; a worker makes the plan (DESIGN.md §4).

    Raises InvalidInput, NotAllowed, NotConnected, FromFileOnly, and OperationAlreadyRunning when the rule has an
    unfinished run. A held plan of the same rule is superseded.
    """
    refuse_unless_by_owner(organization, [spec.name for spec in actions], actor=actor, operator=operator)
    _validated_actions(organization, actions)
    invites.validate(organization, actions, selection)
    if organization.is_from_file:
        _refuse_of_file(mode, actions)
    elif not connection_state(organization).is_usable:
        raise NotConnected("Atlassian does not accept the saved credentials. Check them under Settings first.")
    if rule is not None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('operation-rule'), %s)", [rule.id])
        open_one = Operation.objects.of(organization).filter(rule_id=rule.id, status__in=Operation.OPEN).first()
        if open_one is not None:
            if open_one.status != Operation.Status.HELD or open_one.first_write_at:
                raise OperationAlreadyRunning
            finishing.close(open_one, Operation.Status.SUPERSEDED, "A newer plan of the same rule took its place.")
    ordered = sorted(actions, key=lambda spec: REGISTRY[spec.name].rank)
    operation = new_operation(
        organization,
        kind=kind,
        mode=mode,
        initiator=initiator,
        name=name,
        action="+".join(spec.name for spec in ordered),
        reason=reason,
        rule_id=rule.id if rule else None,
        rule_version=rule.version if rule else None,
        sentence=sentence,
        frozen={
            "selection": selection_to_json(selection),
            "actions": [
                {"name": s.name, "group_ids": s.group_ids, "products": s.products, "sites": s.sites} for s in ordered
            ],
            "limits": (limits or Limits()).to_json(),
            "rule_author_id": rule.author_id if rule else None,
        },
        request={"make": "selection"},
        **started_by(actor, operator, is_by_token),
    )
    record_start(operation, actor)
    enqueue_on_commit("operations.plan", operation_id=operation.pk)
    return operation


def _refuse_of_file(mode: str, actions: Sequence[ActionSpec]) -> None:
    """An organisation that a file filled has previews alone: raises FromFileOnly for whatever would write."""
    if mode != Operation.Mode.SAFE:
        raise FromFileOnly
    if any(spec.name == "invite" for spec in actions):
        raise FromFileOnly("Nobody can be invited: this organisation comes from an export file. Connect it first.")


def record_start(operation: Operation, actor: Actor) -> None:
    after = {"mode": operation.mode, "action": operation.action}
    record_operation(operation, actor, "planned", outcome="info", reason=operation.reason, after=after)


@transaction.atomic
def apply_preview(
    *, operation: Operation, plan_hash: str, actor: Actor, operator: Operator | None, is_by_token: bool = False
) -> Operation:
    """A live operation with exactly the preview's items. Raises NotApplicable, PlanChanged, PlanExpired."""
    preview = Operation.objects.select_for_update().select_related("organization").get(pk=operation.pk)
    if preview.status != Operation.Status.PREVIEWED or not preview.people_count:
        raise NotApplicable("This preview holds nobody." if preview.status == Operation.Status.PREVIEWED else None)
    if preview.frozen.get("what_if"):
        raise NotApplicable("This shows what other days would do. Change the rule, then preview and apply it.")
    if preview.plan_hash != plan_hash:
        raise PlanChanged
    if preview.expires_at and preview.expires_at <= timezone.now():
        raise PlanExpired(preview.status_detail or None)
    taken = preview.applied_by.exclude(
        status__in=[
            Operation.Status.CANCELLED,
            Operation.Status.REJECTED,
            Operation.Status.EXPIRED,
            Operation.Status.SUPERSEDED,
        ]
    ).first()
    if taken is not None:
        raise NotApplicable(f"This preview was applied by run #{taken.number}.")
    if (
        preview.rule_id
        and Operation.objects.of(preview.organization)
        .filter(rule_id=preview.rule_id, status__in=Operation.OPEN)
        .exists()
    ):
        raise OperationAlreadyRunning
    request = {"make": "copy", "source": preview.pk}
    return derive(preview, request, actor, operator, is_by_token, applies=preview, undo_of=preview.undo_of)


def derive(
    source: Operation,
    request: dict[str, Any],
    actor: Actor,
    operator: Operator | None,
    is_by_token: bool,
    **links: Any,
) -> Operation:
    """An operation made from another one's rows: live, unless `links` say otherwise.

    Raises FromFileOnly, and NotAllowed for a change of administration that is not an owner's.
    """
    names = str(links.get("action", source.action)).split("+")
    is_undo = links.get("undo_of") is not None
    refuse_unless_by_owner(source.organization, names, actor=actor, operator=operator, is_undo=is_undo)
    if source.organization.is_from_file and links.get("mode", Operation.Mode.LIVE) != Operation.Mode.SAFE:
        raise FromFileOnly
    fields: dict[str, Any] = {
        "kind": source.kind,
        "mode": Operation.Mode.LIVE,
        "initiator": Operation.Initiator.MANUAL,
        "name": source.name,
        "action": source.action,
        "reason": source.reason,
        "rule_id": source.rule_id,
        "rule_version": source.rule_version,
        "sentence": source.sentence,
        "frozen": source.frozen,
        "request": request,
    }
    if source.kind == Operation.Kind.SCHEDULED_CLEANUP:
        fields["kind"] = Operation.Kind.AUTOMATION_RULE
    operation = new_operation(source.organization, **{**fields, **links}, **started_by(actor, operator, is_by_token))
    record_start(operation, actor)
    enqueue_on_commit("operations.plan", operation_id=operation.pk)
    return operation


@transaction.atomic
def retry_failed(
    *,
    operation: Operation,
    actor: Actor,
    operator: Operator | None,
    account_ids: Sequence[str] | None = None,
    is_by_token: bool = False,
) -> Operation:
    """A new live operation with what failed, of everybody or of some (Atlassian ids).

    Raises NotApplicable when the run is open or nothing of it failed.
    """
    if operation.is_open or not operation.is_live:
        raise NotApplicable("Only a finished run can be retried.")
    failed = operation.items.filter(outcome__in=RETRYABLE)
    if account_ids is not None:
        failed = failed.filter(subject__in=list(account_ids))
    if not failed.exists():
        raise NotApplicable("Nothing failed in this run." if account_ids is None else "Nothing failed for this user.")
    request = {
        "make": "copy",
        "source": operation.pk,
        "outcomes": list(RETRYABLE),
        "account_ids": None if account_ids is None else list(account_ids),
    }
    return derive(
        operation,
        request,
        actor,
        operator,
        is_by_token,
        retry_of=operation,
        rule_id=None,
        rule_version=None,
        undo_of=operation.undo_of,
    )


RETRYABLE = (
    OperationItem.Outcome.FAILED.value,
    OperationItem.Outcome.FAILED_LICENCE_LIMIT.value,
    OperationItem.Outcome.UNRESOLVED.value,
    OperationItem.Outcome.NOT_ATTEMPTED.value,
)


# --- planning, by a worker ------------------------------------------------------------------------------------------


def run_planning(operation_id: int) -> None:
    """Make the plan of an operation in status planning; a no-op for any other. Safe to call twice."""
    now = timezone.now()
    taken = (
        Operation.objects.filter(pk=operation_id, status=Operation.Status.PLANNING)
        .filter(Q(driven_at__isnull=True) | Q(driven_at__lt=now - timedelta(seconds=BEAT_SECONDS)))
        .update(driven_at=now)
    )
    if not taken:
        return
    operation = Operation.objects.select_related("organization").get(pk=operation_id)
    try:
        _make_items(operation, operation.created_at)
    except (AtlassianError, DomainError) as error:
        said = f"{error.detail.strip().rstrip('.')}. {getattr(error, 'advice', '')}".strip()
        finishing.close(operation, Operation.Status.FAILED, f"The plan could not be made: {said}")
        return
    _freeze(operation)


def _make_items(operation: Operation, now: datetime) -> None:
    """Write items and left-out rows. What a killed planning left is removed first, but for people already read."""
    request = operation.request
    if not request.get("is_hydrating"):
        with transaction.atomic():
            OperationItem.objects.filter(operation=operation).delete()
            LeftOut.objects.filter(operation=operation).delete()
            if request["make"] == "copy":
                source = Operation.objects.get(pk=request["source"])
                planning.copy_items(
                    operation, source, outcomes=request.get("outcomes", ()), account_ids=request.get("account_ids")
                )
                if operation.applies_id:
                    planning.copy_left_out(operation, source)
                return
            if request["make"] == "inverse":
                sources = list(Operation.objects.filter(pk__in=request["sources"]).order_by("id"))
                planning.insert_inverse(operation, sources, request["account_ids"])
                for source in sources:
                    invites.insert_inverse(operation, source, request["account_ids"])
                return
            selection, actions = _asked_for(operation)
            if isinstance(selection, InviteSelection):
                invites.insert_items(operation, selection, actions[0])
            else:
                planning.insert_plan(operation, selection, actions, now)
            request["is_hydrating"] = True
            Operation.objects.filter(pk=operation.pk).update(request=request)
    selection, actions = _asked_for(operation)
    for spec in actions:
        if spec.name == "remove_product_access":
            plan_product_access(operation, selection, spec, now)


def _asked_for(operation: Operation) -> tuple[Selection, list[ActionSpec]]:
    actions = [ActionSpec.from_json(data) for data in operation.frozen["actions"]]
    return selection_from_json(operation.frozen["selection"]), actions


def _freeze(operation: Operation) -> None:
    """Hash the plan and let it through the gate: previewed, held, or queued."""
    with transaction.atomic():
        operation = Operation.objects.select_for_update().select_related("organization").get(pk=operation.pk)
        if operation.status != Operation.Status.PLANNING:
            return
        now = timezone.now()
        for hook in hooks.on_items_made:
            hook(operation)
        plan_hash, items, people = planning.freeze(operation)
        operation.plan_hash = plan_hash
        operation.planned_count = items
        operation.people_count = people
        operation.licensed_count = planning.licensed_people(operation.organization).count()
        operation.left_out = planning.left_out_counts(operation)
        operation.seats = planning.seats_of(operation)
        operation.frozen["protected_groups"] = protected_now(operation.organization)
        operation.planned_at = now
        operation.driven_at = None
        operation.progress_done = operation.progress_total = 0
        if operation.mode == Operation.Mode.SAFE:
            operation.expires_at = now + timedelta(hours=operation.organization.preview_hours)
            operation.save()
            finishing.close(operation, Operation.Status.PREVIEWED, "")
            return
        operation.held_reasons = gate_plan(operation)
        if operation.held_reasons:
            operation.status = Operation.Status.HELD
            operation.expires_at = now + timedelta(days=operation.organization.held_plan_days)
            operation.save()
            finishing.announce_hold(operation)
            return
        operation.status = Operation.Status.QUEUED
        operation.save()
        if operation.is_undo and operation.initiator == Operation.Initiator.MANUAL:
            finishing.undo_begins(operation)
        enqueue_on_commit("operations.execute", operation_id=operation.pk)


@transaction.atomic
def supersede_open_of_rule(*, organization: Organization, rule_id: int, why: str) -> None:
    """A rule changed: its plans that wrote nothing yet are void, and its previews can no longer be applied."""
    unwritten = [
        Operation.Status.PLANNING,
        Operation.Status.HELD,
        # Approved, but waiting for the kill switch or a key: what was approved is no longer what the rule says.
        Operation.Status.QUEUED,
        Operation.Status.WAITING,
    ]
    waiting = Operation.objects.of(organization).filter(
        rule_id=rule_id, first_write_at__isnull=True, started_at__isnull=True, status__in=unwritten
    )
    for operation in waiting.select_for_update():
        finishing.close(operation, Operation.Status.SUPERSEDED, why)
    Operation.objects.of(organization).filter(
        rule_id=rule_id, status=Operation.Status.PREVIEWED, expires_at__gt=timezone.now()
    ).update(expires_at=timezone.now(), status_detail=why)
