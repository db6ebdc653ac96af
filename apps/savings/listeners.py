"""What happens to the ledger when lower apps tell that something is over. The work itself is a task's."""

from __future__ import annotations

from apps.operations.models import Operation
from apps.users.models import SyncRun
from aum.common.tasks import enqueue_on_commit


def post_finished_run(operation: Operation) -> None:
    """A live run is over: what it freed is posted once its end is committed; the sweep finds it otherwise."""
    if operation.is_live:
        enqueue_on_commit("savings.post_operation", operation_id=operation.pk)


def note_sync(run: SyncRun) -> None:
    """A sync is merged: who is back, today's figures, use of licences."""
    enqueue_on_commit("savings.after_sync", organization_id=run.organization_id)
