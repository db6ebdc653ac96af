"""Starting background work by its registered name, so services never import tasks."""

from __future__ import annotations

import logging
from typing import Any

from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError

logger = logging.getLogger(__name__)


def enqueue(name: str, *, countdown_seconds: float = 0, **ids: Any) -> None:
    """Send task `name` with keyword ids now. A broker that is down is logged, not raised: the sweeper finds the row."""
    try:
        current_app.send_task(name, kwargs=ids, countdown=countdown_seconds or None, retry=False, ignore_result=True)
    except (OperationalError, OSError) as error:
        logger.warning("task.not_sent", extra={"task": name, "error": type(error).__name__})


def enqueue_on_commit(name: str, *, countdown_seconds: float = 0, **ids: Any) -> None:
    """Send task `name` once the surrounding transaction has committed; at once when there is none."""
    transaction.on_commit(lambda: enqueue(name, countdown_seconds=countdown_seconds, **ids))
