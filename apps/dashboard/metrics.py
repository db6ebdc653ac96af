"""Figures for Prometheus, read anew at each scrape: any web process answers for the whole installation."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import redis
from django.conf import settings
from django.db.models import Count, Max, Q
from django.utils import timezone
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from apps.dashboard.heartbeat import last_heartbeat_at
from apps.operations.models import Operation, OperationItem
from apps.organizations.models import Alert, Organization, RatePause
from apps.users.models import SyncRun

QUEUES = ("default", "operations", "sync", "mail")
WRITTEN_HOURS = 24


class InstallationCollector(Collector):
    """Queues, runs, outcomes, waits for Atlassian, age of syncs, alerts, heartbeat."""

    def collect(self) -> Iterator[Metric]:
        """The gauges. A database or queue that does not answer raises, so the scrape fails visibly."""
        now = timezone.now()
        slugs = dict(Organization.objects.values_list("pk", "slug"))
        yield _gauge("aum_queue_length", "Tasks that wait in a queue", ["queue"], _queue_lengths())
        yield _gauge(
            "aum_operations_open",
            "Operations that are not finished, by status",
            ["organization", "status"],
            [
                ([slugs[pk], status], count)
                for pk, status, count in Operation.objects.filter(status__in=Operation.OPEN)
                .values_list("organization_id", "status")
                .annotate(count=Count("pk"))
                .order_by()
            ],
        )
        since = now - timedelta(hours=WRITTEN_HOURS)
        yield _gauge(
            "aum_written_24h",
            "Changes sent to Atlassian within 24 hours, by outcome (empty: not finished)",
            ["organization", "outcome"],
            [
                ([slugs[pk], outcome], count)
                for pk, outcome, count in OperationItem.objects.filter(written_at__gte=since)
                .values_list("organization_id", "outcome")
                .annotate(count=Count("pk"))
                .order_by()
            ],
        )
        synced = dict(
            SyncRun.objects.filter(status=SyncRun.Status.SUCCEEDED, source=SyncRun.Source.API)
            .values_list("organization_id")
            .annotate(Max("finished_at"))
        )
        yield _gauge(
            "aum_sync_age_seconds",
            "Seconds since the newest complete sync",
            ["organization"],
            [([slugs[pk]], (now - at).total_seconds()) for pk, at in synced.items() if at],
        )
        yield _gauge(
            "aum_atlassian_pause_seconds",
            "Seconds that Atlassian asked to wait, still to go",
            ["organization"],
            [
                ([slugs[pk]], (until - now).total_seconds())
                for pk, until in RatePause.objects.filter(until__gt=now)
                .values_list("organization_id")
                .annotate(Max("until"))
                if pk in slugs
            ],
        )
        yield _gauge(
            "aum_alerts_open",
            "Alerts that nobody has resolved",
            ["organization", "severity"],
            [
                ([slugs[pk], severity], count)
                for pk, severity, count in Alert.objects.filter(Q(resolved_at__isnull=True))
                .values_list("organization_id", "severity")
                .annotate(count=Count("pk"))
                .order_by()
            ],
        )
        heartbeat = last_heartbeat_at()
        if heartbeat is not None:
            age = (now - heartbeat).total_seconds()
            yield _gauge("aum_heartbeat_age_seconds", "Seconds since beat and a worker last worked", [], [([], age)])


def _gauge(name: str, text: str, labels: list[str], values: list[tuple[list[str], Any]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for given, value in values:
        family.add_metric(given, float(value))
    return family


def _queue_lengths() -> list[tuple[list[str], int]]:
    with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2) as client:
        return [([queue], int(client.llen(queue))) for queue in QUEUES]


def exposition() -> bytes:
    """All figures in the text format of Prometheus."""
    registry = CollectorRegistry()
    registry.register(InstallationCollector())
    return generate_latest(registry)
