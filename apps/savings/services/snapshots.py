"""Counting a day: what trends are drawn from. Days gone by are never made up."""

from __future__ import annotations

from django.db import connection, transaction
from django.utils import timezone

from apps.organizations.models import Organization
from apps.pricing.selectors import seats, today
from apps.savings.models import DailySnapshot
from apps.users.predicates import Partition
from apps.users.selectors import dashboard_counts, latest_merged_sync

RANGES = (7, 30, 60, 90)


def take_snapshot(organization: Organization) -> DailySnapshot | None:
    """Count today, over the figures that were counted earlier on it; None before the first sync.

    Peaks of licences only grow within the day: a bill by the highest number does not forget the morning.
    """
    if latest_merged_sync(organization) is None:
        return None
    now = timezone.now()
    counts = {days: dashboard_counts(organization, days) for days in RANGES}
    used = seats(organization)
    with transaction.atomic():
        with connection.cursor() as cursor:
            # Two at once would both find no row.
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('savings.snapshot'), %s)", [organization.pk])
        day = today(organization, now)
        earlier = DailySnapshot.objects.of(organization).filter(day=day).first()
        peaks = dict(earlier.peak_seats) if earlier and not earlier.is_demo else {}
        snapshot, _made = DailySnapshot.objects.update_or_create(
            organization=organization,
            day=day,
            defaults={
                "taken_at": now,
                "total": counts[30].total,
                "figures": {
                    str(days): {part: int(getattr(row, part)) for part in (*Partition.values, "idle_everywhere")}
                    for days, row in counts.items()
                },
                "seats": used,
                "peak_seats": {product: max(number, peaks.get(product, 0)) for product, number in used.items()},
                "idle": {row.product: row.idle for row in counts[30].products},
                "is_demo": False,
            },
        )
    return snapshot
