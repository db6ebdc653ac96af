"""Celery entry points; CELERY_BEAT_SCHEDULE says how often."""

from celery import shared_task

from apps.audit import services


@shared_task(name="audit.seal", soft_time_limit=900, time_limit=960)
def seal() -> None:
    services.seal_all()


@shared_task(name="audit.ensure_partitions", soft_time_limit=60, time_limit=90)
def ensure_partitions() -> None:
    services.ensure_partitions()


@shared_task(name="audit.retention", soft_time_limit=1500, time_limit=1800)
def retention() -> None:
    services.apply_all_retention()


@shared_task(name="audit.verify", soft_time_limit=1500, time_limit=1800)
def verify(verification_id: int) -> None:
    services.run_verification(verification_id)


@shared_task(name="audit.clear", soft_time_limit=1500, time_limit=1800)
def clear(clearance_id: int) -> None:
    services.carry_out_clearance(clearance_id)


@shared_task(name="audit.import_log", soft_time_limit=1500, time_limit=1800)
def import_log(import_id: int) -> None:
    services.run_log_import(import_id)


@shared_task(name="audit.sweep", soft_time_limit=60, time_limit=90)
def sweep() -> None:
    services.resume_clearances()
    services.resume_log_imports()
