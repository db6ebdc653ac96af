"""What is looked for regularly, each part by itself: one that fails does not keep the others."""

from __future__ import annotations

import logging
from collections.abc import Callable

from apps.notifications.services import deliveries, digest, events, keep, sending, telling

logger = logging.getLogger(__name__)


def sweep_all() -> None:
    """Carry out answers, read events, send what is owed, tell channels. Raises ExceptionGroup after all were tried."""
    parts: tuple[Callable[[], int], ...] = (
        keep.carry_out_waiting,
        events.process_events,
        deliveries.requeue_addressed,
        digest.send_digests,
        sending.sweep,
        telling.queue_alerts,
        telling.forget_old_messages,
    )
    errors: list[Exception] = []
    for part in parts:
        try:
            part()
        except Exception as error:
            logger.exception("notifications.sweep_failed", extra={"part": part.__name__})
            errors.append(error)
    if errors:
        raise ExceptionGroup("parts of the sweep that failed", errors)
