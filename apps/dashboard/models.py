"""What the help page shows of one organisation."""

from __future__ import annotations

from django.db import models

from apps.organizations.models import OrganizationOwned


class SupportContact(OrganizationOwned):
    """Where people of this organisation turn to; an empty field is not shown."""

    support_name = models.CharField(max_length=120, blank=True)
    support_url = models.CharField(max_length=300, blank=True)
    support_email = models.CharField(max_length=254, blank=True)
    booking_url = models.CharField(max_length=300, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization"], name="support_contact_once")]

    def __str__(self) -> str:
        return self.support_name or self.support_email
