"""What runs by itself: after each sync, each day, and the sweep that finds what a kill left undone."""

from __future__ import annotations

import logging

from django.db import DatabaseError

from apps.organizations.models import Organization
from apps.pricing.selectors import today
from apps.pricing.services import check_licence_use
from apps.savings.models import DailySnapshot
from apps.savings.selectors import insights
from apps.savings.services.ledger import end_returned, post_missing
from apps.savings.services.snapshots import RANGES, take_snapshot

logger = logging.getLogger(__name__)


def after_sync(organization_id: int) -> None:
    """People who are back, today's figures, use of licences; of one organisation. Nothing for one that is gone."""
    organization = Organization.objects.filter(pk=organization_id).first()
    if organization is None:
        return
    post_missing()
    end_returned(organization)
    take_snapshot(organization)
    check_licence_use(organization)
    # Counted here, so that nobody who opens the dashboard waits for it.
    for days in RANGES:
        insights(organization, days)


def sweep() -> None:
    """Every few minutes: runs that are not in the ledger yet, and days that nobody counted."""
    post_missing()
    for organization in Organization.objects.order_by("pk"):
        if not DailySnapshot.objects.of(organization).filter(day=today(organization), is_demo=False).exists():
            _safely(organization)


def daily() -> None:
    """Once more near the end of the day, so that a day's figures are its last ones."""
    for organization in Organization.objects.order_by("pk"):
        _safely(organization)


def _safely(organization: Organization) -> None:
    """One organisation's trouble does not keep the others from being counted."""
    try:
        after_sync(organization.pk)
    except DatabaseError:
        logger.exception("savings.round_failed", extra={"organization_id": organization.pk})
