"""Beat's scheduler: that of django-celery-beat, which also notices when no worker does what beat asks for."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import DatabaseError
from django_celery_beat.schedulers import DatabaseScheduler

from apps.rules.services.silence import report_silence

logger = logging.getLogger(__name__)

EVERY_SECONDS = 60
# What was sent later than this from now was sent by a clock that has been put back since.
AHEAD = timedelta(seconds=5)


class WatchfulScheduler(DatabaseScheduler):  # type: ignore[misc]  # django-celery-beat has no types
    """Looks for silent rules once a minute; a database that does not answer keeps nothing from being scheduled."""

    _looked_at = 0.0

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        self._forget_the_future()
        now = time.monotonic()
        if now - self._looked_at >= EVERY_SECONDS:
            self._looked_at = now
            try:
                report_silence()
            except DatabaseError:
                logger.exception("rule.silence_not_looked_for")
        return super().tick(*args, **kwargs)

    def _forget_the_future(self) -> None:
        """Go on from now after a clock was put back: until that later time nothing would be sent, no sweep either."""
        now = datetime.now(UTC)
        # The row, not the entry: those that were sent since live in the heap, with the same row.
        ahead = [entry for entry in self.schedule.values() if entry.model.last_run_at > now + AHEAD]
        for entry in ahead:
            entry.last_run_at = entry.model.last_run_at = now
        if ahead:
            logger.warning("beat.clock_put_back", extra={"tasks": len(ahead)})
            # Made anew, in the order of the new times.
            self._heap = None
