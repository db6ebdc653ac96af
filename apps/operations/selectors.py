"""Reads of operations: lists, one run's state, its items, what may be done with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from apps.operations.actions import REGISTRY
from apps.operations.models import Approval, LeftOut, Operation, OperationItem, SafeguardChange
from apps.operations.reasons import left_out_label
from apps.organizations.models import Organization
from apps.pricing.selectors import monthly_price
from apps.users.models import Group
from apps.users.products import label_of
from aum.common.errors import Missing

Outcome = OperationItem.Outcome
DONE = frozenset({Outcome.DONE.value})
FAILED = frozenset({Outcome.FAILED.value, Outcome.FAILED_LICENCE_LIMIT.value, Outcome.UNRESOLVED.value})
SUCCESS = frozenset({*DONE, Outcome.ALREADY_SO.value})
SKIPPED = frozenset(
    value
    for value in Outcome.values
    if value not in SUCCESS | FAILED and value not in (Outcome.CANCELLED, Outcome.NOT_ATTEMPTED)
)
STATUS_TONES: Mapping[str, str] = {
    Operation.Status.SUCCEEDED: "ok",
    Operation.Status.PREVIEWED: "info",
    Operation.Status.PARTIAL_FAILURE: "warn",
    Operation.Status.FAILED: "danger",
    Operation.Status.NO_EFFECT: "warn",
    Operation.Status.HELD: "warn",
    Operation.Status.EXPIRED: "warn",
    Operation.Status.PAUSED: "warn",
    Operation.Status.WAITING: "warn",
    Operation.Status.RUNNING: "info",
    Operation.Status.QUEUED: "info",
    Operation.Status.PLANNING: "info",
}
# Audit words (DECISIONS.md §12) → statuses.
AUDIT_STATUS: Mapping[str, tuple[str, ...]] = {
    "success": (Operation.Status.SUCCEEDED, Operation.Status.PREVIEWED),
    "failed": (Operation.Status.FAILED,),
    "partial_failure": (Operation.Status.PARTIAL_FAILURE,),
    "warning": (Operation.Status.NO_EFFECT, Operation.Status.HELD, Operation.Status.EXPIRED),
    "in_progress": (
        Operation.Status.PLANNING,
        Operation.Status.QUEUED,
        Operation.Status.RUNNING,
        Operation.Status.WAITING,
        Operation.Status.PAUSED,
    ),
}


@dataclass(frozen=True)
class OperationFilters:
    """Filters of lists of operations; empty ones do not filter. `statuses` are audit words of AUDIT_STATUS."""

    search: str = ""
    performer: str = ""
    kinds: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    rule_id: int | None = None


@dataclass(frozen=True)
class RunSummary:
    """Numbers of a run at this moment. Items are counted, people are not items: `people` is their number."""

    total: int
    done: int
    people: int
    success: int
    failed: int
    skipped: int
    todo: int
    in_doubt: int
    other: int
    by_outcome: dict[str, int]
    tone: str
    seconds_left: int | None
    waiting_seconds: int | None
    sentence: str
    can_pause: bool
    can_resume: bool
    can_cancel: bool
    can_undo: bool
    can_retry: bool
    can_apply: bool
    why_not: dict[str, str] = field(default_factory=dict)

    @property
    def already_so(self) -> int:
        """Successes that changed nothing, because it was so before."""
        return self.by_outcome.get(Outcome.ALREADY_SO.value, 0)

    @property
    def changed(self) -> int:
        return self.success - self.already_so

    @property
    def percent(self) -> int:
        return 100 * self.done // self.total if self.total else 0


def operations(organization: Organization, filters: OperationFilters | None = None) -> QuerySet[Operation]:
    """The organisation's operations, newest first."""
    rows = Operation.objects.of(organization).select_related("organization", "undo_of").order_by("-id")
    if filters is None:
        return rows
    if filters.search:
        words = Q(name__icontains=filters.search) | Q(action__icontains=filters.search.replace(" ", "_"))
        if filters.search.lstrip("#").isdigit():
            words |= Q(number=int(filters.search.lstrip("#")))
        rows = rows.filter(words)
    if filters.performer:
        rows = rows.filter(Q(actor_text__icontains=filters.performer) | Q(actor__email__icontains=filters.performer))
    if filters.kinds:
        rows = rows.filter(kind__in=filters.kinds)
    if filters.statuses:
        wanted = [status for word in filters.statuses for status in AUDIT_STATUS.get(word, ())]
        rows = rows.filter(status__in=wanted)
    if filters.since:
        rows = rows.filter(created_at__gte=filters.since)
    if filters.until:
        rows = rows.filter(created_at__lt=filters.until)
    if filters.rule_id:
        rows = rows.filter(rule_id=filters.rule_id)
    return rows


def recent(organization: Organization, limit: int = 5) -> list[Operation]:
    """The newest operations."""
    return list(operations(organization)[:limit])


def operation_by_number(organization: Organization, number: int) -> Operation:
    """Run `number` of the organisation; raises Missing."""
    found = operations(organization).filter(number=number).first()
    if found is None:
        raise Missing("There is no such run here.")
    return found


def operation_by_id(organization: Organization, pk: int) -> Operation:
    """The operation by key; raises Missing when it is not of this organisation."""
    found = operations(organization).filter(pk=pk).first()
    if found is None:
        raise Missing("There is no such operation here.")
    return found


# Of people whom an earlier plan had and no reason of its own leaves out.
NO_LONGER = "No longer meets the conditions"
GROUPS: Mapping[str, Q] = {
    "all": Q(),
    "success": Q(outcome__in=SUCCESS),
    "failed": Q(outcome__in=FAILED),
    "skipped": Q(outcome__in=SKIPPED),
    "todo": ~Q(status=OperationItem.Status.FINISHED),
}


def items_of(
    operation: Operation, *, group: str = "all", outcome: str = "", search: str = ""
) -> QuerySet[OperationItem]:
    """The operation's items in plan order with their accounts, by group (GROUPS), outcome, name or e-mail."""
    rows = operation.items.select_related("account").filter(GROUPS.get(group, Q())).order_by("id")
    if outcome:
        rows = rows.filter(outcome=outcome)
    if search.strip():
        text = search.strip()
        rows = rows.filter(Q(account__name__icontains=text) | Q(account__email__icontains=text) | Q(subject=text))
    return rows


def left_out_of(operation: Operation, *, reason: str = "") -> QuerySet[LeftOut]:
    """Whom the plan leaves out, with their accounts."""
    rows = LeftOut.objects.filter(operation=operation).select_related("account").order_by("id")
    return rows.filter(reason=reason) if reason else rows


def run_summary(operation: Operation, *, now: datetime | None = None) -> RunSummary:
    """Counted from the items, in one query for open operations; final ones keep their counts."""
    now = now or timezone.now()
    by_outcome: dict[str, int] = {}
    open_by_status: dict[str, int] = {}
    for row in operation.items.order_by().values("status", "outcome").annotate(n=Count("pk")):
        if row["status"] == OperationItem.Status.FINISHED:
            by_outcome[row["outcome"]] = row["n"]
        else:
            open_by_status[row["status"]] = row["n"]
    done, todo = sum(by_outcome.values()), sum(open_by_status.values())
    success = sum(by_outcome.get(name, 0) for name in SUCCESS)
    failed = sum(by_outcome.get(name, 0) for name in FAILED)
    skipped = sum(by_outcome.get(name, 0) for name in SKIPPED)
    waiting = None
    if operation.status == Operation.Status.WAITING and operation.waiting_until:
        waiting = max(0, int((operation.waiting_until - now).total_seconds()))
    why_not: dict[str, str] = {}
    is_run = operation.is_live
    undoable = [name for name, action in REGISTRY.items() if action.inverse]
    maybe = (Outcome.DONE.value, Outcome.NO_EFFECT_SEAT_KEPT.value, Outcome.UNRESOLVED.value)
    can_undo = bool(
        is_run
        and not operation.is_open
        and any(by_outcome.get(outcome) for outcome in maybe)
        and operation.items.filter(outcome__in=maybe, written_at__isnull=False, action__in=undoable).exists()
    )
    if is_run and not can_undo:
        why_not["undo"] = "A run can be undone when it has finished and changed something that can be given back."
    can_apply, why = _can_apply(operation, now)
    if why:
        why_not["apply"] = why
    return RunSummary(
        total=done + todo,
        done=done,
        people=operation.people_count,
        success=success,
        failed=failed,
        skipped=skipped,
        todo=todo,
        in_doubt=open_by_status.get(OperationItem.Status.IN_DOUBT, 0),
        other=done - success - failed - skipped,
        by_outcome=by_outcome,
        tone=STATUS_TONES.get(operation.status, "line"),
        seconds_left=_seconds_left(operation, done, todo, now),
        waiting_seconds=waiting,
        sentence=operation.status_detail,
        can_pause=is_run and operation.status in Operation.WORKING,
        can_resume=operation.status == Operation.Status.PAUSED,
        can_cancel=operation.is_open,
        can_undo=can_undo,
        can_retry=bool(is_run and not operation.is_open and (failed or by_outcome.get(Outcome.NOT_ATTEMPTED.value))),
        can_apply=can_apply,
        why_not=why_not,
    )


def _can_apply(operation: Operation, now: datetime) -> tuple[bool, str]:
    if operation.status != Operation.Status.PREVIEWED:
        return False, ""
    if operation.frozen.get("what_if"):
        return False, "This shows what other days would do. Change the rule, then preview and apply it."
    if not operation.people_count:
        return False, "Nobody matches, so there is nothing to run."
    if operation.expires_at and operation.expires_at <= now:
        return False, operation.status_detail or "This preview has expired. Preview again."
    applied = operation.applied_by.exclude(status__in=["cancelled", "rejected", "expired", "superseded"]).first()
    if applied is not None:
        return False, f"This preview was applied by run #{applied.number}."
    return True, ""


def _seconds_left(operation: Operation, done: int, todo: int, now: datetime) -> int | None:
    """From the rate measured so far; None before there is one."""
    if operation.status != Operation.Status.RUNNING or not operation.started_at or not done or not todo:
        return None
    spent = (now - operation.started_at).total_seconds()
    return int(todo * spent / done) if spent > 2 else None


def measured_rate(organization: Organization) -> float | None:
    """Items a second of the last three runs that worked on 20 or more, waits included; None before there is one."""
    runs = Operation.objects.of(organization).filter(
        mode=Operation.Mode.LIVE,
        status__in=(Operation.Status.SUCCEEDED, Operation.Status.PARTIAL_FAILURE),
        planned_count__gte=20,
        started_at__isnull=False,
    )
    items, seconds = 0, 0.0
    last = runs.order_by("-id").values_list("planned_count", "started_at", "finished_at")[:3]
    for planned, started, finished in last:
        items += planned
        seconds += max((finished - started).total_seconds(), 0.1) if finished else 0.0
    return items / seconds if seconds else None


@dataclass(frozen=True)
class Seats:
    """What a plan does to the licences of one product: `count` freed (negative: used), `money` a month or None."""

    label: str
    count: int
    money: Decimal | None
    currency: str


def seats_of(operation: Operation) -> list[Seats]:
    """Licences that a plan frees or uses by product, with today's price where one is entered."""
    if not operation.seats:
        return []
    prices = monthly_price(operation.organization)
    found = []
    for product, count in sorted(operation.seats.items()):
        price = prices.get(product)
        money = price.monthly * count if price else None
        found.append(Seats(label_of(product), count, money, price.currency if price else ""))
    return found


def money_of(seats: Sequence[Seats]) -> tuple[Decimal, str] | None:
    """(sum a month, currency) of what has a price; None where nothing has, or currencies differ."""
    priced = [(one.money, one.currency) for one in seats if one.money is not None]
    if not priced or len({currency for _, currency in priced}) > 1:
        return None
    return sum((money for money, _ in priced), Decimal(0)), priced[0][1]


def expected_seconds(operation: Operation) -> int | None:
    """How long applying the plan takes at the measured rate; None before there is one."""
    rate = measured_rate(operation.organization)
    return int(operation.planned_count / rate) + 1 if rate and operation.planned_count else None


def waiting_approvals(organization: Organization) -> QuerySet[Operation]:
    """Held plans, oldest first."""
    return (
        Operation.objects.of(organization)
        .select_related("organization", "actor")
        .filter(status=Operation.Status.HELD)
        .order_by("id")
    )


def decided_approvals(organization: Organization) -> QuerySet[Approval]:
    """Decisions, newest first."""
    return Approval.objects.of(organization).select_related("operation", "operation__organization").order_by("-id")


def open_safeguard_changes(organization: Organization) -> QuerySet[SafeguardChange]:
    """Looser safeguards that wait for an approval or for their hour, oldest first, with their group."""
    changes = SafeguardChange.objects.of(organization).select_related("group", "account")
    return changes.filter(status__in=SafeguardChange.OPEN).order_by("id")


def decided_safeguard_changes(organization: Organization) -> QuerySet[SafeguardChange]:
    """Looser safeguards that were approved or came to an end, newest first, with their group."""
    changes = SafeguardChange.objects.of(organization).select_related("group", "account")
    return changes.exclude(status=SafeguardChange.Status.PENDING).order_by("-id")


def granting_groups(organization: Organization, search: str = "") -> QuerySet[Group]:
    """Groups that give a product, by name."""
    rows = Group.objects.of(organization).filter(vanished_at__isnull=True).exclude(granted_products=0).order_by("name")
    return rows.filter(name__icontains=search) if search else rows


def safeguard_change_by_id(organization: Organization, pk: int) -> SafeguardChange:
    """Raises Missing."""
    change: SafeguardChange | None = (
        SafeguardChange.objects.of(organization).select_related("group", "account").filter(pk=pk).first()
    )
    if change is None:
        raise Missing
    return change


@dataclass(frozen=True)
class PlanDiff:
    """Subjects of two plans: in the newer only, in both, in the older only."""

    new: frozenset[str]
    unchanged: frozenset[str]
    gone: frozenset[str]


def diff(newer: Operation, older: Operation) -> PlanDiff:
    """What changed between two plans, by account id."""
    now_in = frozenset(newer.items.values_list("subject", flat=True).distinct())
    was_in = frozenset(older.items.values_list("subject", flat=True).distinct())
    return PlanDiff(now_in - was_in, now_in & was_in, was_in - now_in)


def diff_counts(newer: Operation, older: Operation) -> tuple[int, int]:
    """(people new in `newer`, people of `older` who are gone), counted in the database."""
    new = newer.items.exclude(subject__in=older.items.values("subject")).values("subject").distinct().count()
    gone = older.items.exclude(subject__in=newer.items.values("subject")).values("subject").distinct().count()
    return new, gone


def held_back(operation: Operation) -> tuple[int, int]:
    """(people, changes) that were taken out of a held plan before its approval."""
    rows = operation.items.filter(outcome=Outcome.SKIPPED_HELD_ROW)
    counted = rows.aggregate(people=Count("subject", distinct=True), changes=Count("pk"))
    return counted["people"], counted["changes"]


def why_gone(plan: Operation, account_ids: Sequence[int]) -> dict[int, str]:
    """For people who are not in `plan` though an earlier one had them: the reason it has for leaving them out."""
    rows = LeftOut.objects.filter(operation=plan, account__in=account_ids)
    return {pk: f"Left out: {left_out_label(code)}" for pk, code in rows.values_list("account_id", "reason")}


def previous_plan(operation: Operation) -> Operation | None:
    """The plan of the same rule made before this one, to compare with."""
    if not operation.rule_id:
        return None
    return (
        Operation.objects.filter(
            organization_id=operation.organization_id, rule_id=operation.rule_id, pk__lt=operation.pk
        )
        .exclude(plan_hash="")
        .order_by("-id")
        .first()
    )


def figures_of_day(organization: Organization, *, now: datetime | None = None) -> dict[str, int]:
    """Operations of the last 24 hours: total, success, failed, in_progress, and accounts touched (S223–S227)."""
    since = (now or timezone.now()) - timedelta(hours=24)
    rows = Operation.objects.of(organization).filter(created_at__gte=since)
    counted = rows.aggregate(
        total=Count("pk"),
        success=Count("pk", filter=Q(status__in=AUDIT_STATUS["success"])),
        failed=Count("pk", filter=Q(status__in=[*AUDIT_STATUS["failed"], *AUDIT_STATUS["partial_failure"]])),
        in_progress=Count("pk", filter=Q(status__in=AUDIT_STATUS["in_progress"])),
    )
    affected = (
        OperationItem.objects.filter(operation__in=rows, outcome=Outcome.DONE).values("subject").distinct().count()
    )
    return {**counted, "affected": affected}
