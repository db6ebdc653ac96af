"""What the dashboard and the audit pages show, read across apps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar
from urllib.parse import urlencode

from django.db.models import Count, F, Q, QuerySet
from django.urls import reverse
from django.utils import timezone

from apps.operations.models import Operation, OperationItem
from apps.operations.reasons import change_words, outcome_sentence, reason_sentence
from apps.organizations.models import Organization
from apps.users.models import Product, SyncRun
from apps.users.selectors import DashboardCounts

Row = TypeVar("Row", Operation, SyncRun)

RANGES = (7, 30, 60, 90)
SYNC_KIND = "sync"

# The words of the audit pages for statuses (DECISIONS.md §12).
SUCCESS = (Operation.Status.SUCCEEDED, Operation.Status.PREVIEWED)
WARNING = (Operation.Status.NO_EFFECT, Operation.Status.HELD, Operation.Status.EXPIRED)
IN_PROGRESS = tuple(status for status in Operation.OPEN if status != Operation.Status.HELD)
STATUS_WORDS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    # word → (label, statuses of operations, statuses of syncs)
    "success": ("Success", SUCCESS, (SyncRun.Status.SUCCEEDED,)),
    "failed": ("Failed", (Operation.Status.FAILED,), (SyncRun.Status.FAILED,)),
    "warning": ("Warning", WARNING, ()),
    "partial": ("Partial failure", (Operation.Status.PARTIAL_FAILURE,), (SyncRun.Status.PARTIAL,)),
    "progress": ("In progress", IN_PROGRESS, SyncRun.OPEN),
    "ended": (
        "Cancelled, rejected or superseded",
        (Operation.Status.CANCELLED, Operation.Status.REJECTED, Operation.Status.SUPERSEDED),
        (SyncRun.Status.CANCELLED,),
    ),
}
_BADGES = {status: word for word, (_, operations, syncs) in STATUS_WORDS.items() for status in (*operations, *syncs)}
_PLAIN_BADGES = {"ended": "skipped"}
PHASES = {
    "queued": "waiting for a worker",
    "places": "reading directories and products",
    "groups": "reading groups",
    "grants": "reading what groups grant",
    "people": "reading people",
    "late_grants": "reading what groups grant",
    "merge": "comparing with what was known",
}


@dataclass(frozen=True)
class ActivityRow:
    """One line of Recent activity and of the timeline: an operation or a sync."""

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


@dataclass(frozen=True)
class RunFilters:
    """What the timeline is narrowed to; empty values narrow nothing."""

    search: str = ""
    performer: str = ""
    kinds: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None


def recent_activity(organization: Organization, limit: int = 5) -> list[ActivityRow]:
    """The newest operations and syncs together, newest first."""
    return activity_page(organization, RunFilters(), limit)[:limit]


def activity_page(
    organization: Organization, filters: RunFilters, limit: int, before: tuple[datetime, str] | None = None
) -> list[ActivityRow]:
    """Up to `limit` + 1 rows of the timeline after the row `before` = (its `at`, its `key`), newest first.

    Rows are ordered by (at, key) downwards; the extra row says that there is a next page.
    """
    rows = [
        *(_operation_row(row, organization) for row in _operations(organization, filters, before)[: limit + 1]),
        *(_sync_row(row, organization) for row in _syncs(organization, filters, before)[: limit + 1]),
    ]
    rows.sort(key=lambda row: (row.at, row.key), reverse=True)
    return rows[: limit + 1]


def _before(before: tuple[datetime, str] | None, prefix: str) -> Q:
    """Rows of one kind that come after `before` in the order of (at, key); keys are "<prefix><zero-padded pk>"."""
    if before is None:
        return Q()
    at, key = before
    same = Q(created_at=at)
    if key[0] == prefix:
        return Q(created_at__lt=at) | same & Q(pk__lt=int(key[1:]))
    return Q(created_at__lt=at) | (same if prefix < key[0] else Q(pk__in=[]))


def _operations(
    organization: Organization, filters: RunFilters, before: tuple[datetime, str] | None
) -> QuerySet[Operation]:
    rows: QuerySet[Operation] = Operation.objects.of(organization).order_by("-created_at", "-pk")
    rows = rows.filter(_before(before, "o"))
    if filters.search:
        text = filters.search.removeprefix("#")
        found = Q(name__icontains=filters.search) | Q(reason__icontains=filters.search)
        rows = rows.filter(
            found | Q(number=int(text)) if text.isascii() and text.isdigit() and len(text) < 10 else found
        )
    if filters.performer:
        rows = rows.filter(Q(actor_text__icontains=filters.performer) | Q(actor__email__icontains=filters.performer))
    if filters.kinds:
        rows = rows.filter(kind__in=filters.kinds)
    if filters.statuses:
        rows = rows.filter(status__in=[one for word in filters.statuses for one in STATUS_WORDS[word][1]])
    return _within(rows, filters)


def _syncs(organization: Organization, filters: RunFilters, before: tuple[datetime, str] | None) -> QuerySet[SyncRun]:
    rows: QuerySet[SyncRun] = SyncRun.objects.of(organization).order_by("-created_at", "-pk")
    rows = rows.filter(_before(before, "s"))
    if filters.search and filters.search.lower() not in "directory sync":
        return rows.none()
    if filters.performer:
        rows = rows.filter(started_by__icontains=filters.performer)
    if filters.kinds and SYNC_KIND not in filters.kinds:
        return rows.none()
    if filters.statuses:
        rows = rows.filter(status__in=[one for word in filters.statuses for one in STATUS_WORDS[word][2]])
    return _within(rows, filters)


def _within(rows: QuerySet[Row], filters: RunFilters) -> QuerySet[Row]:
    if filters.since is not None:
        rows = rows.filter(created_at__gte=filters.since)
    if filters.until is not None:
        rows = rows.filter(created_at__lt=filters.until)
    return rows


def _operation_row(row: Operation, organization: Organization) -> ActivityRow:
    word = _BADGES[row.status]
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
        seconds=(row.finished_at - began_at).total_seconds() if row.finished_at else None,
        badge=_PLAIN_BADGES.get(word, word),
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


def _sync_row(row: SyncRun, organization: Organization) -> ActivityRow:
    word = _BADGES[row.status]
    began_at = row.started_at or row.created_at
    return ActivityRow(
        key=f"s{row.pk:020}",
        kind=SYNC_KIND,
        type_label="Directory Sync",
        name="Directory sync",
        summary=sync_summary(row),
        initiator=f"{'Automated' if row.initiator == 'automated' else 'Manual'}, {row.started_by}".removesuffix(", "),
        at=row.created_at,
        finished_at=row.finished_at,
        seconds=(row.finished_at - began_at).total_seconds() if row.finished_at else None,
        badge=_PLAIN_BADGES.get(word, word),
        status_label=row.get_status_display(),
        url=reverse("dashboard:sync", args=[organization.slug, row.pk]),
        number=None,
    )


def sync_summary(row: SyncRun) -> str:
    """One sentence about a sync: how far it is, what it found, or what went wrong."""
    if row.status == SyncRun.Status.FAILED:
        return row.error_detail or "The sync failed."
    if row.status in SyncRun.OPEN:
        total = f" of {row.people_total:,}" if row.people_total else ""
        return f"{row.people_seen:,}{total} people read, {PHASES.get(row.phase, row.phase)}"
    words = f"{row.people_seen:,} people read, {row.people_added:,} new, {row.people_changed:,} changed"
    return f"{words}, {row.people_vanished:,} gone" if row.people_vanished else words


@dataclass(frozen=True)
class AffectedRow:
    """One person of a run as its timeline row shows them."""

    who: str
    action: str
    target: str
    badge: str
    status_label: str
    detail: str


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
        .select_related("account")
        .order_by(F("finished_at").desc(nulls_last=True), "rank", "pk")[:limit]
    )
    is_preview = operation.status == Operation.Status.PREVIEWED
    return [_affected(item, is_preview) for item in items]


def _affected(item: OperationItem, is_preview: bool) -> AffectedRow:
    action, target = change_words(item)
    who = (item.account.email or item.account.name) if item.account else item.subject
    if is_preview:
        return AffectedRow(who, action, target, "info", "Would change", reason_sentence(item.reason, timezone.now()))
    if item.status != OperationItem.Status.FINISHED:
        return AffectedRow(who, action, target, "progress", item.get_status_display(), outcome_sentence(item))
    badge = "success" if item.outcome in _GOOD else "failed" if item.outcome in _BAD else "skipped"
    return AffectedRow(who, action, target, badge, item.get_outcome_display(), outcome_sentence(item))


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
    """Counts of operations and syncs begun in the last 24 hours, and of people whom a live run changed since then."""
    since = (now or timezone.now()) - timedelta(hours=24)
    operations = Operation.objects.of(organization).filter(created_at__gte=since)
    syncs = SyncRun.objects.of(organization).filter(created_at__gte=since)
    words = ("success", "failed", "progress")
    counts = operations.aggregate(
        total=Count("pk"), **{word: Count("pk", filter=Q(status__in=STATUS_WORDS[word][1])) for word in words}
    )
    sync_counts = syncs.aggregate(
        total=Count("pk"), **{word: Count("pk", filter=Q(status__in=STATUS_WORDS[word][2])) for word in words}
    )
    affected = OperationItem.objects.of(organization).filter(
        finished_at__gte=since, outcome=OperationItem.Outcome.DONE, operation__mode=Operation.Mode.LIVE
    )
    people = affected.aggregate(people=Count("subject", distinct=True), operations=Count("operation", distinct=True))
    figures = {word: counts[word] + sync_counts[word] for word in ("total", *words)}
    return DayFigures(
        since=since, people_affected=people["people"], operations_affecting=people["operations"], **figures
    )


@dataclass(frozen=True)
class Insight:
    """A finding with a number, the list it counts, and the rule that would act on it."""

    key: str
    title: str
    text: str
    product: str
    product_label: str
    product_class: str
    count: int
    list_query: str
    rule_query: str


_PRODUCT_LOOK = {
    "jira": ("Jira", "p1"),
    "confluence": ("Confluence", "p3"),
    "jsm": ("JSM", "p2"),
    "bitbucket": ("Bitbucket", "p4"),
}
_TEXTS = {
    "jira": "Licensed for Jira, no Jira login for {days} days. Consider removing Jira access.",
    "confluence": "No Confluence visit for {days} days. Consider removing Confluence access.",
    "jsm": "Agents with no Jira Service Management login for {days} days. Consider removing access.",
}
_USABLE = {"account_status": "active", "membership_status": "active"}


def insights(counts: DashboardCounts) -> list[Insight]:
    """The four actionable insights for the counts' range of days, in the order of the page."""
    days = counts.days
    idle = {row.product: row.idle for row in counts.products}
    found = [_product_insight(product, idle.get(product, 0), days) for product in ("jira", "confluence", "jsm")]
    everywhere = Insight(
        key="everywhere",
        title=f"{days}+ days inactive everywhere",
        text="No login to any licensed product. Consider suspending these accounts globally.",
        product="",
        product_label="All products",
        product_class="",
        count=counts.idle_everywhere,
        list_query=urlencode({**_USABLE, "inactive_days": days}),
        rule_query=urlencode({"action": "suspend", "days": days}),
    )
    return [found[0], found[1], everywhere, found[2]]


def _product_insight(product: str, count: int, days: int) -> Insight:
    label, css = _PRODUCT_LOOK[product]
    return Insight(
        key=product,
        title=f"{days}+ days inactive in {label}",
        text=_TEXTS[product].format(days=days),
        product=product,
        product_label=label,
        product_class=css,
        count=count,
        list_query=urlencode({**_USABLE, "inactive_days": days, "inactive_product": product}),
        rule_query=urlencode({"action": "remove_product_access", "products": product, "days": days}),
    )


@dataclass(frozen=True)
class Part:
    """A slice of the donut, or a line below it, with the list it counts."""

    label: str
    hint: str
    count: int
    query: str
    css: str


def distribution(counts: DashboardCounts) -> list[Part]:
    """Everybody in four slices (DECISIONS.md §4); they add up to the total."""
    days = counts.days

    def part(label: str, hint: str, css: str, *names: str) -> Part:
        count = sum(int(getattr(counts, name)) for name in names)
        return Part(label, hint, count, urlencode({"partition": ",".join(names), "days": days}), css)

    return [
        part("Active", f"used a product within {days} days", "1", "active"),
        part("Inactive", "hold a licence, no recent use or none ever", "2", "inactive", "never_active"),
        part(
            "Deactivated, suspended or no licence",
            "hold no licence in use",
            "5",
            "suspended",
            "deactivated",
            "no_licence",
        ),
        part("Not known", "Atlassian gives no date for them", "4", "unknown"),
    ]


def partition_lines(counts: DashboardCounts) -> list[Part]:
    """The seven parts behind the four slices, for the table under the chart."""
    words = {
        "active": "Active",
        "inactive": "Inactive",
        "never_active": "Never active",
        "unknown": "Not known",
        "suspended": "Suspended",
        "deactivated": "Deactivated",
        "no_licence": "No licence",
    }
    return [
        Part(label, "", int(getattr(counts, name)), urlencode({"partition": name, "days": counts.days}), "")
        for name, label in words.items()
    ]


@dataclass(frozen=True)
class Seat:
    """People who hold a product's licence and could use it, and how many of them did not within the range."""

    product: str
    label: str
    css: str
    held: int
    idle: int
    query: str
    width: int
    used_width: int


def seats(counts: DashboardCounts, full_width: int = 420) -> list[Seat]:
    """Licences in use per product, in the fixed order of products, with widths of bars in SVG units."""
    most = max([row.held for row in counts.products] or [0])
    rows = []
    for row in counts.products:
        css = _PRODUCT_LOOK[row.product][1]
        idle = row.idle + row.never_active
        width = round(full_width * row.held / most) if most else 0
        rows.append(
            Seat(
                row.product,
                str(Product(row.product).label),
                css[1:],
                row.held,
                idle,
                urlencode({**_USABLE, "product": row.product}),
                width,
                round(width * (row.held - idle) / row.held) if row.held else 0,
            )
        )
    return rows


@dataclass(frozen=True)
class Arc:
    """One slice as an SVG circle's dash: `dash` and `gap` along the circumference, `offset` where it begins."""

    css: str
    dash: str
    offset: str
    title: str


def donut(parts: Sequence[Part], radius: float = 62, gap: float = 3) -> list[Arc]:
    """Arcs of the non-empty parts, with a small gap between them."""
    total = sum(part.count for part in parts)
    around = 2 * 3.14159265 * radius
    shown = [part for part in parts if part.count]
    arcs, at = [], 0.0
    for part in shown:
        length = around * part.count / total
        title = f"{part.label}: {part.count:,} users, {100 * part.count / total:.0f}%"
        visible = max(length - (gap if len(shown) > 1 else 0), 0.8)
        arcs.append(Arc(part.css, f"{visible:.1f} {around:.1f}", f"{-at:.1f}", title))
        at += length
    return arcs
