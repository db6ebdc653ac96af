"""Celery entry points."""

from __future__ import annotations

from celery import shared_task

from apps.dashboard import demo_history, demo_records, heartbeat


@shared_task(name="dashboard.heartbeat", expires=60)
def note_heartbeat() -> None:
    """Beat and a worker live."""
    heartbeat.beat()


@shared_task(name="dashboard.demo_money")
def demo_money(organization_id: int) -> None:
    """Prices, freed licences and daily figures of the demo's past, once."""
    demo_history.make_by_id(organization_id)


@shared_task(name="dashboard.demo_records")
def demo_records_task(organization_id: int) -> None:
    """Rules, syncs, runs, notices, approvals and log entries of the demo's past, once."""
    demo_records.make_by_id(organization_id)
