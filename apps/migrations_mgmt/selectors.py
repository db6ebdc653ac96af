"""Reading data migrations."""

from __future__ import annotations

from django.db.models import QuerySet

from apps.migrations_mgmt.models import Backfill, BackfillBatch
from apps.organizations.models import Organization


def backfills(*, with_hidden: bool = False) -> QuerySet[Backfill]:
    """Data migrations, newest start first; those cleaned away only when asked for."""
    queryset = Backfill.objects.order_by("-started_at", "name", "-version")
    return queryset if with_hidden else queryset.filter(hidden_at=None)


def backfill_of(organization: Organization | None, name: str) -> Backfill | None:
    """The newest version of the data migration `name` of `organization`, or of the installation; hidden ones too."""
    return Backfill.objects.filter(organization=organization, name=name).order_by("-version").first()


def failed_batches(backfill: Backfill) -> QuerySet[BackfillBatch]:
    """The rows that failed twice, each with its error."""
    return backfill.batches.filter(status=BackfillBatch.Status.FAILED).order_by("first_pk")
