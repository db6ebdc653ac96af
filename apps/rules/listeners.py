"""What rules do when operations tell them something; registered in `RulesConfig.ready`."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from apps.audit.services import record
from apps.operations.actions import REGISTRY
from apps.operations.models import Operation, OperationItem
from apps.operations.planning import leave_out
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.organizations.services import raise_alert, resolve_alert
from apps.rules.conflicts import gentler
from apps.rules.models import CleanupRule
from apps.rules.services import pause_rule
from apps.rules.services.regret import pause_if_regretted
from apps.users.models import Account


def pause_rule_of_undone_run(undone: Operation) -> None:
    """The rule behind a run that is being undone pauses, so that it does not take everything again at its next time."""
    run = undone
    while run.rule_id is None and run.retry_of is not None:
        run = run.retry_of
    rule = CleanupRule.objects.of(undone.organization).filter(pk=run.rule_id, deleted_at__isnull=True).first()
    if rule is not None:
        reason = f"Run #{undone.number} of this rule was undone."
        pause_rule(rule=rule, reason=reason, actor=Actor.system())


def note_finished_run(operation: Operation) -> None:
    """A live run of a rule that ended is its last run, such as a preview of it that somebody applied.

    After the commit: operations holds its own row locked here, and firing takes the two locks the other way round.
    """
    if operation.rule_id is not None:
        resolve_alert(organization=operation.organization, dedup_key=f"run_silent:{operation.pk}")
    if operation.rule_id is not None and operation.is_live:
        transaction.on_commit(lambda: _stamp(operation))
        _note_effect(operation)
    elif operation.is_live and _gives(operation):
        transaction.on_commit(lambda: _look_for_regret(operation))


def _stamp(operation: Operation) -> None:
    is_newer = Q(last_operation_number__isnull=True) | Q(last_operation_number__lt=operation.number)
    CleanupRule.objects.of(operation.organization).filter(is_newer, pk=operation.rule_id).update(
        last_run_at=operation.created_at, last_operation_number=operation.number
    )


def _note_effect(operation: Operation) -> None:
    """A run that planned people and changed nothing is no success: somebody should look at why (B25)."""
    key = f"rule_no_effect:{operation.rule_id}"
    if operation.status == Operation.Status.NO_EFFECT and operation.people_count:
        people = f"{operation.people_count:,} {'person was' if operation.people_count == 1 else 'people were'}"
        raise_alert(
            organization=operation.organization,
            kind="rule_no_effect",
            severity="warning",
            title=f"Run #{operation.number} {operation.name} had no effect",
            detail=f"{people} planned and nobody changed. Open the run to see why each was skipped.",
            link=operation.get_absolute_url(),
            dedup_key=key,
        )
    elif operation.status in (Operation.Status.SUCCEEDED, Operation.Status.PARTIAL_FAILURE):
        resolve_alert(organization=operation.organization, dedup_key=key)


def _gives(operation: Operation) -> bool:
    return any(name in REGISTRY and not REGISTRY[name].takes_access for name in operation.action.split("+"))


def _look_for_regret(operation: Operation) -> None:
    """Access was given back: the rules that took it from these people may have gone too far."""
    people = operation.items.filter(outcome=OperationItem.Outcome.DONE).values("account")
    took = (
        OperationItem.objects.of(operation.organization)
        .filter(account__in=people, outcome=OperationItem.Outcome.DONE, operation__rule_id__isnull=False)
        .order_by()
        .values("operation__rule_id")
        .distinct()
    )
    rules = CleanupRule.objects.of(operation.organization).filter(pk__in=took, deleted_at__isnull=True, is_paused=False)
    for rule in rules.select_related("organization", "owner"):
        pause_if_regretted(rule)


# --- rules that contradict each other: the gentler wins -------------------------------------------------------------


def yield_to_gentler_rules(operation: Operation) -> None:
    """Take out of a rule's plan whom a live rule gives back what this one takes; it says so in the plan and the log."""
    rule = _rule_of(operation)
    if rule is None:
        return
    for other, both in gentler(rule, timezone.now()):
        people = Account.objects.of(operation.organization).filter(both)
        detail = f"The rule “{other.name}” gives back what this one takes."
        count = leave_out(operation, people, "gentler_rule", detail)
        if count:
            record(
                organization=operation.organization,
                actor=Actor.system(),
                action="rule.yielded",
                target_kind="rule",
                target_ref=str(rule.pk),
                target_name=rule.name,
                outcome="warning",
                reason=f"{count:,} left out. {detail}",
                after={"people": count, "gentler_rule": other.pk, "gentler_rule_name": other.name},
                rule_id=rule.pk,
                rule_name=rule.name,
                rule_version=operation.rule_version,
                operation_id=operation.pk,
                operation_number=operation.number,
                correlation_id=operation.uuid,
            )


def gentler_rule_gate(
    organization: Organization, operation: Operation, account_pks: list[int], now: datetime
) -> dict[int, tuple[str, str]]:
    """The same asked once more just before the write, of people whose rule came to contradict another one since."""
    rule = _rule_of(operation)
    if rule is None:
        return {}
    found: dict[int, tuple[str, str]] = {}
    for other, both in gentler(rule, now):
        people = Account.objects.of(organization).filter(both, pk__in=account_pks)
        sentence = f"The rule “{other.name}” gives back what this one takes."
        for pk in people.values_list("pk", flat=True):
            found.setdefault(pk, (OperationItem.Outcome.SKIPPED_CONFLICT.value, sentence))
    return found


def _rule_of(operation: Operation) -> CleanupRule | None:
    if operation.rule_id is None:
        return None
    rules = CleanupRule.objects.of(operation.organization).select_related("organization", "owner")
    found: CleanupRule | None = rules.filter(pk=operation.rule_id, deleted_at__isnull=True).first()
    return found
