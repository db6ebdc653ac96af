"""`first_link`: prints the address at which the first owner of the installation is made."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.urls import reverse

from apps.operators.services import make_first_owner_link


class Command(BaseCommand):
    help = "Prints the one-time address that makes the first owner; prints nothing when there is an operator."

    def handle(self, *args: Any, **options: Any) -> None:
        secret = make_first_owner_link()
        if secret:
            self.stdout.write(settings.AUM_BASE_URL + reverse("setup-owner", args=[secret]))
