"""Celery entry points of notifications; all of them run on the mail queue."""

from __future__ import annotations

from celery import shared_task

from apps.notifications import services


@shared_task(name="notifications.send")
def send(organization_id: int) -> None:
    """Send a batch of one organisation's mail."""
    services.drive(organization_id)


@shared_task(name="notifications.channels")
def channels() -> None:
    """Deliver alerts that wait."""
    services.deliver_waiting()


@shared_task(name="notifications.sweep")
def sweep() -> None:
    """Wake senders, carry out answers, read the provider's events, queue alerts: whatever a lost message left lying."""
    services.sweep_all()
