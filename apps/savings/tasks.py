"""Celery entry points of the ledger and of daily figures: ids in, a service call, nothing else."""

from __future__ import annotations

from celery import shared_task

from apps.savings import services


@shared_task(name="savings.post_operation")
def post_operation(operation_id: int) -> None:
    """A run has finished."""
    services.post_operation(operation_id)


@shared_task(name="savings.after_sync")
def after_sync(organization_id: int) -> None:
    """A sync has been merged."""
    services.after_sync(organization_id)


@shared_task(name="savings.sweep")
def sweep() -> None:
    """Every five minutes."""
    services.sweep()


@shared_task(name="savings.daily")
def daily() -> None:
    """Every six hours."""
    services.daily()
