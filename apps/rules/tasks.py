"""Celery entry points of rules."""

from __future__ import annotations

from celery import shared_task

from apps.rules import services
from apps.rules.services.notices import owe_notices


@shared_task(name="rules.fire")
def fire(rule_id: int) -> None:
    """Beat rings for one rule."""
    services.fire(rule_id=rule_id)


@shared_task(name="rules.notices")
def notices() -> None:
    """Every few minutes: queue a notice for everybody who reached a step and was not told."""
    owe_notices()


@shared_task(name="rules.sweep")
def sweep() -> None:
    """Every minute: rules for which beat did not ring."""
    services.sweep()
