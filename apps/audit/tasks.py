"""Celery entry points; `apps.audit.periodic` says how often."""

from celery import shared_task

from apps.audit import services


@shared_task(name="audit.seal", soft_time_limit=900, time_limit=960)
def seal() -> None:
    services.seal_all()


@shared_task(name="audit.ensure_partitions", soft_time_limit=60, time_limit=90)
def ensure_partitions() -> None:
    services.ensure_partitions()
