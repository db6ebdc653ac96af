"""Storing what came from outside: one row, once, within moments; a worker does the rest.

This is all that the public surface does. It reads ways in and links, inserts events, and needs no key but the inbound
one. Where it cannot reach the queue, the sweep finds the row within seconds.
"""

from __future__ import annotations

import logging
from typing import Any

from django.core.cache import cache
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from redis.exceptions import RedisError

from apps.autoactivate.inbound.base import Received, Rejected
from apps.autoactivate.models import Channel, InboundEvent, InboundLink, InboundSource
from aum.common.rates import count_in_window
from aum.common.tasks import enqueue_on_commit

logger = logging.getLogger(__name__)

# Requests a minute: of one verified way in; of one address that sent wrong secrets; of one address to forms and links,
# and looking at them.
SOURCE_LIMIT = 1200
WRONG_LIMIT = 30
FORM_LIMIT = 20
LOOK_LIMIT = 120
# Mails that one address is sent within an hour because somebody entered it.
MAIL_LIMIT = 5


def receive(
    *, source: InboundSource, received: Received, size_bytes: int, ip_address: str | None
) -> tuple[InboundEvent, bool]:
    """The stored event and whether it is new; a repeat only counts up."""
    with transaction.atomic():
        event, is_new = InboundEvent.objects.get_or_create(
            organization_id=source.organization_id,
            dedup_key=received.dedup_key[:200],
            defaults={
                "source": source,
                "source_kind": source.kind,
                "channel": source.channel,
                "kind": received.kind,
                "payload": received.payload,
                "size_bytes": size_bytes,
                "ip_address": ip_address,
            },
        )
        if is_new:
            enqueue_on_commit("autoactivate.process", event_id=event.pk)
        else:
            InboundEvent.objects.filter(pk=event.pk).update(repeats=F("repeats") + 1)
    return event, is_new


def use_link(*, link: InboundLink, kind: str, payload: dict[str, Any], ip_address: str | None) -> bool:
    """Store that a link was used; False when it was used before. Unique in the database, so two clicks are one."""
    with transaction.atomic():
        event, is_new = InboundEvent.objects.get_or_create(
            organization_id=link.organization_id,
            dedup_key=f"uselink:{link.pk}",
            defaults={
                "source_kind": link.event.source_kind if link.event else InboundSource.Kind.INTRANET,
                "channel": link.event.channel if link.event else Channel.INTRANET,
                "kind": kind,
                "payload": {**payload, "link": link.pk},
                "ip_address": ip_address,
            },
        )
        if is_new:
            enqueue_on_commit("autoactivate.process", event_id=event.pk)
    return bool(is_new)


# --- limits ---------------------------------------------------------------------------------------------------------


def allow(scope: str, name: object, limit: int, window_seconds: int = 60) -> None:
    """Count one request; raises Rejected with 429 beyond `limit` in a window. Without the cache nothing is counted."""
    used = count_in_window(f"inbound:{scope}:{name}", window_seconds)
    if used > limit:
        raise Rejected(429, "too_many", "Too many requests. Wait a minute, then try again.")


def is_allowed(scope: str, name: object, limit: int, window_seconds: int = 60) -> bool:
    """The same as an answer."""
    try:
        allow(scope, name, limit, window_seconds)
    except Rejected:
        return False
    return True


def note_rejection(source: InboundSource, rejected: Rejected, ip_address: str | None) -> None:
    """Keep the last refusal of a way in for the setup guide: a wrong secret has to be seen by who sets it up."""
    logger.warning(
        "inbound.rejected", extra={"source": source.kind, "reason": rejected.reason, "ip": ip_address or "unknown"}
    )
    try:
        cache.set(f"inbound-rejected:{source.pk}", (timezone.now(), rejected.reason), 7 * 86400)
    except (RedisError, OSError):
        return


def last_rejection(source: InboundSource) -> tuple[Any, str] | None:
    """(when, reason) of the newest refusal within a week."""
    try:
        found: tuple[Any, str] | None = cache.get(f"inbound-rejected:{source.pk}")
    except (RedisError, OSError):
        return None
    return found
