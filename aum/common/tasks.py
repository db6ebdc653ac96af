"""Starting background work by its registered name, so services never import tasks."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from celery import Task, current_app
from django.conf import settings
from django.core.cache import cache
from django.db import transaction
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)


def enqueue(name: str, *, countdown_seconds: float = 0, **ids: Any) -> None:
    """Send task `name` with keyword ids now. A broker that is down is logged, not raised: the sweeper finds the row."""
    try:
        current_app.send_task(name, kwargs=ids, countdown=countdown_seconds or None, retry=False, ignore_result=True)
    except (OperationalError, OSError) as error:
        logger.warning("task.not_sent", extra={"task": name, "error": type(error).__name__})


def enqueue_again(name: str, **ids: Any) -> None:
    """What a sweep sends: nothing while the same message of an earlier sweep, up to four ago, was not taken up.

    Workers that are behind would fall further behind with each sweep, since all that waits is found again. The mark
    lies beside the queue: what loses one loses the other.
    """
    try:
        if not cache.add(_mark(name, ids), 1, timeout=4 * settings.AUM_SWEEP_SECONDS):
            return
    except (RedisError, OSError):
        logger.warning("task.not_marked", extra={"task": name})
    enqueue(name, **ids)


def _mark(name: str, ids: dict[str, Any]) -> str:
    return f"asked:{name}:{','.join(f'{key}={ids[key]}' for key in sorted(ids))}"


def enqueue_on_commit(name: str, *, countdown_seconds: float = 0, **ids: Any) -> None:
    """Send task `name` once the surrounding transaction has committed; at once when there is none."""
    transaction.on_commit(lambda: enqueue(name, countdown_seconds=countdown_seconds, **ids))


def lease(longest: timedelta) -> timedelta:
    """How long work belongs to a worker without a sign of life: `longest`, or AUM_LEASE_SECONDS where that is less."""
    return min(longest, timedelta(seconds=settings.AUM_LEASE_SECONDS))


class AumTask(Task):  # type: ignore[type-arg]  # generic in the stubs only
    """Every task of AUM. What beat sends every few seconds, and what piled up meanwhile, runs once.

    An hour without a worker leaves hundreds of sweeps in the queue. One of them does all that is to be done, and what
    people wait for does not have to wait for the others.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._ran_just_now():
            return None
        if kwargs and self.request.id:
            self._take_mark_away(kwargs)
        return self.run(*args, **kwargs)

    def _take_mark_away(self, ids: dict[str, Any]) -> None:
        """From here on a sweep may ask for the same again: this worker may die."""
        try:
            cache.delete(_mark(str(self.name), ids))
        except (RedisError, OSError):
            return

    def _ran_just_now(self) -> bool:
        """Whether this came from beat and ran within half of its interval, by Valkey's clock; without it, it runs."""
        if not getattr(self.request, "periodic_task_name", ""):
            return False
        seconds = float(settings.CELERY_BEAT_SCHEDULE.get(self.name, {}).get("schedule", 0))
        try:
            return not cache.add(f"ran:{self.name}", 1, timeout=max(0.5, seconds / 2))
        except (RedisError, OSError):
            return False
