from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class OrganizationsConfig(AppConfig):
    name = "apps.organizations"
    label = "organizations"

    def ready(self) -> None:
        post_migrate.connect(_confirm_instance, sender=self)


def _confirm_instance(**_kwargs: Any) -> None:
    """After every migrate, so before any process of a new or restored installation acts (DESIGN.md §2)."""
    from apps.organizations.services import confirm_instance

    confirm_instance()
