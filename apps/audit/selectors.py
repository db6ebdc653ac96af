"""Reading the audit log: lists in newest-first order that page by keyset on (at, id), filters, and export rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db.models import Q, QuerySet

from apps.audit.models import AuditEvent, AuditIdentity
from apps.organizations.models import Organization
from aum.common.csv import neutralise

ACTOR_KINDS = ("operator", "cli", "token", "system", "scheduler", "inbound")
EXPORT_COLUMNS = (
    "id",
    "at_utc",
    "actor_kind",
    "actor",
    "actor_email",
    "action",
    "outcome",
    "target_kind",
    "target",
    "target_email",
    "target_ref",
    "operation_number",
    "rule_name",
    "rule_version",
    "group",
    "reason",
    "before",
    "after",
    "correlation_id",
    "atlassian_request_id",
    "call_id",
    "http_request_id",
    "ip_address",
)


@dataclass(frozen=True, slots=True)
class EventFilters:
    """What a list or an export is narrowed to; empty values narrow nothing.

    `search` looks in action, rule, group, reason, target reference and the target's name and e-mail; `actor` in the
    actor's name, e-mail and key; `action` is exact, or a family when it ends with a dot (`account.`); `since` ≤ at <
    `until`.
    """

    search: str = ""
    actor: str = ""
    action: str = ""
    outcome: str = ""
    since: datetime | None = None
    until: datetime | None = None
    target_ref: str = ""
    operation_id: int | None = None


def events(organization: Organization, filters: EventFilters | None = None) -> QuerySet[AuditEvent]:
    """Events of `organization`, newest first by (at, id), with actor and target loaded."""
    queryset: QuerySet[AuditEvent] = (
        AuditEvent.objects.of(organization).select_related("actor", "target").order_by("-at", "-id")
    )
    return queryset if filters is None else queryset.filter(_condition(organization, filters))


def events_before(queryset: QuerySet[AuditEvent], at: datetime, event_id: int) -> QuerySet[AuditEvent]:
    """The page of `events` that follows the event (`at`, `event_id`), the last one shown."""
    return queryset.filter(Q(at__lt=at) | Q(at=at, id__lt=event_id), at__lte=at)


def events_of_operation(operation_id: int) -> QuerySet[AuditEvent]:
    """Events of one operation, which the caller reached through its organisation, oldest first."""
    return AuditEvent.objects.filter(operation_id=operation_id).select_related("actor", "target").order_by("id")


def events_of_target(organization: Organization, target_kind: str, target_ref: str) -> QuerySet[AuditEvent]:
    """Everything that happened to one account, rule or group of `organization`, newest first."""
    identities = AuditIdentity.objects.of(organization).filter(kind=target_kind, key=target_ref)
    return events(organization).filter(target__in=identities.values("pk"))


def export_rows(organization: Organization, filters: EventFilters | None = None) -> Iterator[list[str]]:
    """The header, then one row of safe CSV cells per event, newest first, read in chunks by a cursor on the server."""
    yield list(EXPORT_COLUMNS)
    for event in events(organization, filters).iterator(chunk_size=2000):
        yield [neutralise(_cell(value)) for value in _export_values(event)]


def _condition(organization: Organization, filters: EventFilters) -> Q:
    condition = Q()
    if filters.outcome:
        condition &= Q(outcome=filters.outcome)
    if filters.action:
        condition &= Q(action__startswith=filters.action) if filters.action.endswith(".") else Q(action=filters.action)
    if filters.since is not None:
        condition &= Q(at__gte=filters.since)
    if filters.until is not None:
        condition &= Q(at__lt=filters.until)
    if filters.target_ref:
        condition &= Q(target_ref=filters.target_ref)
    if filters.operation_id is not None:
        condition &= Q(operation_id=filters.operation_id)
    if filters.actor.strip():
        condition &= Q(actor__in=_identities(organization, filters.actor.strip()).filter(kind__in=ACTOR_KINDS))
    if filters.search.strip():
        condition &= _search(organization, filters.search.strip())
    return condition


def _search(organization: Organization, text: str) -> Q:
    condition = (
        Q(action__icontains=text)
        | Q(rule_name__icontains=text)
        | Q(group_name__icontains=text)
        | Q(reason__icontains=text)
        | Q(target_ref=text)
        | Q(target__in=_identities(organization, text).values("pk"))
    )
    number = text.removeprefix("#")
    if number.isascii() and number.isdigit() and len(number) < 10:
        condition |= Q(operation_number=int(number))
    return condition


def _identities(organization: Organization, text: str) -> QuerySet[AuditIdentity]:
    """Identities whose name, e-mail or key holds `text`."""
    queryset: QuerySet[AuditIdentity] = AuditIdentity.objects.of(organization).filter(
        Q(name__icontains=text) | Q(email__icontains=text) | Q(key=text)
    )
    return queryset


def _export_values(event: AuditEvent) -> tuple[Any, ...]:
    target = event.target
    return (
        event.pk,
        event.at,
        event.actor_kind,
        event.actor.label,
        event.actor.email,
        event.action,
        event.outcome,
        event.target_kind,
        target.label if target else "",
        target.email if target else "",
        event.target_ref,
        event.operation_number,
        event.rule_name,
        event.rule_version,
        event.group_name,
        event.reason,
        event.before,
        event.after,
        event.correlation_id,
        event.request_id,
        event.call_id,
        event.http_request_id,
        event.ip_address,
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return str(value)
