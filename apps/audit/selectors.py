"""Reading the audit log: lists in newest-first order that page by keyset on (at, id), filters, and export rows."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from django.db.models import Max, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from apps.audit.models import (
    ArchivePart,
    AuditEvent,
    AuditIdentity,
    ImportedEvent,
    LogClearance,
    LogImport,
    RetentionPolicy,
    Verification,
)
from apps.audit.registry import OperationFacts, operations
from apps.audit.search import Bounds, identity_ids, matching
from apps.organizations.models import Organization
from aum.common.csv import neutralise

# Kinds of targets that are people; what else was acted upon stands beside the operation.
PERSON_KINDS = ("account", "operator", "person", "invitation")
ACTOR_KINDS = ("operator", "cli", "token", "system", "scheduler", "inbound")
EXPORT_COLUMNS = (
    "id",
    "at_utc",
    "operation",
    "operation_type",
    "rule_name",
    "actor",
    "status",
    "user_email",
    "user_action",
    "group",
    "ip_address",
    "source",
    "actor_kind",
    "actor_email",
    "action",
    "outcome",
    "target_kind",
    "target",
    "target_email",
    "target_ref",
    "operation_number",
    "rule_version",
    "reason",
    "before",
    "after",
    "correlation_id",
    "atlassian_request_id",
    "call_id",
    "http_request_id",
)
# The words of the status filter: Success, Failed, Warning, Partial failure, In progress, and what ended otherwise.
STATUS_WORDS = ("success", "failed", "warning", "partial", "progress", "ended")
SYNC, MIGRATION, IMPORT = "sync", "migration", "user_import"
_OUTCOMES = {"success": ("success", "info"), "failed": ("failed",), "warning": ("warning", "skipped")}
_OF_OPERATION = ("partial", "progress", "ended")
_FAMILIES = {SYNC: ("sync.",), MIGRATION: ("migration.", "audit.import"), IMPORT: ("import.",)}
_STATUS_LABELS = {
    "success": "Success",
    "info": "Success",
    "failed": "Failed",
    "warning": "Warning",
    "skipped": "Skipped",
    "partial": "Partial failure",
    "progress": "In progress",
}
_CHUNK = 2000


@dataclass(frozen=True, slots=True)
class EventFilters:
    """What a list or an export is narrowed to; empty values narrow nothing.

    `search` looks for words in action, rule, group and reason, in names of runs, and in the target's name, e-mail and
    reference; `actor` in the actor's name, e-mail and key; `person` in those of actor or target. `action` is exact, or
    a family when it ends with a dot (`account.`). `kinds` are kinds of operations, or sync, migration, user_import;
    `statuses` are STATUS_WORDS: the first three judge the line itself, the others the run that it belongs to.
    `since` ≤ at < `until`.
    """

    search: str = ""
    actor: str = ""
    action: str = ""
    outcome: str = ""
    since: datetime | None = None
    until: datetime | None = None
    target_ref: str = ""
    operation_id: int | None = None
    person: str = ""
    kinds: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()

    @property
    def is_search_alone(self) -> bool:
        """True when only words and moments narrow the list."""
        return self == EventFilters(search=self.search, since=self.since, until=self.until)


def cleared_through(organization: Organization) -> int:
    """The newest event that was cleared from every view; 0 when none was."""
    found = LogClearance.objects.of(organization).aggregate(through=Max("through_event_id"))["through"]
    return int(found or 0)


def last_clearance(organization: Organization) -> LogClearance | None:
    """The newest clearance: runs begun before it have left the views."""
    found: LogClearance | None = LogClearance.objects.of(organization).order_by("-id").first()
    return found


def events(
    organization: Organization,
    filters: EventFilters | None = None,
    *,
    before: tuple[datetime, int] | None = None,
    page_size: int | None = None,
) -> QuerySet[AuditEvent]:
    """Events of `organization` that were not cleared, newest first by (at, id), with actor and target loaded.

    `before` = (at, id) of the last event shown leaves out what came after it. With `page_size` the caller takes no more
    than the newest so many events, which a search by words alone uses.
    """
    cleared = LogClearance.objects.of(organization).order_by("-through_event_id").values("through_event_id")[:1]
    queryset: QuerySet[AuditEvent] = (
        AuditEvent.objects.of(organization)
        .filter(id__gt=Coalesce(Subquery(cleared), 0))
        .select_related("actor", "target")
        .order_by("-at", "-id")
    )
    if before is not None:
        at, event_id = before
        queryset = queryset.filter(Q(at__lt=at) | Q(at=at, id__lt=event_id), at__lte=at)
    if filters is None:
        return queryset
    condition = _condition(organization, filters)
    if text := filters.search.strip():
        bounds = Bounds(filters.since, filters.until, before)
        condition &= matching(organization, text, bounds, page_size=page_size if filters.is_search_alone else None)
    return queryset.filter(condition)


def events_of_operation(operation_id: int) -> QuerySet[AuditEvent]:
    """Events of one operation, which the caller reached through its organisation, oldest first."""
    return AuditEvent.objects.filter(operation_id=operation_id).select_related("actor", "target").order_by("id")


def events_of_target(organization: Organization, target_kind: str, target_ref: str) -> QuerySet[AuditEvent]:
    """Everything that happened to one account, rule or group of `organization`, newest first."""
    identities = AuditIdentity.objects.of(organization).filter(kind=target_kind, key=target_ref)
    return events(organization).filter(target__in=identities.values("pk"))


def imported_events(organization: Organization, filters: EventFilters | None = None) -> QuerySet[ImportedEvent]:
    """Lines of other products' logs, newest first; none where a filter asks for what they do not have."""
    cleared = LogClearance.objects.of(organization).order_by("-id").values("requested_at")[:1]
    queryset: QuerySet[ImportedEvent] = (
        ImportedEvent.objects.of(organization)
        .filter(log_import__created_at__gt=Coalesce(Subquery(cleared), datetime(1970, 1, 1, tzinfo=UTC)))
        .select_related("log_import")
        .defer("log_import__content")
        .order_by("-at", "-id")
    )
    if filters is None:
        return queryset
    if filters.operation_id is not None or filters.target_ref or (filters.action and filters.action != "account."):
        return queryset.none()
    if filters.since is not None:
        queryset = queryset.filter(at__gte=filters.since)
    if filters.until is not None:
        queryset = queryset.filter(at__lt=filters.until)
    if filters.outcome:
        queryset = queryset.filter(outcome=filters.outcome)
    if filters.kinds:
        queryset = queryset.filter(kind__in=filters.kinds)
    if filters.statuses:
        queryset = queryset.filter(outcome__in=filters.statuses)
    if filters.actor.strip():
        queryset = queryset.filter(performed_by__icontains=filters.actor.strip())
    if text := filters.person.strip():
        queryset = queryset.filter(Q(performed_by__icontains=text) | Q(user_email__icontains=text))
    for word in filters.search.split()[:12]:
        queryset = queryset.filter(
            Q(operation__icontains=word)
            | Q(rule_name__icontains=word)
            | Q(user_email__icontains=word)
            | Q(user_action__icontains=word)
            | Q(group_name__icontains=word)
        )
    return queryset


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the detailed view, of AUM's own log or of an imported one; `key` is e<id> or m<id>."""

    key: str
    at: datetime
    operation: str
    operation_type: str
    operation_number: int | None
    rule_name: str
    performed_by: str
    performed_email: str
    is_automated: bool
    badge: str
    status_label: str
    user: str
    about: str
    user_action: str
    group: str
    ip_address: str
    event_id: int | None
    source: str

    @property
    def is_imported(self) -> bool:
        """True for a line of another product's log, about which the chain says nothing."""
        return self.event_id is None


def lines(
    organization: Organization,
    filters: EventFilters,
    limit: int,
    before: tuple[datetime, str] | None = None,
) -> list[Line]:
    """Up to `limit` + 1 lines after the line `before` = (its `at`, its `key`), newest first.

    Ordered by (at, kind of key, id) downwards: of one moment, AUM's own lines come first. The extra line says that
    there is a next page.
    """
    foreign = imported_events(organization, filters)
    place = None
    if before is not None:
        at, key = before
        # Of one moment, AUM's own events come first: after an imported line none of them is left.
        place = (at, int(key[1:]) if key[0] == "e" else 0)
        foreign = foreign.filter(at__lte=at) if key[0] == "e" else foreign.filter(_after(at, int(key[1:])))
    found = list(events(organization, filters, before=place, page_size=limit + 1)[: limit + 1])
    facts = operations().facts({event.operation_id for event in found if event.operation_id is not None})
    merged = heapq.merge(
        (event_line(event, facts.get(event.operation_id or 0)) for event in found),
        (imported_line(row) for row in foreign[: limit + 1]),
        key=_newest_first,
    )
    return list(islice(merged, limit + 1))


def _after(at: datetime, pk: int) -> Q:
    return Q(at__lt=at) | Q(at=at, id__lt=pk)


def _newest_first(line: Line) -> tuple[float, bool]:
    return (-line.at.timestamp(), line.is_imported)


def action_words(action: str) -> str:
    """`account.remove_from_group` as "Remove from group", `rule.updated` as "Rule updated"."""
    family, _, verb = action.partition(".")
    words = verb if family == "account" and verb else f"{family} {verb}"
    words = words.replace("_", " ").replace(".", " ").strip()
    return words[:1].upper() + words[1:]


_AREAS = {
    "account": "People",
    "sync": "Directory Sync",
    "import": "User Import",
    "rule": "Rule",
    "exemption": "Exemption",
    "snooze": "Exemption",
    "audit": "Audit log",
    "migration": "Migration",
    "credentials": "Connection",
    "organization": "Settings",
    "operator": "People and roles",
    "token": "API access",
    "identity": "Audit log",
    "retention": "Audit log",
}


def event_line(event: AuditEvent, facts: OperationFacts | None) -> Line:
    """The line of one event; `facts` are those of its operation."""
    family = event.action.partition(".")[0]
    area = _AREAS.get(family, family.replace("_", " ").capitalize())
    target = event.target
    status = "partial" if event.action.endswith(".partial_failure") else event.outcome
    number = event.operation_number
    return Line(
        key=f"e{event.pk}",
        at=event.at,
        operation=facts.name if facts else (f"Run #{number}" if number else area),
        operation_type=facts.kind_label if facts else ("" if number else area),
        operation_number=number,
        rule_name=event.rule_name,
        performed_by=event.actor.label,
        performed_email=event.actor.email,
        is_automated=event.actor_kind in ("scheduler", "system"),
        badge=status,
        status_label=_STATUS_LABELS[status],
        user=(target.email or target.label) if target and event.target_kind in PERSON_KINDS else "",
        about=_about(event),
        user_action=action_words(event.action),
        group=event.group_name,
        ip_address=event.ip_address or "",
        event_id=event.pk,
        source="AUM",
    )


def _about(event: AuditEvent) -> str:
    """What was acted upon where that was no person and has a name of its own."""
    target = event.target
    if target is None or event.target_kind in (*PERSON_KINDS, "operation", "organization", "sync"):
        return ""
    return target.name or target.email


def imported_line(row: ImportedEvent) -> Line:
    """The line of one imported entry, in the words of its file."""
    erased = "Erased person" if row.erased_at else ""
    return Line(
        key=f"m{row.pk}",
        at=row.at,
        operation=row.operation,
        operation_type="Imported log",
        operation_number=None,
        rule_name=row.rule_name,
        performed_by=row.performed_by or erased,
        performed_email="",
        is_automated=row.performed_by.lower() in ("automated", "scheduler", "system"),
        badge=row.outcome or "info",
        status_label=row.status or "–",
        user=row.user_email or erased,
        about="",
        user_action=row.user_action,
        group=row.group_name,
        ip_address="",
        event_id=None,
        source=f"imported: {row.log_import.name}",
    )


def export_rows(organization: Organization, filters: EventFilters | None = None) -> Iterator[list[str]]:
    """The header, then one row of safe CSV cells per line, newest first, read in chunks by cursors on the server."""
    yield list(EXPORT_COLUMNS)
    yield from _merged_rows(events(organization, filters), imported_events(organization, filters))


def export_of(organization: Organization, clearance: LogClearance) -> Iterator[list[str]]:
    """What one clearance hid, as rows of an export without the header."""
    earlier = LogClearance.objects.of(organization).filter(pk__lt=clearance.pk)
    since = earlier.aggregate(through=Max("through_event_id"))["through"] or 0
    own = AuditEvent.objects.of(organization).filter(id__gt=since, id__lte=clearance.through_event_id)
    foreign = (
        ImportedEvent.objects.of(organization)
        .filter(log_import__created_at__lt=clearance.requested_at)
        .select_related("log_import")
        .defer("log_import__content")
        .order_by("-at", "-id")
    )
    yield from _merged_rows(own.select_related("actor", "target").order_by("-at", "-id"), foreign)


def _merged_rows(own: QuerySet[AuditEvent], foreign: QuerySet[ImportedEvent]) -> Iterator[list[str]]:
    rows = heapq.merge(
        _own_rows(own),
        ((imported_line(row), None) for row in foreign.iterator(chunk_size=_CHUNK)),
        key=lambda pair: _newest_first(pair[0]),
    )
    for line, event in rows:
        yield [neutralise(_cell(value)) for value in _export_values(line, event)]


def _own_rows(queryset: QuerySet[AuditEvent]) -> Iterator[tuple[Line, AuditEvent | None]]:
    found = queryset.iterator(chunk_size=_CHUNK)
    while chunk := list(islice(found, _CHUNK)):
        facts = operations().facts({event.operation_id for event in chunk if event.operation_id is not None})
        for event in chunk:
            yield event_line(event, facts.get(event.operation_id or 0)), event


def verifications(organization: Organization) -> QuerySet[Verification]:
    """Readings of the whole chain, newest first."""
    queryset: QuerySet[Verification] = Verification.objects.of(organization).order_by("-id")
    return queryset


def log_imports(organization: Organization) -> QuerySet[LogImport]:
    """Imports of other products' logs, newest first, without the files."""
    queryset: QuerySet[LogImport] = LogImport.objects.of(organization).defer("content").order_by("-id")
    return queryset


def clearances(organization: Organization) -> QuerySet[LogClearance]:
    """Clearances with their archives, newest first."""
    queryset: QuerySet[LogClearance] = LogClearance.objects.of(organization).order_by("-id")
    return queryset


def archive_parts(clearance: LogClearance) -> Iterator[bytes]:
    """The bytes of the archive, piece by piece."""
    for number in ArchivePart.objects.filter(clearance=clearance).order_by("number").values_list("number", flat=True):
        yield bytes(ArchivePart.objects.get(clearance=clearance, number=number).data)


def retention_days(organization: Organization) -> dict[str, RetentionPolicy]:
    """The policies by kind; a kind that is missing is kept for good."""
    return {policy.kind: policy for policy in RetentionPolicy.objects.of(organization)}


@dataclass(frozen=True)
class PersonInLog:
    """One person as the log knows them: how many texts name them and in how many lines."""

    kind: str
    key: str
    names: tuple[str, ...]
    emails: tuple[str, ...]
    lines: int


def people_in_log(organization: Organization, text: str, limit: int = 20) -> list[PersonInLog]:
    """People whose name, e-mail or key holds `text`, with their lines; erased ones are found no more."""
    ids = identity_ids(organization, text)
    found: dict[tuple[str, str], list[AuditIdentity]] = {}
    kinds = ("account", "operator", "token", "cli", "inbound")
    rows = AuditIdentity.objects.of(organization).filter(pk__in=ids, kind__in=kinds, erased_at=None).order_by("pk")
    for row in rows:
        found.setdefault((row.kind, row.key), []).append(row)
    people = []
    for (kind, key), texts in list(found.items())[:limit]:
        every = AuditIdentity.objects.of(organization).filter(kind=kind, key=key).values("pk")
        count = (
            AuditEvent.objects.of(organization).filter(Q(actor__in=every) | Q(target__in=every)).count()
            if len(found) <= limit
            else 0
        )
        people.append(
            PersonInLog(
                kind,
                key,
                tuple(dict.fromkeys(row.name for row in texts if row.name)),
                tuple(dict.fromkeys(row.email for row in texts if row.email)),
                count,
            )
        )
    return people


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
        condition &= Q(actor_id__in=identity_ids(organization, filters.actor.strip(), kinds=ACTOR_KINDS))
    if filters.person.strip():
        ids = identity_ids(organization, filters.person.strip())
        condition &= Q(actor_id__in=ids) | Q(target_id__in=ids)
    if filters.kinds:
        condition &= _of_kinds(organization, filters.kinds)
    if filters.statuses:
        condition &= _with_status(organization, filters.statuses)
    return condition


def _of_kinds(organization: Organization, kinds: tuple[str, ...]) -> Q:
    condition = Q(operation_id__in=operations().of_kinds(organization, kinds))
    for kind in kinds:
        for family in _FAMILIES.get(kind, ()):
            condition |= Q(action__startswith=family)
    return condition


def _with_status(organization: Organization, words: tuple[str, ...]) -> Q:
    outcomes = [outcome for word in words for outcome in _OUTCOMES.get(word, ())]
    condition = Q(outcome__in=outcomes)
    of_operation = tuple(word for word in words if word in _OF_OPERATION)
    if of_operation:
        condition |= Q(operation_id__in=operations().of_statuses(organization, of_operation))
    return condition


def _export_values(line: Line, event: AuditEvent | None) -> tuple[Any, ...]:
    shared = (
        line.key if event is None else event.pk,
        line.at,
        line.operation,
        line.operation_type,
        line.rule_name,
        line.performed_by,
        line.status_label,
        (event.target.email if event.target else "") if event is not None else line.user,
        line.user_action,
        line.group,
        line.ip_address,
        line.source,
    )
    if event is None:
        return (*shared, *("" for _ in EXPORT_COLUMNS[len(shared) :]))
    target = event.target
    return (
        *shared,
        event.actor_kind,
        event.actor.email,
        event.action,
        event.outcome,
        event.target_kind,
        target.label if target else "",
        target.email if target else "",
        event.target_ref,
        event.operation_number,
        event.rule_version,
        event.reason,
        event.before,
        event.after,
        event.correlation_id,
        event.request_id,
        event.call_id,
        event.http_request_id,
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return str(value)
