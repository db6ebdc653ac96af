"""Who works on a run at this moment, and with how many calls at once: together no more than the organisation allows.

One driver leads: it settles doubts, shows waits and ends the run. Helpers on other workers only claim and write chunks.
A helper works for a minute and leaves, so that syncs and other runs get its worker; while enough is left, the leader
asks for the next (docs/decisions/0011-shared-runs.md).
"""

from __future__ import annotations

import os
import socket
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Self

from django.conf import settings
from django.db import connection, transaction

from apps.operations.models import Operation, RunDriver
from aum.common.clock import database_now


class Seat:
    """One driver's place at a run, from entering to leaving; `pool` gives its threads for the next chunk."""

    def __init__(self, operation: Operation, *, leads: bool) -> None:
        self._operation = operation
        self._leads = leads
        self._token = uuid.uuid4()
        self._pool: ThreadPoolExecutor | None = None
        self.slots = 0
        self.drivers = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_pool()
        RunDriver.objects.filter(token=self._token).delete()

    def pool(self) -> ThreadPoolExecutor | None:
        """As many threads as this driver may make calls at once now; None while the others use them all."""
        slots = self._share()
        if slots != self.slots or self._pool is None:
            self._close_pool()
            self.slots = slots
            if slots:
                name = f"run-{self._operation.number}"
                self._pool = ThreadPoolExecutor(max_workers=slots, thread_name_prefix=name)
        return self._pool

    def _close_pool(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def _share(self) -> int:
        """Calls at once for this driver, of those that the others do not use. Doing so is its sign of life.

        Called between chunks, when none of its own calls is under way: what it lets go is free at once.
        """
        total: int = self._operation.organization.calls_in_flight
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(hashtext('run-drivers'), %s)", [self._operation.pk])
            now = database_now()
            rows = RunDriver.objects.filter(operation=self._operation).exclude(token=self._token)
            rows.filter(seen_at__lt=now - timedelta(seconds=settings.AUM_DRIVER_SECONDS)).delete()
            others = list(rows.values_list("slots", flat=True))
            self.drivers = len(others) + 1
            fair = total // self.drivers
            if self._leads:
                fair = total - fair * len(others)
            slots: int = max(0, min(fair, total - sum(others)))
            RunDriver.objects.update_or_create(
                token=self._token,
                defaults={
                    "organization_id": self._operation.organization_id,
                    "operation_id": self._operation.pk,
                    "name": f"{socket.gethostname()[:60]}:{os.getpid()}",
                    "leads": self._leads,
                    "slots": slots,
                    "seen_at": now,
                },
            )
        return slots
