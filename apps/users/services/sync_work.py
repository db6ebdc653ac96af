"""What every way of filling the mirror stands on: phases, progress on the row, the lease, the record of the end."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.utils import timezone

from apps.audit.services import record
from apps.organizations.recorder import Actor
from apps.users.models import SyncRun
from aum.common.tasks import lease

LEASE = timedelta(seconds=120)


class LeaseLost(Exception):
    """Another worker has the run, or somebody cancelled it: stop without a word."""


class HandOn(Exception):
    """The slice is over, or Atlassian is to be left alone for `wait_seconds`; another call goes on."""

    def __init__(self, wait_seconds: float = 0.0) -> None:
        super().__init__()
        self.wait_seconds = wait_seconds


def record_end(run: SyncRun, *, outcome: str, reason: str = "") -> None:
    record(
        organization=run.organization,
        actor=Actor.system(run.started_by or "AUM"),
        action="sync.finished",
        target_kind="sync",
        target_ref=str(run.pk),
        target_name=str(run.pk),
        outcome=outcome,
        reason=reason,
        after={
            "status": run.status,
            "people": run.people_seen,
            "added": run.people_added,
            "changed": run.people_changed,
            "vanished": run.people_vanished,
            "is_trusted": run.is_trusted,
        },
    )


class Work:
    """One slice of work on a run. The cursor on the row says where each phase stands."""

    def __init__(self, run: SyncRun, token: uuid.UUID, deadline: float | None) -> None:
        self.run = run
        self.organization = run.organization
        self.token = token
        self.deadline = deadline
        self.cursor: dict[str, Any] = dict(run.cursor)

    def phases(self) -> list[tuple[str, Callable[[], None]]]:
        """The phases in their order: name, and what does it."""
        raise NotImplementedError

    def found_now(self) -> dict[str, Any]:
        """What earlier phases found, for whoever resumes."""
        raise NotImplementedError

    def go(self) -> None:
        """Work from the phase that the run has reached to the end."""
        phases = self.phases()
        names = [name for name, _ in phases]
        at = names.index(self.run.phase) if self.run.phase in names else 0
        for name, work in phases[at:]:
            if self.run.phase != name:
                self.cursor = {}
                self._save(phase=name, found=self.found_now())
            work()

    def _save(self, **fields: Any) -> None:
        """Store progress and renew the lease, if the run is still ours. Raises LeaseLost otherwise."""
        self.cursor.pop("failures", None)
        held = SyncRun.objects.filter(pk=self.run.pk, lease_token=self.token, status=SyncRun.Status.RUNNING).update(
            cursor=self.cursor, lease_until=timezone.now() + lease(LEASE), **fields
        )
        if not held:
            raise LeaseLost
        self.run.cursor = self.cursor
        for name, value in fields.items():
            setattr(self.run, name, value)

    def _held_run(self) -> SyncRun:
        """The row, locked: somebody works here, however long it takes; lease or not, nobody else takes the run."""
        mine = SyncRun.objects.select_for_update().filter(
            pk=self.run.pk, lease_token=self.token, status=SyncRun.Status.RUNNING
        )
        run: SyncRun | None = mine.first()
        if run is None:
            raise LeaseLost
        return run

    def _breathe(self) -> None:
        """Hand on when the slice is over; called where everything is stored."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise HandOn
