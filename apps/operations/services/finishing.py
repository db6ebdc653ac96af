"""How operations end and what is told about it: status from outcomes, audit row, alert, hooks."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from django.db import transaction
from django.db.models import Count
from django.utils import timezone

from apps.operations import hooks
from apps.operations.models import Operation, OperationItem
from apps.operations.selectors import DONE, FAILED
from apps.operations.services.recording import record_operation
from apps.organizations.recorder import Actor
from apps.organizations.services import raise_alert, resolve_alert

logger = logging.getLogger(__name__)

Outcome = OperationItem.Outcome
AUDIT_OUTCOME = {
    Operation.Status.SUCCEEDED: "success",
    Operation.Status.PREVIEWED: "success",
    Operation.Status.PARTIAL_FAILURE: "failed",
    Operation.Status.FAILED: "failed",
}


def outcome_counts(operation: Operation) -> dict[str, int]:
    """Finished items by outcome, counted from the items."""
    rows = (
        operation.items.filter(status=OperationItem.Status.FINISHED)
        .order_by()
        .values("outcome")
        .annotate(n=Count("pk"))
    )
    return {row["outcome"]: row["n"] for row in rows}


def status_of(counts: Mapping[str, int]) -> str:
    """The final status that these outcomes make (DESIGN.md §4.6)."""
    done = sum(counts.get(outcome, 0) for outcome in DONE)
    failed = sum(counts.get(outcome, 0) for outcome in FAILED)
    if failed:
        return Operation.Status.PARTIAL_FAILURE if done else Operation.Status.FAILED
    return Operation.Status.SUCCEEDED if done else Operation.Status.NO_EFFECT


def finish_pending(operation: Operation, outcome: str, detail: str) -> None:
    """End the items to go that nobody works on any more; what an earlier try left half done stays to be given back."""
    ended = {"status": OperationItem.Status.FINISHED, "finished_at": timezone.now()}
    pending = operation.items.filter(status=OperationItem.Status.PENDING)
    pending.filter(is_half_done=True).update(outcome=Outcome.UNRESOLVED, detail=half_done(detail), **ended)
    pending.update(outcome=outcome, detail=detail, **ended)


def half_done(detail: str) -> str:
    """What is said of an item that stopped after some of its paths were left."""
    return f"{detail.rstrip('.')}. It was half done by then. Undo gives back what was taken."


@transaction.atomic
def close(operation: Operation, status: str, detail: str, *, actor: Actor | None = None) -> bool:
    """Give an open operation its final status, once. False when another process did."""
    now = timezone.now()
    if status in (Operation.Status.SUPERSEDED, Operation.Status.EXPIRED):
        finish_pending(operation, Outcome.NOT_ATTEMPTED, detail)
    counts = outcome_counts(operation)
    changed = Operation.objects.filter(pk=operation.pk, status__in=Operation.OPEN).update(
        status=status,
        status_detail=detail,
        finished_at=now,
        outcomes=counts,
        waiting_until=None,
        request={},
    )
    if not changed:
        return False
    operation.refresh_from_db()
    record_operation(
        operation,
        actor or Actor.system(),
        status,
        outcome=AUDIT_OUTCOME.get(Operation.Status(status), "warning"),
        reason=detail,
        after={"people": operation.people_count, **counts},
    )
    resolve_alert(organization=operation.organization, dedup_key=f"held:{operation.pk}")
    if status in (Operation.Status.FAILED, Operation.Status.PARTIAL_FAILURE):
        failed = sum(counts.get(outcome, 0) for outcome in FAILED)
        raise_alert(
            organization=operation.organization,
            kind="run_failed",
            severity="error",
            title=f"Run #{operation.number} {operation.name}: {failed or operation.people_count} failed",
            detail=detail or "Open the run to see each reason, then retry what failed.",
            link=operation.get_absolute_url(),
            dedup_key=f"run_failed:{operation.pk}",
        )
    for hook in hooks.on_finished:
        hook(operation)
    logger.info("operation.finished", extra={"operation_id": operation.pk, "status": status, **counts})
    return True


def announce_hold(operation: Operation) -> None:
    """Audit row and alert of a held plan."""
    sentences = " ".join(reason["sentence"] for reason in operation.held_reasons)
    codes = [reason["code"] for reason in operation.held_reasons]
    after = {"people": operation.people_count, "reasons": codes}
    record_operation(operation, Actor.system(), "held", outcome="warning", reason=sentences, after=after)
    raise_alert(
        organization=operation.organization,
        kind="held",
        severity="warning",
        title=f"Run #{operation.number} {operation.name} is held",
        detail=sentences,
        link=operation.get_absolute_url(),
        dedup_key=f"held:{operation.pk}",
    )


def undo_begins(operation: Operation) -> None:
    """Tell the layers above that a live undo begins: the rules behind the undone runs pause.

    Unless one person got back what they asked for: that says nothing about the rule.
    """
    if operation.initiator == Operation.Initiator.AUTOMATED:
        return
    for source in undone_runs(operation):
        for hook in hooks.on_undo_started:
            hook(source)


def undone_runs(operation: Operation) -> list[Operation]:
    """The runs that an undo gives back, newest first; empty for what is no undo."""
    if operation.undo_of is not None:
        return [operation.undo_of]
    numbers = (operation.frozen or {}).get("undo", {}).get("numbers", [])
    if not numbers:
        return []
    return list(Operation.objects.of(operation.organization).filter(number__in=numbers).order_by("-id"))
