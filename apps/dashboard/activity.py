"""Recent activity and the timeline of the audit page: operations, syncs, imports, data migrations, together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, F, Q, QuerySet
from django.urls import reverse
from django.utils import timezone

from apps.audit.models import LogImport
from apps.audit.selectors import events, imported_events, last_clearance
from apps.migrations_mgmt.models import Backfill
from apps.operations.models import Operation, OperationItem
from apps.operations.reasons import change_words, outcome_sentence, reason_sentence
from apps.organizations.models import Organization
from apps.users.models import Account, ImportFile, SyncRun
from apps.users.predicates import search_q

SYNC_KIND, MIGRATION_KIND = "sync", "migration"
OTHER_KINDS = ((SYNC_KIND, "Directory Sync"), (MIGRATION_KIND, "Migration"))

# The words of the audit pages for statuses (DECISIONS.md §12).
SUCCESS = (Operation.Status.SUCCEEDED, Operation.Status.PREVIEWED)
WARNING = (Operation.Status.NO_EFFECT, Operation.Status.HELD, Operation.Status.EXPIRED)
IN_PROGRESS = tuple(status for status in Operation.OPEN if status != Operation.Status.HELD)
_ENDED = (Operation.Status.CANCELLED, Operation.Status.REJECTED, Operation.Status.SUPERSEDED)
STATUS_LABELS = {
    "success": "Success",
    "failed": "Failed",
    "warning": "Warning",
    "partial": "Partial failure",
    "progress": "In progress",
    "ended": "Cancelled, rejected or superseded",
}
# Word → the statuses of each source that it stands for.
OPERATION_WORDS: dict[str, tuple[str, ...]] = {
    "success": SUCCESS,
    "failed": (Operation.Status.FAILED,),
    "warning": WARNING,
    "partial": (Operation.Status.PARTIAL_FAILURE,),
    "progress": IN_PROGRESS,
    "ended": _ENDED,
}
SYNC_WORDS: dict[str, tuple[str, ...]] = {
    "success": (SyncRun.Status.SUCCEEDED,),
    "failed": (SyncRun.Status.FAILED,),
    "warning": (),
    "partial": (SyncRun.Status.PARTIAL,),
    "progress": SyncRun.OPEN,
    "ended": (SyncRun.Status.CANCELLED,),
}
# A file that waits for a person to map or check it is a warning, as a held plan is.
IMPORT_WORDS: dict[str, tuple[str, ...]] = {
    "success": (ImportFile.Status.CHECKED,),
    "failed": (ImportFile.Status.FAILED,),
    "warning": (ImportFile.Status.READ,),
    "progress": (ImportFile.Status.READING,),
}
BACKFILL_WORDS: dict[str, tuple[str, ...]] = {
    "success": (Backfill.Status.FINISHED,),
    "failed": (Backfill.Status.FAILED,),
    "progress": (Backfill.Status.RUNNING, Backfill.Status.PAUSED),
}
LOG_IMPORT_WORDS: dict[str, tuple[str, ...]] = {
    "success": (LogImport.Status.FINISHED,),
    "failed": (LogImport.Status.FAILED,),
    "progress": (LogImport.Status.RUNNING,),
}
_PLAIN_BADGES = {"ended": "skipped"}
PHASES = {
    "queued": "waiting for a worker",
    "file": "reading the file",
    "places": "reading directories and products",
    "groups": "reading groups",
    "grants": "reading what groups grant",
    "people": "reading people",
    "late_grants": "reading what groups grant",
    "merge": "comparing with what was known",
}


@dataclass(frozen=True)
class ActivityRow:
    """One line of Recent activity and of the timeline."""

    key: str
    kind: str
    type_label: str
    name: str
    summary: str
    initiator: str
    at: datetime
    finished_at: datetime | None
    seconds: float | None
    badge: str
    status_label: str
    url: str
    number: int | None

    @property
    def is_open(self) -> bool:
        """True while it still works."""
        return self.badge == "progress"

    @property
    def open_label(self) -> str:
        """What the button that leads to the whole record says."""
        words = {"o": f"Open run #{self.number}", "s": "Open sync", "i": "Open import"}
        return words.get(self.key[0], "Open Migration")


@dataclass(frozen=True)
class RunFilters:
    """What the timeline is narrowed to; empty values narrow nothing.

    `performer` is found in who started something, and in the names and e-mails of the users it touched.
    """

    search: str = ""
    performer: str = ""
    kinds: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None


Cursor = tuple[datetime, str]


@dataclass(frozen=True)
class Source:
    """One table that the timeline shows: its rows for some filters, and the line that each becomes."""

    prefix: str
    moment: str
    words: dict[str, tuple[str, ...]]
    open_statuses: tuple[str, ...]
    rows: Callable[[Organization, RunFilters], QuerySet[Any]]
    line: Callable[[Any, Organization], ActivityRow]


def recent_activity(organization: Organization, limit: int = 5) -> list[ActivityRow]:
    """The newest of everything, newest first."""
    return activity_page(organization, RunFilters(), limit)[:limit]


def activity_page(
    organization: Organization, filters: RunFilters, limit: int, before: Cursor | None = None
) -> list[ActivityRow]:
    """Up to `limit` + 1 rows of the timeline after the row `before` = (its `at`, its `key`), newest first.

    Rows are ordered by (at, key) downwards; the extra row says that there is a next page. What was cleared is left out,
    unless it still runs.
    """
    rows = []
    for source in SOURCES:
        found = _of_source(source, organization, filters).filter(_before(source, before))
        found = found.order_by(f"-{source.moment}", "-pk")[: limit + 1]
        rows += [source.line(row, organization) for row in found]
    rows.sort(key=lambda row: (row.at, row.key), reverse=True)
    return rows[: limit + 1]


def _of_source(source: Source, organization: Organization, filters: RunFilters) -> QuerySet[Any]:
    rows = source.rows(organization, filters)
    if filters.statuses:
        rows = rows.filter(status__in=[one for word in filters.statuses for one in source.words.get(word, ())])
    if filters.since is not None:
        rows = rows.filter(**{f"{source.moment}__gte": filters.since})
    if filters.until is not None:
        rows = rows.filter(**{f"{source.moment}__lt": filters.until})
    return rows


def uncleared(
    organization: Organization, rows: QuerySet[Any], moment: str, open_statuses: tuple[str, ...]
) -> QuerySet[Any]:
    """`rows` without those that the newest clearance took out of the views."""
    clearance = last_clearance(organization)
    if clearance is None:
        return rows
    return rows.filter(Q(**{f"{moment}__gt": clearance.requested_at}) | Q(status__in=open_statuses))


def _before(source: Source, before: Cursor | None) -> Q:
    """Rows of one source that come after `before` in the order of (at, key); keys are "<prefix><zero-padded pk>"."""
    if before is None:
        return Q()
    at, key = before
    same = Q(**{source.moment: at})
    earlier = Q(**{f"{source.moment}__lt": at})
    if key[0] == source.prefix:
        return earlier | same & Q(pk__lt=int(key[1:]))
    return earlier | (same if source.prefix < key[0] else Q(pk__in=[]))


def kinds_named(text: str) -> list[str]:
    """Kinds of operations whose label holds `text`."""
    return [str(value) for value, label in Operation.Kind.choices if text.lower() in str(label).lower()]


def people_named(organization: Organization, text: str) -> QuerySet[Account]:
    """Accounts whose name or e-mail holds `text`."""
    condition = search_q(text)
    found: QuerySet[Account] = Account.objects.of(organization)
    return found.filter(condition) if condition else found.none()


def operations_named(organization: Organization, text: str) -> Q:
    """The condition on operations whose name, kind, reason or number holds `text`."""
    found = Q(name__icontains=text) | Q(reason__icontains=text) | Q(kind__in=kinds_named(text))
    number = text.removeprefix("#")
    if number.isascii() and number.isdigit() and len(number) < 10:
        found |= Q(number=int(number))
    return found


def _operations(organization: Organization, filters: RunFilters) -> QuerySet[Operation]:
    rows: QuerySet[Operation] = Operation.objects.of(organization)
    rows = uncleared(organization, rows, "created_at", Operation.OPEN)
    if filters.search:
        rows = rows.filter(operations_named(organization, filters.search))
    if filters.performer:
        people = people_named(organization, filters.performer)
        touched = OperationItem.objects.of(organization).filter(account__in=people)
        rows = rows.filter(
            Q(actor_text__icontains=filters.performer)
            | Q(actor__email__icontains=filters.performer)
            | Q(pk__in=touched.values("operation"))
        )
    if filters.kinds:
        rows = rows.filter(kind__in=filters.kinds)
    return rows


def _syncs(organization: Organization, filters: RunFilters) -> QuerySet[SyncRun]:
    rows: QuerySet[SyncRun] = SyncRun.objects.of(organization)
    rows = uncleared(organization, rows, "created_at", SyncRun.OPEN)
    if filters.search and filters.search.lower() not in "directory sync":
        return rows.none()
    if filters.performer:
        rows = rows.filter(started_by__icontains=filters.performer)
    return rows if not filters.kinds or SYNC_KIND in filters.kinds else rows.none()


def _imports(organization: Organization, filters: RunFilters) -> QuerySet[ImportFile]:
    rows: QuerySet[ImportFile] = ImportFile.objects.of(organization).defer("content")
    rows = uncleared(organization, rows, "created_at", (ImportFile.Status.READING,))
    if filters.search and filters.search.lower() not in "user import":
        rows = rows.filter(name__icontains=filters.search)
    if filters.performer:
        rows = rows.filter(uploaded_by__icontains=filters.performer)
    return rows if not filters.kinds or Operation.Kind.USER_IMPORT in filters.kinds else rows.none()


def _backfills(organization: Organization, filters: RunFilters) -> QuerySet[Backfill]:
    rows = Backfill.objects.filter(organization=organization, started_at__isnull=False, hidden_at=None)
    rows = uncleared(organization, rows, "started_at", (Backfill.Status.RUNNING, Backfill.Status.PAUSED))
    if filters.search:
        text = filters.search.lower()
        names = [name for name, label in BACKFILL_LABELS.items() if text in label.lower()]
        rows = rows.filter(name__in=names)
    if filters.performer:
        return rows.none()
    return rows if not filters.kinds or MIGRATION_KIND in filters.kinds else rows.none()


def _log_imports(organization: Organization, filters: RunFilters) -> QuerySet[LogImport]:
    rows: QuerySet[LogImport] = LogImport.objects.of(organization).defer("content")
    rows = uncleared(organization, rows, "created_at", (LogImport.Status.RUNNING,))
    if filters.search and filters.search.lower() not in "import of an audit log":
        rows = rows.filter(name__icontains=filters.search)
    if filters.performer:
        rows = rows.filter(imported_by__icontains=filters.performer)
    return rows if not filters.kinds or MIGRATION_KIND in filters.kinds else rows.none()


def _seconds(began_at: datetime | None, finished_at: datetime | None) -> float | None:
    return max(0.0, (finished_at - began_at).total_seconds()) if began_at and finished_at else None


def _word(words: dict[str, tuple[str, ...]], status: str) -> str:
    return next((word for word, statuses in words.items() if status in statuses), "warning")


def _badge(word: str) -> str:
    return _PLAIN_BADGES.get(word, word)


def _operation_line(row: Operation, organization: Organization) -> ActivityRow:
    began_at = row.started_at or row.planned_at or row.created_at
    return ActivityRow(
        key=f"o{row.pk:020}",
        kind=row.kind,
        type_label=row.get_kind_display(),
        name=row.name,
        summary=operation_summary(row),
        initiator=f"{row.get_initiator_display()}, {row.actor_text}" if row.actor_text else row.get_initiator_display(),
        at=row.created_at,
        finished_at=row.finished_at,
        seconds=_seconds(began_at, row.finished_at),
        badge=_badge(_word(OPERATION_WORDS, row.status)),
        status_label=row.get_status_display(),
        url=reverse("operations:run", args=[organization.slug, row.number]),
        number=row.number,
    )


def operation_summary(row: Operation) -> str:
    """One sentence: "35 of 50 users processed successfully", "63 users would change", "waits for approval"."""
    users = "user" if row.people_count == 1 else "users"
    if row.status == Operation.Status.PREVIEWED:
        return f"{row.people_count:,} {users} would change"
    if row.status == Operation.Status.PLANNING:
        return "the plan is being made"
    if row.status == Operation.Status.HELD:
        reasons = [str(reason["sentence"]) for reason in row.held_reasons if reason.get("sentence")]
        return f"{row.people_count:,} {users}, waits for approval. {' '.join(reasons)}".strip()
    if row.is_open:
        return f"{row.progress_done:,} of {row.progress_total:,} steps done"
    done = sum(int(row.outcomes.get(code, 0)) for code in ("done", "already_so"))
    what = "users" if row.people_count == row.planned_count else "steps"
    words = f"{done:,} of {row.planned_count:,} {what} processed successfully"
    return f"{words}. {row.status_detail}" if row.status_detail else words


def _sync_line(row: SyncRun, organization: Organization) -> ActivityRow:
    return ActivityRow(
        key=f"s{row.pk:020}",
        kind=SYNC_KIND,
        type_label="Directory Sync",
        name=f"Export file {row.found.get('file', '')}" if row.source == SyncRun.Source.FILE else "Directory sync",
        summary=sync_summary(row),
        initiator=f"{'Automated' if row.initiator == 'automated' else 'Manual'}, {row.started_by}".removesuffix(", "),
        at=row.created_at,
        finished_at=row.finished_at,
        seconds=_seconds(row.started_at or row.created_at, row.finished_at),
        badge=_badge(_word(SYNC_WORDS, row.status)),
        status_label=row.get_status_display(),
        url=reverse("dashboard:sync", args=[organization.slug, row.pk]),
        number=None,
    )


def sync_summary(row: SyncRun) -> str:
    """One sentence about a sync: how far it is, what it found, or what went wrong."""
    if row.status == SyncRun.Status.FAILED:
        return row.error_detail or ("The file failed." if row.source == SyncRun.Source.FILE else "The sync failed.")
    if row.status in SyncRun.OPEN:
        total = f" of {row.people_total:,}" if row.people_total else ""
        return f"{row.people_seen:,}{total} people read, {PHASES.get(row.phase, row.phase)}"
    words = f"{row.people_seen:,} people read, {row.people_added:,} new, {row.people_changed:,} changed"
    return f"{words}, {row.people_vanished:,} gone" if row.people_vanished else words


def _import_line(row: ImportFile, organization: Organization) -> ActivityRow:
    finished_at = row.checked_at or (row.created_at if row.status == ImportFile.Status.FAILED else None)
    return ActivityRow(
        key=f"i{row.pk:020}",
        kind=Operation.Kind.USER_IMPORT,
        type_label=str(Operation.Kind.USER_IMPORT.label),
        name=row.name,
        summary=import_summary(row),
        initiator=f"Manual, {row.uploaded_by}".removesuffix(", "),
        at=row.created_at,
        finished_at=finished_at,
        seconds=_seconds(row.created_at, finished_at),
        badge=_badge(_word(IMPORT_WORDS, row.status)),
        status_label=row.get_status_display(),
        url=reverse("operations:import", args=[organization.slug, row.pk]),
        number=None,
    )


def import_summary(row: ImportFile) -> str:
    """One sentence about an uploaded file: how far it is, what its check found, or what is wrong with it."""
    if row.status == ImportFile.Status.FAILED:
        return row.error or "The file cannot be read."
    if row.status == ImportFile.Status.READING:
        return f"{row.rows_stored:,} lines read"
    total = row.rows_total if row.rows_total is not None else row.lines
    lines = f"{total:,} {'line' if total == 1 else 'lines'}"
    if row.status == ImportFile.Status.READ:
        return f"{lines}, waits for its columns to be checked"
    return f"{lines} checked"


BACKFILL_LABELS = {"audit.search": "Logs migration", "rules.schema": "Rules migration"}


def _backfill_line(row: Backfill, organization: Organization) -> ActivityRow:
    unit = "rules" if row.name.startswith("rules.") else "entries"
    words = f"{row.done:,} of {row.total:,} {unit} moved"
    return ActivityRow(
        key=f"b{row.pk:020}",
        kind=MIGRATION_KIND,
        type_label="Migration",
        name=BACKFILL_LABELS.get(row.name, row.name),
        summary=f"{words}. {row.failed_reason}" if row.failed_reason else words,
        initiator="Automated, AUM",
        at=row.started_at or timezone.now(),
        finished_at=row.finished_at,
        seconds=_seconds(row.started_at, row.finished_at),
        badge=_badge(_word(BACKFILL_WORDS, row.status)),
        status_label="Success" if row.status == Backfill.Status.FINISHED else row.get_status_display(),
        url=reverse("dashboard:migration", args=[organization.slug]),
        number=None,
    )


def _log_import_line(row: LogImport, organization: Organization) -> ActivityRow:
    words = f"{row.done:,} of {row.lines:,} lines read, {row.added:,} new entries"
    if row.refused:
        words += f", {row.refused:,} refused"
    return ActivityRow(
        key=f"l{row.pk:020}",
        kind=MIGRATION_KIND,
        type_label="Migration",
        name=f"Import of an audit log: {row.name}",
        summary=row.detail or words,
        initiator=f"Manual, {row.imported_by}".removesuffix(", "),
        at=row.created_at,
        finished_at=row.finished_at,
        seconds=_seconds(row.created_at, row.finished_at),
        badge=_badge(_word(LOG_IMPORT_WORDS, row.status)),
        status_label="Success" if row.status == LogImport.Status.FINISHED else row.get_status_display(),
        url=reverse("dashboard:migration", args=[organization.slug]),
        number=None,
    )


_OPERATIONS = Source("o", "created_at", OPERATION_WORDS, tuple(Operation.OPEN), _operations, _operation_line)
_SYNCS = Source("s", "created_at", SYNC_WORDS, tuple(SyncRun.OPEN), _syncs, _sync_line)
_IMPORTS = Source("i", "created_at", IMPORT_WORDS, (ImportFile.Status.READING,), _imports, _import_line)
_BACKFILLS = Source(
    "b", "started_at", BACKFILL_WORDS, (Backfill.Status.RUNNING, Backfill.Status.PAUSED), _backfills, _backfill_line
)
_LOG_IMPORTS = Source("l", "created_at", LOG_IMPORT_WORDS, (LogImport.Status.RUNNING,), _log_imports, _log_import_line)
SOURCES = (_OPERATIONS, _SYNCS, _IMPORTS, _BACKFILLS, _LOG_IMPORTS)
PREFIXES = tuple(source.prefix for source in SOURCES)


@dataclass(frozen=True)
class AffectedRow:
    """One person of a run as its timeline row and the lists of the cards show them."""

    who: str
    action: str
    target: str
    badge: str
    status_label: str
    detail: str
    operation: Operation
    at: datetime | None
    key: int


_GOOD = (OperationItem.Outcome.DONE, OperationItem.Outcome.ALREADY_SO)
_BAD = (
    OperationItem.Outcome.FAILED,
    OperationItem.Outcome.FAILED_LICENCE_LIMIT,
    OperationItem.Outcome.UNRESOLVED,
)


def affected_rows(operation: Operation, limit: int) -> list[AffectedRow]:
    """The first `limit` items of an operation, the newest outcome first; of a preview, whom it names and why."""
    items = (
        OperationItem.objects.filter(operation=operation)
        .select_related("account", "operation")
        .order_by(F("finished_at").desc(nulls_last=True), "rank", "pk")[:limit]
    )
    return [_affected(item) for item in items]


def _affected(item: OperationItem) -> AffectedRow:
    action, target = change_words(item)
    who = (item.account.email or item.account.name) if item.account else item.subject

    def row(badge: str, label: str, detail: str) -> AffectedRow:
        return AffectedRow(who, action, target, badge, label, detail, item.operation, item.finished_at, item.pk)

    if item.operation.status == Operation.Status.PREVIEWED:
        return row("info", "Would change", reason_sentence(item.reason, timezone.now()))
    if item.status != OperationItem.Status.FINISHED:
        return row("progress", item.get_status_display(), outcome_sentence(item))
    badge = "success" if item.outcome in _GOOD else "failed" if item.outcome in _BAD else "skipped"
    return row(badge, item.get_outcome_display(), outcome_sentence(item))


CARDS = {
    "total": "Total operations today",
    "success": "Successful operations",
    "failed": "Failed operations",
    "progress": "In progress",
    "users": "Users affected",
}


@dataclass(frozen=True)
class DayFigures:
    """The last 24 hours: what the audit page's cards show. Each figure equals the list that its card opens."""

    since: datetime
    total: int
    success: int
    failed: int
    progress: int
    people_affected: int
    operations_affecting: int


def day_figures(organization: Organization, now: datetime | None = None) -> DayFigures:
    """Counts of everything begun in the last 24 hours, and of people whom a live run changed since then."""
    since = (now or timezone.now()) - timedelta(hours=24)
    words = ("success", "failed", "progress")
    figures = dict.fromkeys(("total", *words), 0)
    for source in SOURCES:
        rows = _of_source(source, organization, RunFilters(since=since)).order_by()
        counts = rows.aggregate(
            total=Count("pk"),
            **{word: Count("pk", filter=Q(status__in=source.words.get(word, ()))) for word in words},
        )
        for word in figures:
            figures[word] += counts[word]
    affected = _items_of_card(organization, "users", since)
    people = affected.aggregate(people=Count("subject", distinct=True), operations=Count("operation", distinct=True))
    return DayFigures(
        since=since, people_affected=people["people"], operations_affecting=people["operations"], **figures
    )


def _items_of_card(organization: Organization, card: str, since: datetime) -> QuerySet[OperationItem]:
    """The items behind a card: those of its operations, and for Users affected those that a live run changed."""
    items: QuerySet[OperationItem] = OperationItem.objects.of(organization)
    if card == "users":
        # Whoever was changed since then was so by a run that ended since then, or goes on: few runs, found first.
        live = Operation.objects.of(organization).filter(mode=Operation.Mode.LIVE)
        live = live.filter(Q(finished_at__gte=since) | Q(finished_at__isnull=True))
        items = items.filter(
            finished_at__gte=since, outcome=OperationItem.Outcome.DONE, operation__in=live.order_by().values("pk")
        )
        clearance = last_clearance(organization)
        return items.filter(finished_at__gt=clearance.requested_at) if clearance else items
    statuses = () if card == "total" else (card,)
    operations = _of_source(_OPERATIONS, organization, RunFilters(since=since, statuses=statuses))
    return items.filter(operation__in=operations.order_by().values("pk"))


def card_rows(
    organization: Organization, card: str, limit: int, *, after: int | None = None, since: datetime | None = None
) -> list[AffectedRow]:
    """Up to `limit` + 1 users behind a card of the last 24 hours, newest item first, after the item `after`."""
    since = since or timezone.now() - timedelta(hours=24)
    items = _items_of_card(organization, card, since)
    if after is not None:
        items = items.filter(pk__lt=after)
    # The page first and its people then: sorting whole rows of a busy day takes long.
    page = list(items.order_by("-pk").values_list("pk", flat=True)[: limit + 1])
    shown = OperationItem.objects.filter(pk__in=page).select_related("account", "operation__organization")
    return [_affected(item) for item in shown.order_by("-pk")]


@dataclass(frozen=True)
class CardFigures:
    """How many users and changes stand behind a card, in how many operations that touch users."""

    people: int
    items: int
    operations: int


def card_figures(organization: Organization, card: str, since: datetime | None = None) -> CardFigures:
    """The figures at the head of a card's list."""
    items = _items_of_card(organization, card, since or timezone.now() - timedelta(hours=24))
    found = items.aggregate(
        people=Count("subject", distinct=True), items=Count("pk"), operations=Count("operation", distinct=True)
    )
    return CardFigures(**found)


@dataclass(frozen=True)
class ErasableFigures:
    """What Clear logs would take out of the views now."""

    entries: int
    operations: int


def erasable_figures(organization: Organization) -> ErasableFigures:
    """Entries of the log, and ended runs, syncs, imports and migrations, that are shown at this moment."""
    operations = 0
    for source in SOURCES:
        ended = _of_source(source, organization, RunFilters()).exclude(status__in=source.open_statuses)
        operations += ended.order_by().count()
    entries = events(organization).order_by().count() + imported_events(organization).order_by().count()
    return ErasableFigures(entries, operations)
