"""Celery entry points: ids in, service call, nothing else."""

from __future__ import annotations

from celery import shared_task

from apps.operations import services


@shared_task(name="operations.plan")
def plan(operation_id: int) -> None:
    services.run_planning(operation_id)


@shared_task(name="operations.execute")
def execute(operation_id: int) -> None:
    services.execute_operation(operation_id)


@shared_task(name="operations.help")
def help_out(operation_id: int) -> None:
    services.help_operation(operation_id)


@shared_task(name="operations.sweep")
def sweep() -> None:
    services.sweep()


@shared_task(name="operations.apply_safeguards")
def apply_safeguards() -> None:
    services.apply_due_changes()
