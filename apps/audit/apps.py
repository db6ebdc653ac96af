from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class AuditConfig(AppConfig):
    name = "apps.audit"
    label = "audit"

    def ready(self) -> None:
        from apps.audit import services
        from apps.organizations import recorder

        recorder.register(services.record)
        services.register_kinds()
        post_migrate.connect(_ensure_partitions, sender=self)


def _ensure_partitions(**_kwargs: Any) -> None:
    """After every migrate, so that a new installation has the partition of this month before its first event."""
    from apps.audit import services

    services.ensure_partitions()
