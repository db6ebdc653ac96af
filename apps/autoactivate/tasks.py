"""Celery entry points of activation."""

from __future__ import annotations

from celery import shared_task

from apps.autoactivate import services


@shared_task(name="autoactivate.process")
def process(event_id: int) -> None:
    services.process_event(event_id)


@shared_task(name="autoactivate.sweep")
def sweep() -> None:
    """Every 10 seconds: events that nobody works on, and answers that wait."""
    services.sweep_events()
    services.sweep_replies()


@shared_task(name="autoactivate.reply")
def reply(reply_id: int) -> None:
    services.deliver_reply(reply_id)


@shared_task(name="autoactivate.poll")
def poll() -> None:
    """Every minute: look for tickets where an organisation wants it."""
    services.poll_all()


@shared_task(name="autoactivate.poll_one")
def poll_one(source_id: int) -> None:
    services.poll(source_id)


@shared_task(name="autoactivate.expire")
def expire() -> None:
    """Every 5 minutes: warn about access that ends, and remove what has ended."""
    services.sweep_grants()
