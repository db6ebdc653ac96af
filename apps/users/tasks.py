"""Celery entry points of syncs and imports: ids in, a service call, nothing else."""

from __future__ import annotations

from celery import shared_task

from apps.users import services
from apps.users.services import exports, imports


@shared_task(name="users.sync")
def sync(sync_run_id: int) -> None:
    """Work on one sync for a while; the service enqueues the rest."""
    services.run_sync(sync_run_id)


@shared_task(name="users.sync_sweep")
def sync_sweep() -> None:
    """Every half minute: take up syncs, imports and exports that nobody works on, start due syncs, drop old files."""
    services.sweep_syncs()
    imports.sweep_imports()
    exports.sweep_exports()


@shared_task(name="users.exemptions")
def exemptions() -> None:
    """Every five minutes: show who is exempt by now, tell of exemptions that end soon, forget old dates of files."""
    services.settle_exemptions()
    services.remind_of_exemptions()
    imports.expire_file_activity()


@shared_task(name="users.read_import")
def read_import(import_id: int) -> None:
    """Read an uploaded file into rows."""
    imports.read_import(import_id)


@shared_task(name="users.write_export")
def write_export(export_id: int) -> None:
    """Write the file of an export job."""
    exports.write_export(export_id)
