"""Celery entry points of syncs: ids in, a service call, nothing else."""

from __future__ import annotations

from celery import shared_task

from apps.users import services


@shared_task(name="users.sync")
def sync(sync_run_id: int) -> None:
    """Work on one sync for a while; the service enqueues the rest."""
    services.run_sync(sync_run_id)


@shared_task(name="users.sync_sweep")
def sync_sweep() -> None:
    """Every minute: take up syncs that nobody works on, start those that are due."""
    services.sweep_syncs()
