"""The page of an operation: a plan until it runs, a run from then on; its moving part, and its export."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_GET
from django_htmx.http import HttpResponseClientRefresh

from apps.audit.services import record
from apps.operations import reasons, selectors, services
from apps.operations.models import Approval, LeftOut, Operation, OperationItem
from apps.operations.selectors import RunSummary
from apps.operations.views.common import after_key, find_operation, page_of, search_text, searched, why_not_apply
from apps.operations.views.words import (
    BADGES,
    ItemLine,
    button_words,
    done_word,
    item_line,
    left_out_words,
    managed_words,
    skipped_words,
    users_words,
    will_words,
)
from apps.operators.access import Access, OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from apps.operators.selectors import approvers
from apps.organizations.models import Directory
from apps.organizations.selectors import pause_until
from apps.users.models import Account, SyncRun
from aum.common.csv import neutralise

Status = Operation.Status
# Statuses in which nothing was written and nothing will be without a further decision.
UNWRITTEN = (Status.PLANNING, Status.HELD, Status.PREVIEWED, Status.REJECTED, Status.EXPIRED, Status.SUPERSEDED)


def is_preview(operation: Operation) -> bool:
    """Whether the operation is shown as a plan: it has written nothing and is not about to."""
    return operation.mode == Operation.Mode.SAFE or (operation.status in UNWRITTEN and operation.started_at is None)


def _previous(operation: Operation) -> Operation | None:
    """The rule's plan before this one, to compare with; never the preview that this one applies."""
    found = selectors.previous_plan(operation)
    return selectors.previous_plan(found) if found is not None and found.pk == operation.applies_id else found


def _same_as(other: Operation) -> Exists:
    """Whether `other` holds the same person, action and target."""
    return Exists(
        OperationItem.objects.filter(
            operation=other, subject=OuterRef("subject"), action=OuterRef("action"), target=OuterRef("target")
        )
    )


@dataclass(frozen=True)
class Tab:
    key: str
    label: str
    count: int
    is_current: bool
    is_hot: bool = False


@require(Permission.VIEW)
@require_GET
def run(request: OrganizationRequest, number: int) -> HttpResponse:
    """A plan or a run. Tab, search and page are in the address; htmx asks for the list alone."""
    operation = find_operation(request, number)
    as_preview = is_preview(operation)
    context = _preview_context(request, operation) if as_preview else _run_context(request, operation)
    partial = request.htmx and request.htmx.target == "items"
    name = "preview" if as_preview else "run"
    response = render(request, f"operations/_{name}_items.html" if partial else f"operations/{name}.html", context)
    patch_vary_headers(response, ["HX-Request", "HX-Target"])
    return response


def _shared_context(request: OrganizationRequest, operation: Operation) -> dict[str, Any]:
    kind, icon = BADGES[operation.status]
    return {
        "operation": operation,
        "status": {"kind": kind, "icon": icon, "text": operation.get_status_display()},
        "button_words": button_words(operation, operation.people_count),
        "search": search_text(request),
        "related": _related(operation),
        "now": timezone.now(),
    }


def _related(operation: Operation) -> list[dict[str, Any]]:
    """Operations that this one comes from or led to, in words."""
    found: list[tuple[str, Operation | None]] = [
        ("Applies the preview", operation.applies),
        ("Undoes the run", operation.undo_of),
        ("Retries the run", operation.retry_of),
    ]
    numbers = (operation.frozen or {}).get("undo", {}).get("numbers", [])
    found += [
        ("Undoes the run", run)
        for run in Operation.objects.of(operation.organization).filter(number__in=numbers[:20]).order_by("-pk")
    ]
    children = Operation.objects.filter(Q(applies=operation) | Q(undo_of=operation) | Q(retry_of=operation))
    for child in children.order_by("pk"):
        if child.applies_id == operation.pk:
            label = "Applied by the run"
        else:
            label = "Undone by the run" if child.undo_of_id == operation.pk and child.is_live else "Previewed undo"
            label = label if child.undo_of_id == operation.pk else "Retried by the run"
        found.append((label, child))
    return [{"label": label, "operation": other} for label, other in found if other is not None]


# --- plans ----------------------------------------------------------------------------------------------------------


def _preview_context(request: OrganizationRequest, operation: Operation) -> dict[str, Any]:
    previous = _previous(operation)
    items: QuerySet[OperationItem] = OperationItem.objects.filter(operation=operation)
    new = items.filter(~_same_as(previous)) if previous else items.none()
    kept = items.filter(_same_as(previous)) if previous else items.none()
    gone: QuerySet[OperationItem] = (
        OperationItem.objects.filter(operation=previous).filter(~_same_as(operation))
        if previous
        else OperationItem.objects.none()
    )
    skipped = sum(operation.left_out.values())
    held_people, held_changes = selectors.held_back(operation)
    new_count = new.count() if previous else 0
    gone_count = gone.count() if previous else 0
    tab = request.GET.get("tab", "all")
    sets = {"all": items, "new": new, "kept": kept, "gone": gone}
    rows, after = _preview_rows(request, operation, tab, sets, bool(previous))
    tabs = [Tab("all", "Changes", operation.planned_count, tab not in ("new", "kept", "gone", "skipped"))]
    if previous:
        tabs += [
            Tab("new", "New", new_count, tab == "new"),
            Tab("gone", "No longer match", gone_count, tab == "gone"),
            Tab("kept", "Unchanged", operation.planned_count - new_count, tab == "kept"),
        ]
    tabs.append(Tab("skipped", "Skipped", skipped, tab == "skipped"))
    return {
        **_shared_context(request, operation),
        "previous": previous,
        "held_back": held_people,
        "people_left": operation.people_count - held_people,
        "changes_left": operation.planned_count - held_changes,
        "new_count": new_count,
        "gone_count": gone_count,
        "skipped_count": skipped,
        "skipped_words": left_out_words(operation),
        "will_words": will_words(operation),
        "tabs": tabs,
        "tab": tab,
        "rows": rows,
        "after": after,
        "sync_run": _sync_run(operation),
        "managed_words": managed_words(operation) if operation.planned_at else "",
        **_plan_figures(operation),
        "decisions": list(operation.approvals.all()),
        "progress": _planning_progress(operation),
        **_preview_actions(request.access, operation),
    }


def _plan_figures(operation: Operation) -> dict[str, Any]:
    """Seats, money and time of a plan."""
    seats = selectors.seats_of(operation)
    return {
        "seats": seats,
        "money": selectors.money_of(seats),
        "expected_seconds": selectors.expected_seconds(operation),
    }


def _sync_run(operation: Operation) -> SyncRun | None:
    if operation.sync_run_id is None:
        return None
    found: SyncRun | None = SyncRun.objects.of(operation.organization).filter(pk=operation.sync_run_id).first()
    return found


@dataclass(frozen=True)
class SkippedLine:
    account: Account
    why: str


def _preview_rows(
    request: OrganizationRequest,
    operation: Operation,
    tab: str,
    sets: dict[str, QuerySet[OperationItem]],
    has_previous: bool,
) -> tuple[list[Any], int | None]:
    after, now = after_key(request), timezone.now()
    if tab == "skipped":
        left: QuerySet[LeftOut] = selectors.left_out_of(operation)
        found, more = page_of(searched(left, request), after)
        return [SkippedLine(row.account, skipped_words(row)) for row in found], more
    rows = sets.get(tab, sets["all"]).select_related("account")
    if tab not in sets or tab == "all":
        rows = rows.annotate(is_new=~_kept_in(sets)) if has_previous else rows
    found, more = page_of(searched(rows, request), after)
    if tab == "gone":
        return _gone_lines(operation, found, now), more
    signs = {"new": "new", "kept": "kept"}
    places = _directories(operation)
    lines = []
    for item in found:
        sign = signs.get(tab, "")
        if not sign and has_previous:
            sign = "new" if item.is_new else "kept"
        lines.append(item_line(item, now, sign, places))
    return lines, more


def _directories(operation: Operation) -> dict[str, str]:
    """Names of the directories by id where the organisation has several, else nothing."""
    known = dict(Directory.objects.of(operation.organization).values_list("directory_id", "name"))
    return known if len(known) > 1 else {}


def _kept_in(sets: dict[str, QuerySet[OperationItem]]) -> Exists:
    return Exists(sets["kept"].filter(pk=OuterRef("pk")))


def _gone_lines(operation: Operation, items: list[OperationItem], now: datetime) -> list[ItemLine]:
    """People of the previous plan who are not in this one, with the reason that this one has for it."""
    left = selectors.why_gone(operation, [item.account_id for item in items if item.account_id])
    lines = []
    for item in items:
        why = left.get(item.account_id or 0, selectors.NO_LONGER)
        lines.append(dataclasses.replace(item_line(item, now, "gone"), why=why))
    return lines


def _planning_progress(operation: Operation) -> dict[str, Any] | None:
    if operation.status != Status.PLANNING:
        return None
    return {"done": operation.progress_done, "total": operation.progress_total}


def _preview_actions(access: Access, operation: Operation) -> dict[str, Any]:
    """Which buttons a plan has, and why one of them cannot be used."""
    summary = selectors.run_summary(operation)
    refusal = None
    may_withdraw = False
    if operation.status == Status.HELD and access.operator is not None:
        refusal = services.may_approve(operation, access.operator)
        may_withdraw = refusal is not None and access.operator.pk == operation.actor_id
    return {
        "summary": summary,
        "why_not_apply": why_not_apply(access, operation)
        or ("" if summary.can_apply else summary.why_not.get("apply", "")),
        "is_held": operation.status == Status.HELD,
        "approve_refusal": refusal,
        "may_withdraw": may_withdraw and access.may(Permission.ACT),
        "approvers": _approver_names(operation) if operation.status == Status.HELD else "",
        "may_preview": access.may(Permission.PREVIEW),
        "may_exempt": access.may(Permission.EXEMPT),
        "may_export": access.may(Permission.EXPORT),
        "may_hold_rows": operation.status == Status.HELD
        and operation.first_write_at is None
        and (refusal is None or (access.operator is not None and access.operator.pk == operation.actor_id))
        and access.may(Permission.VIEW),
        "expires_at": operation.expires_at if operation.status in (Status.PREVIEWED, Status.HELD) else None,
        "is_expired": bool(operation.expires_at and operation.expires_at <= timezone.now()),
    }


def _approver_names(operation: Operation) -> str:
    """Who can decide, in words."""
    if operation.organization.is_one_operator:
        return "In one-operator mode you approve by typing the count and your password."
    names = [str(operator) for operator in approvers(operation.organization, not_operator_id=operation.actor_id)[:4]]
    if not names:
        return "Nobody can approve it yet: another person needs the role Approver or Owner for at least 24 hours."
    return f"{' and '.join(names)} can approve."


# --- runs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    """The parts of a progress bar of 1000, as x and width, with gaps between parts that touch."""

    parts: tuple[tuple[str, int, int], ...]


def _bar(summary: RunSummary) -> Bar:
    total = summary.total or 1
    x, parts = 0, []
    for css, count in (("ok", summary.success), ("bad", summary.failed), ("skip-f", summary.skipped)):
        width = round(1000 * count / total)
        if count:
            parts.append((css, x, max(width - 3, 2)))
            x += max(width, 5)
    return Bar(tuple(parts))


GROUPS = (("all", "All"), ("success", "Success"), ("failed", "Failed"), ("skipped", "Skipped"), ("todo", "To go"))


def _run_context(request: OrganizationRequest, operation: Operation) -> dict[str, Any]:
    context = _progress_context(request, operation)
    group = request.GET.get("tab", "all")
    left_out = sum(operation.left_out.values())
    # Nobody was in the plan: what there is to read is why.
    if group not in (*dict(GROUPS), "left_out") or (not operation.planned_count and "tab" not in request.GET):
        group = "left_out" if left_out and not operation.planned_count else "all"
    rows: list[Any]
    if group == "left_out":
        left, after = page_of(searched(selectors.left_out_of(operation), request), after_key(request))
        rows = [SkippedLine(row.account, skipped_words(row)) for row in left]
    else:
        found, after = page_of(searched(selectors.items_of(operation, group=group), request), after_key(request))
        now = timezone.now()
        rows = [item_line(item, now) for item in found]
    return {
        **context,
        "tab": group,
        "tabs": _run_tabs(operation, context["summary"], group),
        "rows": rows,
        "after": after,
    }


def _run_tabs(operation: Operation, summary: RunSummary, current: str) -> list[Tab]:
    counts = {
        "all": summary.total,
        "success": summary.success,
        "failed": summary.failed,
        "skipped": summary.skipped,
        "todo": summary.todo,
    }
    tabs = [Tab(k, label, counts[k], k == current, k == "failed" and counts[k] > 0) for k, label in GROUPS]
    if left_out := sum(operation.left_out.values()):
        tabs.append(Tab("left_out", "Left out of the plan", left_out, current == "left_out"))
    return tabs


def _progress_context(request: OrganizationRequest, operation: Operation) -> dict[str, Any]:
    """Everything of a run that moves: figures, buttons, steps."""
    access = request.access
    summary = selectors.run_summary(operation)
    may_act = access.may(Permission.ACT)
    approve = None
    if operation.status == Status.HELD and access.operator is not None:
        approve = services.may_approve(operation, access.operator)
    since = operation.started_at or operation.created_at
    is_young = (timezone.now() - since).total_seconds() < 60
    return {
        **_shared_context(request, operation),
        "summary": summary,
        "bar": _bar(summary),
        "done_word": done_word(operation),
        "poll": ("every 2s" if is_young else "every 5s")
        if operation.is_open and operation.status != Status.HELD
        else "",
        "why_not": {
            name: ("" if may_act else "Your role may not steer runs.") or summary.why_not.get(name, "")
            for name in ("pause", "resume", "cancel", "undo", "retry")
        },
        "is_held": operation.status == Status.HELD,
        "approve_refusal": approve,
        "approvers": _approver_names(operation) if operation.status == Status.HELD else "",
        "steps": _steps(operation, summary),
        "pause_seconds": _pause_seconds(operation),
        "may_export": access.may(Permission.EXPORT),
        "may_act": may_act,
    }


def _pause_seconds(operation: Operation) -> int | None:
    """Seconds until Atlassian may be called again, while a run is under way and was told to wait; else None."""
    if operation.status not in (Status.RUNNING, Status.WAITING):
        return None
    until = pause_until(operation.organization)
    return max(1, round((until - timezone.now()).total_seconds())) if until else None


@dataclass(frozen=True)
class Step:
    tone: str
    icon: str
    title: str
    text: str
    at: datetime | None = None


def _steps(operation: Operation, summary: RunSummary) -> list[Step]:
    """What happened to the plan so far, and what comes."""
    steps = []
    if operation.planned_at:
        words = left_out_words(operation)
        counted = users_words(operation.people_count) + (f"; left out: {words}" if words else "")
        steps.append(Step("ok", "check", "Plan frozen", f"{counted},", operation.planned_at))
    elif operation.status == Status.PLANNING:
        steps.append(Step("now", "hourglass", "Planning", "reads who is affected"))
    for decision in sorted(operation.approvals.all(), key=lambda row: row.pk):
        is_yes = decision.decision == Approval.Decision.APPROVED
        steps.append(
            Step(
                "ok" if is_yes else "danger",
                "check" if is_yes else "x",
                str(decision.get_decision_display()),
                f"by {decision.decided_by_text},",
                decision.decided_at,
            )
        )
    if operation.status == Status.HELD:
        steps.append(Step("warn", "approve", "Waiting for an approval", "nothing is written meanwhile"))
    working = f"{summary.done:,} of {summary.total:,} done"
    if operation.status in (*Operation.WORKING, Status.PAUSED):
        steps.append(Step("now", "hourglass", "Paused" if operation.status == Status.PAUSED else "Working", working))
        steps.append(Step("", "minus", "Check the result", "each change is read back from Atlassian"))
    elif operation.started_at and not operation.is_open:
        steps.append(Step("ok", "check", "Worked through", working + ", started", operation.started_at))
        tone, icon = ("danger", "x") if summary.failed else ("ok", "check")
        steps.append(Step(tone, icon, str(operation.get_status_display()), "", operation.finished_at))
    elif not operation.is_open:
        steps.append(Step("", "minus", str(operation.get_status_display()), "", operation.finished_at))
    return steps


@require(Permission.VIEW)
@require_GET
def progress(request: OrganizationRequest, number: int) -> HttpResponse:
    """The moving part of a run, polled. It ends by itself: the finished part asks for nothing more.

    `seen` is the number of items that the page showed last: a change makes the list below refresh, and each quarter is
    announced once.
    """
    operation = find_operation(request, number)
    if is_preview(operation):
        if operation.status == Status.PLANNING:
            context = {**_shared_context(request, operation), "progress": _planning_progress(operation)}
            return render(request, "operations/_planning.html", context)
        return HttpResponseClientRefresh()
    if "seen" not in request.GET:
        # Asked by the page of a plan that runs by now: that page has no place for the parts of a run.
        return HttpResponseClientRefresh()
    context = _progress_context(request, operation)
    summary: RunSummary = context["summary"]
    text = request.GET.get("seen", "")
    seen = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
    if summary.total and (summary.done * 4 // summary.total > seen * 4 // summary.total or not operation.is_open):
        context["announce"] = f"{summary.done:,} of {summary.total:,} processed"
    context["tabs"] = _run_tabs(operation, summary, request.GET.get("tab", "all"))
    context["is_poll"] = True
    response = render(request, "operations/_progress.html", context)
    if summary.done != seen or not operation.is_open:
        response["HX-Trigger-After-Settle"] = "run-changed"
    return response


# --- export ---------------------------------------------------------------------------------------------------------

ITEM_COLUMNS = (
    "account_id",
    "name",
    "email",
    "action",
    "target",
    "reason",
    "status",
    "outcome",
    "detail",
    "finished_at_utc",
    "atlassian_request_id",
)


class _Echo:
    """A file of which csv writes each line straight into the answer."""

    def write(self, value: str) -> str:
        return value


@require(Permission.EXPORT)
@require_GET
def export(request: OrganizationRequest, number: int) -> HttpResponseBase:
    """Items and left-out people of an operation as CSV; logged."""
    operation = find_operation(request, number)
    record(
        organization=organization_of(request),
        actor=request.access.actor,
        action="operation.exported",
        target_kind="operation",
        target_ref=str(operation.number),
        target_name=operation.name,
        operation_id=operation.pk,
        operation_number=operation.number,
    )
    response = StreamingHttpResponse(_csv_lines(operation), content_type="text/csv; charset=utf-8")
    name = f"aum-run-{operation.number}-{organization_of(request).slug}-{timezone.now():%Y%m%dT%H%MZ}.csv"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _csv_lines(operation: Operation) -> Iterator[str]:
    writer, now = csv.writer(_Echo()), timezone.now()
    yield "\ufeff" + writer.writerow(ITEM_COLUMNS)
    items = OperationItem.objects.filter(operation=operation).select_related("account").order_by("pk")
    for item in items.iterator(chunk_size=2000):
        yield writer.writerow([neutralise(cell) for cell in _item_cells(item, now)])
    left = LeftOut.objects.filter(operation=operation).select_related("account").order_by("pk")
    for row in left.iterator(chunk_size=2000):
        account = row.account
        cells = [account.account_id, account.name, account.email or "", "", "", "", "left_out", row.reason]
        yield writer.writerow([neutralise(cell) for cell in [*cells, skipped_words(row), "", ""]])


def _item_cells(item: OperationItem, now: datetime) -> list[str]:
    account = item.account
    return [
        item.subject,
        account.name if account else "",
        (account.email or "") if account else "",
        item.action,
        item.target,
        reasons.reason_sentence(item.reason, now),
        item.status,
        item.outcome,
        reasons.outcome_sentence(item),
        f"{item.finished_at:%Y-%m-%dT%H:%M:%SZ}" if item.finished_at else "",
        item.atlassian_request_id,
    ]
