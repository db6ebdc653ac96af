"""Celery entry points of syncs and imports: ids in, a service call, nothing else."""

from __future__ import annotations

from celery import shared_task

from apps.users import services
from apps.users.services import imports


@shared_task(name="users.sync")
def sync(sync_run_id: int) -> None:
    """Work on one sync for a while; the service enqueues the rest."""
    services.run_sync(sync_run_id)


@shared_task(name="users.sync_sweep")
def sync_sweep() -> None:
    """Every half minute: take up syncs and imports that nobody works on, start syncs that are due."""
    services.sweep_syncs()
    imports.sweep_imports()


@shared_task(name="users.read_import")
def read_import(import_id: int) -> None:
    """Read an uploaded file into rows."""
    imports.read_import(import_id)
