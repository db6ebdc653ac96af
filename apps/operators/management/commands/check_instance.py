"""`check_instance`: ties the database to this installation, or stops everything in a copy of another one's."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from apps.organizations.services import confirm_instance


class Command(BaseCommand):
    help = "Ties the database to this installation; in a copy of another one's it turns every emergency stop on."

    def handle(self, *args: Any, **options: Any) -> None:
        if confirm_instance():
            return
        self.stderr.write(
            "This database belongs to another installation or was restored. Nothing is written to Atlassian until an "
            "owner has run a full sync and released the emergency stop of each organisation."
        )
