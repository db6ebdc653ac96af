"""Pausing, resuming and stopping runs: row updates that every worker reads before each call."""

from __future__ import annotations

from django.db import transaction

from apps.operations.models import Operation, OperationItem
from apps.operations.services import finishing
from apps.operations.services.recording import record_operation
from apps.organizations.recorder import Actor
from aum.common.errors import DomainError
from aum.common.tasks import enqueue_on_commit


class WrongState(DomainError):
    code = "wrong_state"
    detail = "The run is no longer in a state that allows this. Reload the page."


def _change(operation: Operation, actor: Actor, *, allowed: tuple[str, ...], status: str, detail: str) -> Operation:
    changed = Operation.objects.filter(pk=operation.pk, status__in=allowed).update(
        status=status, status_detail=detail, waiting_until=None, driven_at=None
    )
    if not changed:
        raise WrongState
    operation.refresh_from_db()
    what = "paused" if status == Operation.Status.PAUSED else "resumed"
    record_operation(operation, actor, what, outcome="info")
    return operation


@transaction.atomic
def pause_operation(*, operation: Operation, actor: Actor) -> Operation:
    """No further call after those under way; resume goes on. Raises WrongState."""
    return _change(
        operation, actor, allowed=Operation.WORKING, status=Operation.Status.PAUSED, detail=f"Paused by {actor.name}."
    )


@transaction.atomic
def resume_operation(*, operation: Operation, actor: Actor) -> Operation:
    """Go on with a paused run; brakes and recheck apply as before. Raises WrongState."""
    resumed = _change(operation, actor, allowed=(Operation.Status.PAUSED,), status=Operation.Status.QUEUED, detail="")
    enqueue_on_commit("operations.execute", operation_id=operation.pk)
    return resumed


@transaction.atomic
def cancel_operation(*, operation: Operation, actor: Actor) -> Operation:
    """Stop for good: what is done stays done, what is under way is still confirmed. Raises WrongState."""
    locked: Operation = Operation.objects.select_for_update().select_related("organization").get(pk=operation.pk)
    if not locked.is_open:
        raise WrongState
    finishing.finish_pending(locked, OperationItem.Outcome.CANCELLED, f"Stopped by {actor.name}.")
    finishing.close(locked, Operation.Status.CANCELLED, f"Stopped by {actor.name}.", actor=actor)
    locked.refresh_from_db()
    return locked
