"""Celery entry point; `apps.migrations_mgmt.periodic` says how often."""

from celery import shared_task

from apps.migrations_mgmt import services


@shared_task(name="migrations.advance", soft_time_limit=900, time_limit=960)
def advance() -> None:
    services.clean_old()
    services.advance()
