"""Deciding held plans: bound to the hash of exactly what runs, by another person (P5, DECISIONS.md §11)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone

from apps.operations import planning
from apps.operations.models import Approval, Operation, OperationItem
from apps.operations.selection import selection_from_json
from apps.operations.services import finishing
from apps.operations.services.administration import is_administrative
from apps.operations.services.gate import protected_now, takes_access
from apps.operations.services.outcomes import finish_unwritten
from apps.operations.services.plans import PlanChanged, PlanExpired
from apps.operations.services.recording import record_operation
from apps.operators.models import Operator
from apps.operators.permissions import Permission
from apps.operators.selectors import approvers, permissions_of
from apps.organizations.recorder import Actor
from apps.organizations.services import resolve_alert
from apps.users.selectors import data_trust
from aum.common.errors import DomainError, InvalidInput
from aum.common.tasks import enqueue_on_commit

# Above this share of people who no longer match, an old plan has to be made anew.
MAX_DROPPED_PERCENT = 20


class NotHeld(DomainError):
    code = "not_held"
    detail = "This plan is not waiting for an approval."


class MayNotApprove(DomainError):
    code = "may_not_approve"
    status = 403
    detail = "You cannot decide about this plan."


class NotTrusted(DomainError):
    code = "data_not_trusted"
    detail = (
        "The data is not trusted, so nobody can release this plan. Start a sync, or accept the new state as baseline."
    )


@dataclass(frozen=True)
class Refusal:
    """Why somebody cannot decide about a plan."""

    code: str
    sentence: str


def may_approve(operation: Operation, operator: Operator) -> Refusal | None:
    """None when `operator` may decide about this held plan, else why not."""
    organization = operation.organization
    if Permission.APPROVE not in permissions_of(operator, organization):
        return Refusal("role", "Your role does not include approvals. Ask an approver or an owner.")
    if organization.is_one_operator:
        if "add_to_admin_group" in operation.action.split("+") and not operation.is_undo:
            return Refusal("second_person", "Giving administration needs a second person. Add an approver first.")
        return None
    if operator.pk in (operation.actor_id, operation.frozen.get("rule_author_id")):
        return Refusal("author", "Nobody approves a plan of their own. Another approver has to decide.")
    if not approvers(organization).filter(pk=operator.pk).exists():
        return Refusal("new", "Your role is younger than 24 hours; until then you cannot approve.")
    return None


def approval_hash(operation: Operation) -> tuple[str, int]:
    """(hash, people) that a decision binds to: the plan's, or the rest's once a run has written."""
    if operation.first_write_at is None:
        return planning.held_hash(operation)
    return planning.rest_hash(operation)


def _lock_held(operation: Operation) -> Operation:
    locked: Operation = Operation.objects.select_for_update().select_related("organization").get(pk=operation.pk)
    if locked.status != Operation.Status.HELD:
        raise NotHeld
    return locked


@transaction.atomic
def approve_operation(
    *,
    operation: Operation,
    plan_hash: str,
    operator: Operator,
    actor: Actor,
    confirm_count: int | None = None,
    password: str | None = None,
    reason: str = "",
) -> Operation:
    """Release exactly the plan with `plan_hash`. In one-operator mode the count is typed and the password given again.

    Raises NotHeld, MayNotApprove, PlanChanged, PlanExpired, NotTrusted, InvalidInput.
    """
    locked = _lock_held(operation)
    refusal = may_approve(locked, operator)
    if refusal:
        raise MayNotApprove(refusal.sentence)
    if is_administrative(locked) and actor.kind != "operator":
        raise MayNotApprove("A change of administration is approved by a person who signed in. Use the page.")
    expected, count = approval_hash(locked)
    if plan_hash != expected:
        raise PlanChanged
    if locked.expires_at and locked.expires_at <= timezone.now():
        raise PlanExpired("This plan waited too long for an approval. Run the rule again.")
    if locked.first_write_at is None and planning.freeze(locked)[0] != locked.plan_hash:
        raise PlanChanged("The rows of this plan are not those that were frozen. Make a new plan.")
    one_operator = locked.organization.is_one_operator
    if one_operator:
        _confirm_alone(operator, actor, count, confirm_count, password)
    if takes_access(locked):
        trust = data_trust(locked.organization)
        if not trust.ok:
            raise NotTrusted(f"{' '.join(trust.reasons)} {NotTrusted.detail}")
        if locked.first_write_at is None and _protection_changed(locked):
            raise PlanChanged("The protected groups changed since the plan was made. Make a new plan.")
        if any(held["code"] == "protected_group_missing" for held in locked.held_reasons):
            raise NotTrusted("A protected group is missing. Correct the protected groups and plan again.")
        _refuse_if_stale(locked)
    Approval.objects.create(
        organization=locked.organization,
        operation=locked,
        plan_hash=plan_hash,
        decision=Approval.Decision.APPROVED,
        decided_by=operator,
        decided_by_text=actor.name,
        decided_at=timezone.now(),
        reason=reason,
        count=count,
        is_one_operator=one_operator,
    )
    Operation.objects.filter(pk=locked.pk).update(
        status=Operation.Status.QUEUED, is_approved=True, driven_at=None, waiting_until=None
    )
    record_operation(locked, actor, "approved", reason=reason, after={"people": count})
    resolve_alert(organization=locked.organization, dedup_key=f"held:{locked.pk}", by=actor.name)
    if locked.is_undo and locked.first_write_at is None:
        finishing.undo_begins(locked)
    enqueue_on_commit("operations.execute", operation_id=locked.pk)
    locked.refresh_from_db()
    return locked


def _protection_changed(operation: Operation) -> bool:
    noted = operation.frozen.get("protected_groups")
    return noted is not None and noted != protected_now(operation.organization)


@transaction.atomic
def hold_rows(
    *, operation: Operation, account_ids: Sequence[str], reason: str, operator: Operator, actor: Actor
) -> Operation:
    """Take single people out of a held plan before the rest of it is decided (outcome skipped_held_row).

    By who may decide about the plan, or by its author. The approval then binds to the hash of what is left. Raises
    NotHeld, MayNotApprove, InvalidInput.
    """
    locked = _lock_held(operation)
    refusal = may_approve(locked, operator)
    if refusal and operator.pk != locked.actor_id:
        raise MayNotApprove(refusal.sentence)
    if not reason.strip():
        raise InvalidInput(fields={"reason": ["Say why these users are held back. It stands in the audit log."]})
    pending = locked.items.filter(status="pending")
    chosen = list(pending.filter(subject__in=list(account_ids)).select_related("account").order_by("pk"))
    if not chosen:
        raise InvalidInput(fields={"accounts": ["Choose at least one user who is still in the plan."]})
    if not pending.exclude(pk__in=[item.pk for item in chosen]).exists():
        raise InvalidInput(fields={"accounts": ["That would leave nobody. Reject the plan instead."]})
    finish_unwritten(
        locked, chosen, OperationItem.Outcome.SKIPPED_HELD_ROW, f"Held back by {actor.name}: {reason.strip()}", actor
    )
    record_operation(
        locked, actor, "rows_held", reason=reason.strip(), after={"people": len({item.subject for item in chosen})}
    )
    Operation.objects.filter(pk=locked.pk).update(seats=planning.seats_of(locked))
    locked.refresh_from_db()
    return locked


def _confirm_alone(
    operator: Operator, actor: Actor, count: int, confirm_count: int | None, password: str | None
) -> None:
    errors: dict[str, list[str]] = {}
    if actor.kind == "token":
        raise MayNotApprove("A token cannot give the confirmation that one-operator mode asks for. Use the page.")
    if confirm_count != count:
        errors["confirm_count"] = [f"Type {count}, the number of people in this plan."]
    if not password or not operator.check_password(password):
        errors["password"] = ["Enter your password once more."]
    if errors:
        raise InvalidInput(fields=errors)


def _refuse_if_stale(operation: Operation) -> None:
    """People who dropped out are skipped at their turn; when they are many, the plan is no longer what was approved."""
    data = operation.frozen.get("selection")
    pending = operation.items.filter(status="pending")
    pks = set(pending.exclude(account=None).values_list("account_id", flat=True))
    if not data or operation.is_undo or not pks:
        return
    selection = selection_from_json(data)
    still: set[int] = set()
    for name in set(operation.action.split("+")):
        products = pending.filter(action=name).values_list("parameters__product", flat=True).distinct()
        for product in set(products):
            rows = planning.candidates(
                operation.organization, selection, name, timezone.now(), product=product, account_pks=pks
            )
            still |= set(rows.filter(out=planning.IN).values_list("pk", flat=True))
    dropped = len(pks) - len(still)
    if dropped * 100 > MAX_DROPPED_PERCENT * len(pks):
        raise PlanChanged(f"{dropped:,} of {len(pks):,} people no longer match. Run the rule again for a new plan.")


@transaction.atomic
def reject_operation(*, operation: Operation, operator: Operator, actor: Actor, reason: str) -> Operation:
    """End a held plan. The author may withdraw it; anybody else needs the right to approve. A reason is required."""
    locked = _lock_held(operation)
    refusal = may_approve(locked, operator)
    if refusal and operator.pk != locked.actor_id:
        raise MayNotApprove(refusal.sentence)
    if not reason.strip():
        raise InvalidInput(fields={"reason": ["Say why, so that its author can do better."]})
    expected, count = approval_hash(locked)
    Approval.objects.create(
        organization=locked.organization,
        operation=locked,
        plan_hash=expected,
        decision=Approval.Decision.REJECTED,
        decided_by=operator,
        decided_by_text=actor.name,
        decided_at=timezone.now(),
        reason=reason.strip(),
        count=count,
    )
    locked.items.filter(status="pending").update(
        status="finished", outcome="not_attempted", detail="The plan was rejected.", finished_at=timezone.now()
    )
    finishing.close(locked, Operation.Status.REJECTED, reason.strip(), actor=actor)
    locked.refresh_from_db()
    return locked
