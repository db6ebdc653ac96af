"""What happens here, told to other systems: the events of signed webhooks, and how each becomes a message.

An event is an audit row that somebody asked to hear of. Its messages are stored in the transaction that writes the row
(`apps.audit.registry.listen`): none goes out for what was rolled back, and none is lost when a process dies. Sending,
signing, retries and the log are those of every channel (`services.channels`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils import timezone

from apps.audit.registry import Written
from apps.notifications.content import clean_line
from apps.notifications.models import AlertChannel, ChannelDelivery
from apps.operations.models import HandOff, Operation
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from aum.common.tasks import enqueue_on_commit

# A work list longer than this comes in several messages: receivers refuse large bodies.
LINES_PER_MESSAGE = 200


@dataclass(frozen=True)
class EventType:
    """One kind of event: its stable name, what it means, the audit actions behind it, and its severity."""

    name: str
    label: str
    hint: str
    actions: tuple[str, ...] = ()
    severity: str = "info"


ALERT = "alert.opened"
HAND_OFF_OPENED = "hand_off.opened"
EVENTS: tuple[EventType, ...] = (
    EventType("run.previewed", "Preview ready", "A plan in Safe mode is made.", ("operation.previewed",)),
    EventType("run.held", "Run held", "A plan waits for an approval.", ("operation.held",), "warning"),
    EventType("run.approved", "Run approved", "Somebody approved a held plan.", ("operation.approved",)),
    EventType("run.rejected", "Run rejected", "Somebody rejected a held plan.", ("operation.rejected",)),
    EventType(
        "run.finished", "Run finished", "A run ended without failures.", ("operation.succeeded", "operation.no_effect")
    ),
    EventType(
        "run.failed",
        "Run failed",
        "A run ended, and some or all of it failed.",
        ("operation.failed", "operation.partial_failure"),
        "error",
    ),
    EventType(
        "run.stopped",
        "Run stopped",
        "A run was cancelled, expired, or a newer plan took its place.",
        ("operation.cancelled", "operation.expired", "operation.superseded"),
        "warning",
    ),
    EventType(HAND_OFF_OPENED, "Hand-off opened", "The work list of a run for the identity provider."),
    EventType("hand_off.done", "Hand-off done", "A sync saw lines of a work list done.", ("hand_off.done",)),
    EventType(
        "hand_off.came_back",
        "Access came back",
        "The identity provider gave access again.",
        ("hand_off.came_back",),
        "warning",
    ),
    EventType("hand_off.closed", "Hand-off closed", "Somebody closed a line by hand.", ("hand_off.closed",)),
    EventType("sync.finished", "Sync finished", "The directory was read.", ("sync.finished",)),
    EventType("sync.failed", "Sync failed", "The directory could not be read.", (), "error"),
    EventType(
        "rule.changed",
        "Rule changed",
        "A rule was created, edited, paused, resumed or deleted.",
        ("rule.created", "rule.updated", "rule.paused", "rule.resumed", "rule.deleted"),
    ),
    EventType(
        "rule.missed", "Rule missed", "A rule was due and did not run.", ("rule.missed", "rule.refused"), "error"
    ),
    EventType(
        "safeguard.changed",
        "Safeguard changed",
        "A looser safeguard was proposed, decided or applied.",
        tuple(f"safeguard.{state}" for state in ("proposed", "approved", "rejected", "withdrawn", "applied")),
        "warning",
    ),
    EventType(
        "kill_switch.changed",
        "Kill switch",
        "Everything was stopped, or may run again.",
        ("kill_switch.on", "kill_switch.off"),
        "warning",
    ),
    EventType(
        "access.changed",
        "Access to AUM changed",
        "People, roles, tokens, credentials or single sign-on were changed.",
        (
            "credentials.saved",
            "operator.break_glass",
            "operator.disabled",
            "operator.enabled",
            "operator.invitation_accepted",
            "operator.invited",
            "operator.role_granted",
            "operator.role_revoked",
            "single_sign_on.roles",
            "single_sign_on.saved",
            "token.created",
            "token.revoked",
        ),
        "warning",
    ),
    EventType(ALERT, "Alert opened", "An alert of the level below was raised."),
)
NAMES = tuple(event.name for event in EVENTS)
BY_NAME = {event.name: event for event in EVENTS}
_BY_ACTION = {action: event for event in EVENTS for action in event.actions}
ACTIONS = tuple(_BY_ACTION)
# What a new webhook hears of unless somebody chooses.
SUGGESTED = ("run.held", "run.finished", "run.failed", "sync.failed")


# --- listeners --------------------------------------------------------------------------------------------------------


def note_events(organization: Organization, rows: Sequence[Written]) -> None:
    """Queue messages about audit rows that were just written; inside their transaction."""
    channels = _webhooks(organization)
    if not channels:
        return
    lines: dict[str, list[Written]] = {}
    for row in rows:
        event = _event_of(row)
        if event.name.startswith("hand_off."):
            lines.setdefault(event.name, []).append(row)
        elif any(event.name in channel.events for channel in channels):
            _queue(channels, event, [_payload(organization, event, row)])
    for name, found in lines.items():
        work = [_line_of_row(row) for row in found]
        _queue_lines(organization, channels, BY_NAME[name], work, found[0].actor)


def note_hand_off(operation: Operation) -> None:
    """Queue the work list of an operation that just ended."""
    organization = operation.organization
    channels = [channel for channel in _webhooks(organization) if HAND_OFF_OPENED in channel.events]
    if not channels:
        return
    rows = HandOff.objects.filter(operation=operation).select_related("account").order_by("pk")
    work = [
        {
            "id": row.pk,
            "account_id": row.account.account_id,
            "name": row.account.name,
            "email": row.account.email,
            "action": row.action,
            "target": row.target_name or row.target,
            "run": operation.number,
            "reason": row.detail,
        }
        for row in rows.iterator(chunk_size=2000)
    ]
    _queue_lines(organization, channels, BY_NAME[HAND_OFF_OPENED], work, Actor.system(), run=operation_data(operation))


def _webhooks(organization: Organization) -> list[AlertChannel]:
    kind = AlertChannel.Kind.WEBHOOK
    return list(AlertChannel.objects.of(organization).filter(kind=kind, is_enabled=True))


def _event_of(row: Written) -> EventType:
    if row.action == "sync.finished" and row.outcome == "failed":
        return BY_NAME["sync.failed"]
    return _BY_ACTION[row.action]


def _queue(channels: Iterable[AlertChannel], event: EventType, payloads: Sequence[dict[str, Any]]) -> None:
    now = timezone.now()
    rows = [
        ChannelDelivery(
            organization_id=channel.organization_id,
            channel=channel,
            event_key=f"{event.name}:{uuid.uuid4()}",
            title=clean_line(payload["title"], 200),
            payload=payload,
            next_attempt_at=now,
        )
        for channel in channels
        if event.name in channel.events
        for payload in payloads
    ]
    if rows:
        ChannelDelivery.objects.bulk_create(rows)
        enqueue_on_commit("notifications.channels")


def _queue_lines(
    organization: Organization,
    channels: Sequence[AlertChannel],
    event: EventType,
    work: Sequence[dict[str, Any]],
    actor: Actor,
    run: dict[str, Any] | None = None,
) -> None:
    parts = [work[start : start + LINES_PER_MESSAGE] for start in range(0, len(work), LINES_PER_MESSAGE)]
    title = f"{event.label}: {len(work):,} change{'' if len(work) == 1 else 's'}"
    state = event.name.removeprefix("hand_off.").replace("opened", "open")
    link = f"/o/{organization.slug}/hand-offs/?state={state}"
    payloads = []
    for number, lines in enumerate(parts, start=1):
        data: dict[str, Any] = {"lines": lines, "total": len(work), "part": number, "parts": len(parts)}
        if run is not None:
            data["run"] = run
        payloads.append(envelope(organization, event.name, event.severity, title, "", link, actor, data))
    _queue(channels, event, payloads)


# --- messages ---------------------------------------------------------------------------------------------------------


def envelope(
    organization: Organization,
    name: str,
    severity: str,
    title: str,
    detail: str,
    link: str,
    actor: Actor | None,
    data: dict[str, Any],
    at: datetime | None = None,
) -> dict[str, Any]:
    """What every message holds; `data` is what its type adds. `link` is an address of a page here, or empty."""
    return {
        "type": name,
        "severity": severity,
        "title": title,
        "detail": detail[:2000],
        "link": f"{settings.AUM_BASE_URL}{link}" if link else "",
        "organization": {"slug": organization.slug, "name": organization.name},
        "actor": {"kind": actor.kind, "name": actor.name} if actor else None,
        "at": (at or timezone.now()).isoformat(),
        "data": data,
    }


def operation_data(operation: Operation) -> dict[str, Any]:
    """A run as messages tell it; the names are those of REST."""
    return {
        "id": operation.pk,
        "number": operation.number,
        "name": operation.name,
        "kind": operation.kind,
        "mode": operation.mode,
        "status": operation.status,
        "people": operation.people_count,
        "outcomes": operation.outcomes,
        "plan_hash": operation.plan_hash,
        "held_reasons": [reason.get("code", "") for reason in operation.held_reasons],
        "rule": {"id": operation.rule_id, "version": operation.rule_version} if operation.rule_id else None,
    }


def _payload(organization: Organization, event: EventType, row: Written) -> dict[str, Any]:
    make: Callable[[Organization, EventType, Written], tuple[str, str, dict[str, Any]]]
    make = _of_run if row.action.startswith("operation.") else _of_anything
    if row.action == "sync.finished":
        make = _of_sync
    title, link, data = make(organization, event, row)
    return envelope(organization, event.name, event.severity, title, row.reason, link, row.actor, data)


def _of_run(organization: Organization, event: EventType, row: Written) -> tuple[str, str, dict[str, Any]]:
    operation = Operation.objects.of(organization).get(pk=row.operation_id)
    words = {"run.held": "is held", "run.approved": "is approved"}
    said = words.get(event.name) or f"ended: {operation.get_status_display()}"
    title = f"Run #{operation.number} {operation.name} {said}"
    return title, operation.get_absolute_url(), {"run": operation_data(operation)}


def _of_sync(organization: Organization, event: EventType, row: Written) -> tuple[str, str, dict[str, Any]]:
    return event.label, f"/o/{organization.slug}/", {"sync": dict(row.after or {})}


def _of_anything(organization: Organization, event: EventType, row: Written) -> tuple[str, str, dict[str, Any]]:
    """Which action on what; never the values before and after, which the audit log keeps."""
    what = row.action.replace("_", " ").replace(".", " ")
    name = row.target_name or row.target_ref
    target = {"kind": row.target_kind, "ref": row.target_ref, "name": row.target_name}
    data = {"action": row.action, "target": target}
    return f"{event.label}: {what}{f' ({name})' if name else ''}", f"/o/{organization.slug}/audit/", data


def _line_of_row(row: Written) -> dict[str, Any]:
    after = row.after or {}
    return {
        "account_id": row.target_ref,
        "name": row.target_name,
        "email": row.target_email or None,
        "action": after.get("action", ""),
        "target": after.get("target", ""),
        "run": row.operation_number,
        "reason": row.reason,
    }
