"""Pages of plans, runs and approvals. One address per operation: a preview until it runs, a run from then on."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import Http404, HttpResponse, HttpResponseBase, QueryDict, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRedirect, HttpResponseClientRefresh

from apps.audit.services import record
from apps.operations import reasons, selectors, services
from apps.operations.actions import REGISTRY
from apps.operations.forms import Confirmation, typed_count, wanted
from apps.operations.models import Approval, LeftOut, Operation, OperationItem
from apps.operations.selection import ActionSpec
from apps.operations.selectors import RunSummary
from apps.operators.access import Access, OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from apps.operators.selectors import approvers
from apps.users.models import Account, SyncRun
from apps.users.predicates import search_q
from apps.users.products import label_of
from aum.common.csv import neutralise
from aum.common.errors import DomainError, Missing

Status = Operation.Status
ROWS = 50
# Statuses in which nothing was written and nothing will be without a further decision.
UNWRITTEN = (Status.PLANNING, Status.HELD, Status.PREVIEWED, Status.REJECTED, Status.EXPIRED, Status.SUPERSEDED)
# status → kind of badge (aum.common.templatetags.aum.BADGES) and icon where it differs.
BADGES: dict[str, tuple[str, str]] = {
    Status.PLANNING: ("progress", "hourglass"),
    Status.HELD: ("waiting", "approve"),
    Status.QUEUED: ("progress", "hourglass"),
    Status.RUNNING: ("progress", "hourglass"),
    Status.WAITING: ("waiting", "clock"),
    Status.PAUSED: ("paused", "pause"),
    Status.PREVIEWED: ("safe", "eye"),
    Status.SUCCEEDED: ("success", "check"),
    Status.PARTIAL_FAILURE: ("partial", "warning"),
    Status.FAILED: ("failed", "x"),
    Status.NO_EFFECT: ("warning", "warning"),
    Status.CANCELLED: ("skipped", "stop"),
    Status.REJECTED: ("failed", "x"),
    Status.EXPIRED: ("skipped", "clock"),
    Status.SUPERSEDED: ("skipped", "minus"),
}
# action → (before, after, kind of badge, icon) of a change that needs no further words.
CHANGES: dict[str, tuple[str, str, str, str]] = {
    "suspend": ("Active", "Suspended", "warn", "pause"),
    "restore": ("Suspended", "Active", "ok", "check"),
    "deactivate": ("Active", "Deactivated", "danger", "ban"),
    "activate": ("Deactivated", "Active", "ok", "check"),
    "delete": ("Account", "Deleted after 14 days", "danger", "trash"),
    "cancel_delete": ("Awaiting deletion", "Active", "ok", "check"),
    "remove_from_directory": ("Member", "Removed", "danger", "x"),
}
# action → what will happen to people, and a button's words around their number.
PLANS: dict[str, tuple[str, str, str]] = {
    "suspend": ("will be suspended", "Suspend", ""),
    "restore": ("will be restored", "Restore", ""),
    "deactivate": ("will be deactivated", "Deactivate", ""),
    "activate": ("will be activated", "Activate", ""),
    "delete": ("will be deleted", "Delete", ""),
    "cancel_delete": ("will be kept", "Keep", ""),
    "remove_from_directory": ("will be removed", "Remove", "from the directory"),
    "add_to_group": ("will be added to groups", "Add", "to groups"),
    "remove_from_group": ("will leave groups", "Remove", "from groups"),
    "remove_product_access": ("will lose product access", "Remove product access of", ""),
    "grant_product_access": ("will get product access back", "Give product access back to", ""),
}


# --- words ----------------------------------------------------------------------------------------------------------


def _users(count: int) -> str:
    return f"{count:,} user{'' if count == 1 else 's'}"


def _action_of(operation: Operation) -> str:
    """The action's name; empty when the operation has several."""
    return operation.action if operation.action in PLANS else ""


def button_words(operation: Operation, count: int) -> str:
    """What a button does, with the number: "Suspend 63 users"."""
    name = _action_of(operation)
    if not name:
        return f"Change {_users(count)}"
    _, verb, rest = PLANS[name]
    return f"{verb} {_users(count)}{' ' + rest if rest else ''}"


def _will_words(operation: Operation) -> str:
    name = _action_of(operation)
    return PLANS[name][0] if name else "will change"


@dataclass(frozen=True)
class Change:
    """What happens to one person, old and new."""

    before: str
    after: str
    kind: str
    icon: str


def change_of(item: OperationItem) -> Change:
    """The change of an item in words."""
    if item.action in CHANGES:
        return Change(*CHANGES[item.action])
    parameters = item.parameters or {}
    if item.action in ("add_to_group", "remove_from_group"):
        group = str(parameters.get("name", "group"))
        return (
            Change("", group, "ok", "plus") if item.action == "add_to_group" else Change(group, "left", "warn", "minus")
        )
    product = label_of(str(parameters.get("product", "product")))
    site = str(parameters.get("site", ""))
    held = f"{product} on {site}" if site else product
    if item.action == "grant_product_access":
        return Change("", held, "ok", "check")
    return Change(held, "removed", "warn", "minus")


@dataclass(frozen=True)
class ItemLine:
    """One row of a plan or run, ready to show."""

    item: OperationItem
    name: str
    email: str
    change: Change
    why: str
    last_login: datetime | None
    is_never: bool
    sign: str
    details: str
    tone: str
    word: str
    icon: str


def _line(item: OperationItem, now: datetime, sign: str = "") -> ItemLine:
    account = item.account
    tone, word, icon = _result(item)
    return ItemLine(
        item=item,
        name=str(account) if account else item.subject,
        email=(account.email or "e-mail hidden by Atlassian") if account else "",
        change=change_of(item),
        why=reasons.reason_sentence(item.reason, now),
        last_login=account.last_active_at if account else None,
        is_never=bool(account and account.last_active_at is None and not account.has_unknown_activity),
        sign=sign,
        details=reasons.outcome_sentence(item),
        tone=tone,
        word=word,
        icon=icon,
    )


def _result(item: OperationItem) -> tuple[str, str, str]:
    """(tone, word, icon) of an item's state."""
    if item.status == OperationItem.Status.IN_DOUBT:
        return "info", "Being confirmed", "hourglass"
    if item.status != OperationItem.Status.FINISHED:
        return "", str(item.get_status_display()), "clock"
    if item.outcome in ("done", "already_so", "handed_off"):
        return "ok", "Success", "check"
    if item.outcome in ("failed", "failed_licence_limit", "unresolved", "not_attempted"):
        return "danger", "Failed" if item.outcome != "not_attempted" else "Not attempted", "x"
    return "warn", "Cancelled" if item.outcome == "cancelled" else "Skipped", "minus"


# --- finding --------------------------------------------------------------------------------------------------------


def _operation(request: OrganizationRequest, number: int) -> Operation:
    try:
        return selectors.operation_by_number(organization_of(request), number)
    except Missing as error:
        raise Http404 from error


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


def _after(request: OrganizationRequest) -> int:
    """The key after which the page of rows begins."""
    text = request.GET.get("after", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0


def _page_of(rows: QuerySet[Any], after: int) -> tuple[list[Any], int | None]:
    """(one page in the order of the plan, the key of its last row when there are more)."""
    found = list(rows.filter(pk__gt=after).order_by("pk")[: ROWS + 1])
    return found[:ROWS], found[ROWS - 1].pk if len(found) > ROWS else None


def _search_text(request: OrganizationRequest) -> str:
    return request.GET.get("search", "").replace("\x00", "").strip()[:200]


def _searched(rows: QuerySet[Any], request: OrganizationRequest) -> QuerySet[Any]:
    text = _search_text(request)
    if not text:
        return rows
    people = Account.objects.of(organization_of(request)).filter(search_q(text))
    return rows.filter(account__in=people.values("pk"))


# --- the page of an operation ---------------------------------------------------------------------------------------


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
    operation = _operation(request, number)
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
        "search": _search_text(request),
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
    children = Operation.objects.filter(Q(applies=operation) | Q(undo_of=operation) | Q(retry_of=operation))
    for child in children.order_by("pk"):
        if child.applies_id == operation.pk:
            label = "Applied by the run"
        else:
            label = "Undone by the run" if child.undo_of_id == operation.pk and child.is_live else "Previewed undo"
            label = label if child.undo_of_id == operation.pk else "Retried by the run"
        found.append((label, child))
    return [{"label": label, "operation": other} for label, other in found if other is not None]


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
        "new_count": new_count,
        "gone_count": gone_count,
        "skipped_count": skipped,
        "skipped_words": _left_out_words(operation),
        "will_words": _will_words(operation),
        "tabs": tabs,
        "tab": tab,
        "rows": rows,
        "after": after,
        "sync_run": _sync_run(operation),
        "decisions": list(operation.approvals.all()),
        "progress": _planning_progress(operation),
        **_preview_actions(request.access, operation),
    }


def _sync_run(operation: Operation) -> SyncRun | None:
    if operation.sync_run_id is None:
        return None
    found: SyncRun | None = SyncRun.objects.of(operation.organization).filter(pk=operation.sync_run_id).first()
    return found


def _left_out_words(operation: Operation) -> str:
    """`14 protected, 9 exempt`, the largest first."""
    counts = sorted(operation.left_out.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{count:,} {reasons.left_out_label(code)}" for code, count in counts)


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
    after, now = _after(request), timezone.now()
    if tab == "skipped":
        left: QuerySet[LeftOut] = selectors.left_out_of(operation)
        found, more = _page_of(_searched(left, request), after)
        return [SkippedLine(row.account, _skipped_words(row)) for row in found], more
    rows = sets.get(tab, sets["all"]).select_related("account")
    if tab not in sets or tab == "all":
        rows = rows.annotate(is_new=~_kept_in(sets)) if has_previous else rows
    found, more = _page_of(_searched(rows, request), after)
    if tab == "gone":
        return _gone_lines(operation, found, now), more
    signs = {"new": "new", "kept": "kept"}
    return [
        _line(item, now, signs.get(tab, ("new" if item.is_new else "kept") if has_previous else "")) for item in found
    ], more


def _kept_in(sets: dict[str, QuerySet[OperationItem]]) -> Exists:
    return Exists(sets["kept"].filter(pk=OuterRef("pk")))


def _skipped_words(row: LeftOut) -> str:
    label = reasons.left_out_label(row.reason)
    detail = getattr(row, "detail", "")
    return f"{label[:1].upper()}{label[1:]}{'. ' + detail if detail else ''}"


def _gone_lines(operation: Operation, items: list[OperationItem], now: datetime) -> list[ItemLine]:
    """People of the previous plan who are not in this one, with the reason that this one has for it."""
    left = dict(
        LeftOut.objects.filter(operation=operation, account__in=[item.account_id for item in items]).values_list(
            "account_id", "reason"
        )
    )
    lines = []
    for item in items:
        code = left.get(item.account_id or 0)
        why = f"Left out: {reasons.left_out_label(code)}" if code else "No longer meets the conditions"
        lines.append(dataclasses.replace(_line(item, now, "gone"), why=why))
    return lines


def _planning_progress(operation: Operation) -> dict[str, Any] | None:
    if operation.status != Status.PLANNING:
        return None
    return {"done": operation.progress_done, "total": operation.progress_total}


def _may_apply(access: Access, operation: Operation) -> str:
    """Why this person may not apply the plan; empty when they may."""
    needed = Permission.RUN_RULES if operation.rule_id else Permission.ACT
    if access.may(needed):
        return ""
    return "Only Admins and Owners run rules." if operation.rule_id else "Your role may not change users."


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
        "why_not_apply": _may_apply(access, operation)
        or ("" if summary.can_apply else summary.why_not.get("apply", "")),
        "is_held": operation.status == Status.HELD,
        "approve_refusal": refusal,
        "may_withdraw": may_withdraw and access.may(Permission.ACT),
        "approvers": _approver_names(operation) if operation.status == Status.HELD else "",
        "may_preview": access.may(Permission.PREVIEW),
        "may_exempt": access.may(Permission.EXEMPT),
        "may_export": access.may(Permission.EXPORT),
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
    group = group if group in dict(GROUPS) else "all"
    rows = _searched(selectors.items_of(operation, group=group), request)
    found, after = _page_of(rows, _after(request))
    now = timezone.now()
    return {
        **context,
        "tab": group,
        "tabs": _run_tabs(context["summary"], group),
        "rows": [_line(item, now) for item in found],
        "after": after,
    }


def _run_tabs(summary: RunSummary, current: str) -> list[Tab]:
    counts = {
        "all": summary.total,
        "success": summary.success,
        "failed": summary.failed,
        "skipped": summary.skipped,
        "todo": summary.todo,
    }
    return [Tab(k, label, counts[k], k == current, k == "failed" and counts[k] > 0) for k, label in GROUPS]


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
        "done_word": _done_word(operation),
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
        "may_export": access.may(Permission.EXPORT),
        "may_act": may_act,
    }


def _done_word(operation: Operation) -> str:
    name = _action_of(operation)
    return REGISTRY[name].done_word.lower() if name in REGISTRY else "changed"


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
        steps.append(Step("ok", "check", "Plan frozen", f"{_users(operation.people_count)},", operation.planned_at))
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
    operation = _operation(request, number)
    if is_preview(operation):
        if operation.status == Status.PLANNING:
            context = {**_shared_context(request, operation), "progress": _planning_progress(operation)}
            return render(request, "operations/_planning.html", context)
        return HttpResponseClientRefresh()
    if request.GET.get("from") == "plan":
        return HttpResponseClientRefresh()
    context = _progress_context(request, operation)
    summary: RunSummary = context["summary"]
    text = request.GET.get("seen", "")
    seen = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
    if summary.total and (summary.done * 4 // summary.total > seen * 4 // summary.total or not operation.is_open):
        context["announce"] = f"{summary.done:,} of {summary.total:,} processed"
    context["tabs"] = _run_tabs(summary, request.GET.get("tab", "all"))
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
    operation = _operation(request, number)
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
        yield writer.writerow([neutralise(cell) for cell in [*cells, _skipped_words(row), "", ""]])


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


# --- starting and steering ------------------------------------------------------------------------------------------


@require(Permission.ACT)
@require_POST
def act(request: OrganizationRequest) -> HttpResponse:
    """Plan an action on chosen people in Safe mode and go to that preview, from which it can be applied."""
    organization, access = organization_of(request), request.access
    try:
        asked = wanted(request.POST, organization)
        operation = services.plan_operation(
            organization=organization,
            kind=Operation.Kind.MANUAL_OPERATION,
            mode=Operation.Mode.SAFE,
            initiator=Operation.Initiator.MANUAL,
            actor=access.actor,
            operator=access.operator,
            name=asked.name,
            actions=[ActionSpec(asked.action)],
            selection=asked.selection,
        )
    except DomainError as error:
        messages.error(request, _sentence(error))
        return redirect(_own_page(request) or reverse("users:list", args=[organization.slug]))
    return redirect("operations:run", organization.slug, operation.number)


def _sentence(error: DomainError) -> str:
    """The refusal in one text: its fields' sentences, else its own."""
    texts = [text for found in error.fields.values() for text in found]
    return " ".join(texts) or error.detail


def _own_page(request: OrganizationRequest) -> str:
    """The page that a form names to go back to, where that is one of this organisation's; else empty."""
    target = request.POST.get("next", "")
    base = reverse("operations:approvals", args=[organization_of(request).slug]).removesuffix("approvals/")
    is_own = target.startswith(base) and "\\" not in target and "//" not in target.partition("?")[0]
    return target if is_own else ""


def _to(request: OrganizationRequest, operation: Operation) -> HttpResponse:
    """To the operation's page, from a form or a dialog."""
    target = reverse("operations:run", args=[organization_of(request).slug, operation.number])
    return HttpResponseClientRedirect(target) if request.htmx else redirect(target)


def _steered(request: OrganizationRequest, operation: Operation, do: Callable[[], Any], said: str) -> HttpResponse:
    try:
        do()
        messages.success(request, said)
    except DomainError as error:
        messages.error(request, _sentence(error))
    return _to(request, operation)


@require(Permission.ACT)
@require_POST
def pause(request: OrganizationRequest, number: int) -> HttpResponse:
    """Pause a run; calls under way are finished."""
    operation = _operation(request, number)
    return _steered(
        request,
        operation,
        lambda: services.pause_operation(operation=operation, actor=request.access.actor),
        "Paused. Nothing further is written until you resume.",
    )


@require(Permission.ACT)
@require_POST
def resume(request: OrganizationRequest, number: int) -> HttpResponse:
    """Let a paused run go on."""
    operation = _operation(request, number)
    return _steered(
        request,
        operation,
        lambda: services.resume_operation(operation=operation, actor=request.access.actor),
        "The run goes on.",
    )


def _asked(
    request: OrganizationRequest,
    operation: Operation,
    question: Confirmation,
    do: Callable[[QueryDict], Operation],
) -> HttpResponse:
    """Ask on GET; on POST check the answer, do it and go to the operation that came of it."""
    question = dataclasses.replace(question, back=operation.get_absolute_url())
    errors: dict[str, list[str]] = {}
    status = 200
    if request.method == "POST":
        errors = question.refused(request.POST)
        status = 422
        if not errors:
            try:
                return _to(request, do(request.POST))
            except DomainError as error:
                errors, status = error.fields or {"": [error.detail]}, error.status
    shown = dataclasses.replace(question, errors=errors, reason=request.POST.get("reason", ""))
    if request.htmx and status not in (200, 409, 422):
        status = 422  # the only refusals that htmx shows in place
    template = "operations/_confirm.html" if request.htmx else "operations/confirm.html"
    return render(request, template, {"question": shown, "operation": operation}, status=status)


def _effects(operation: Operation, count: int) -> list[str]:
    """What happens to the people, and the way back, per action."""
    points = []
    for name in operation.action.split("+"):
        if action := REGISTRY.get(name):
            points += [f"{button_words(operation, count)}: {action.effect}", action.way_back]
    return points


def _typed(count: int) -> int | None:
    """The count to be typed: one person is a plain confirmation."""
    return count if count > 1 else None


@require(Permission.ACT)
@require_http_methods(["GET", "POST"])
def apply(request: OrganizationRequest, number: int) -> HttpResponse:
    """Apply a preview: exactly its people, after the count was typed."""
    operation = _operation(request, number)
    refusal = _may_apply(request.access, operation)
    if refusal:
        return render(request, "operators/refused.html", {"permission": Permission.RUN_RULES}, status=403)
    count, skipped = operation.people_count, sum(operation.left_out.values())
    points = _effects(operation, count)
    if skipped:
        points.append(f"The {_users(skipped)} left out {'is' if skipped == 1 else 'are'} not touched.")
    points.append("Only the users of this preview are touched. Anyone who is active again by then is skipped.")
    is_deletion = "delete" in operation.action.split("+")
    question = Confirmation(
        title=f"{button_words(operation, count)} now",
        url=reverse("operations:apply", args=[organization_of(request).slug, number]),
        button=button_words(operation, count),
        points=points,
        count=_typed(count),
        count_hint=f"The number of users who {_will_words(operation).removeprefix('will ')}.",
        tick="I know that Atlassian deletes these accounts for good after 14 days." if is_deletion else "",
        plan_hash=operation.plan_hash,
    )

    def do(data: QueryDict) -> Operation:
        return services.apply_preview(
            operation=operation,
            plan_hash=data.get("plan_hash", ""),
            actor=request.access.actor,
            operator=request.access.operator,
        )

    return _asked(request, operation, question, do)


@require(Permission.APPROVE)
@require_http_methods(["GET", "POST"])
def approve(request: OrganizationRequest, number: int) -> HttpResponse:
    """Approve a held plan. In one-operator mode the count is typed and the password given again."""
    operation = _operation(request, number)
    plan_hash, count = services.approval_hash(operation)
    alone = operation.organization.is_one_operator
    question = Confirmation(
        title=f"Approve: {button_words(operation, count)}",
        url=reverse("operations:approve", args=[organization_of(request).slug, number]),
        button=f"Approve {_users(count)}",
        points=[
            *_effects(operation, count),
            "The approval is for exactly this plan. If the plan changes, it has to be approved anew.",
            "The run starts at once.",
        ],
        count=count if alone else None,
        count_hint="The number of users in this plan.",
        asks_password=alone,
        asks_reason=True,
        plan_hash=plan_hash,
    )

    def do(data: QueryDict) -> Operation:
        operator = request.access.operator
        assert operator is not None
        approved: Operation = services.approve_operation(
            operation=operation,
            plan_hash=data.get("plan_hash", ""),
            operator=operator,
            actor=request.access.actor,
            confirm_count=typed_count(data),
            password=data.get("password") or None,
            reason=data.get("reason", "").strip(),
        )
        messages.success(request, f"Approved. {button_words(operation, count)}: the run starts.")
        return approved

    return _asked(request, operation, question, do)


@require(Permission.VIEW)
@require_http_methods(["GET", "POST"])
def reject(request: OrganizationRequest, number: int) -> HttpResponse:
    """Reject a held plan with a reason; its author may withdraw it. The service judges who may."""
    operation = _operation(request, number)
    is_own = request.access.operator is not None and request.access.operator.pk == operation.actor_id
    question = Confirmation(
        title=f"{'Withdraw' if is_own else 'Reject'} the plan “{operation.name}”",
        url=reverse("operations:reject", args=[organization_of(request).slug, number]),
        button="Withdraw the plan" if is_own else "Reject the plan",
        points=["Nothing is written. The plan stays readable, and a new one can be made at any time."],
        asks_reason=True,
        is_reason_required=True,
    )

    def do(data: QueryDict) -> Operation:
        operator = request.access.operator
        assert operator is not None
        rejected: Operation = services.reject_operation(
            operation=operation, operator=operator, actor=request.access.actor, reason=data.get("reason", "")
        )
        messages.success(request, "The plan was ended. Nothing was written.")
        return rejected

    return _asked(request, operation, question, do)


@require(Permission.ACT)
@require_http_methods(["GET", "POST"])
def stop(request: OrganizationRequest, number: int) -> HttpResponse:
    """Stop a run for good: what is done stays done."""
    operation = _operation(request, number)
    summary = selectors.run_summary(operation)
    question = Confirmation(
        title=f"Stop run #{operation.number}",
        url=reverse("operations:stop", args=[organization_of(request).slug, number]),
        button="Stop run",
        points=[
            f"What is done stays done: {summary.done:,} of {summary.total:,}. It can be undone afterwards.",
            f"{summary.todo:,} to go will not be touched.",
            "A stopped run cannot be resumed. To stop for a while, pause it.",
        ],
    )

    def do(data: QueryDict) -> Operation:
        return services.cancel_operation(operation=operation, actor=request.access.actor)

    return _asked(request, operation, question, do)


@require(Permission.ACT)
@require_http_methods(["GET", "POST"])
def undo(request: OrganizationRequest, number: int) -> HttpResponse:
    """Undo a run, or one of its people with `?account=`: the inverse plan, applied after the count was typed."""
    operation = _operation(request, number)
    account = request.GET.get("account") or request.POST.get("account") or ""
    done = OperationItem.objects.filter(operation=operation, outcome=OperationItem.Outcome.DONE)
    if account:
        done = done.filter(subject=account)
    count = done.values("subject").distinct().count()
    base = reverse("operations:undo", args=[organization_of(request).slug, number])
    question = Confirmation(
        title=f"Undo run #{operation.number} for {_users(count)}",
        url=f"{base}?{_encoded(account=account)}" if account else base,
        button=f"Undo for {_users(count)}",
        points=[
            "Each user gets back exactly what the run took: status, groups and product access as recorded before it.",
            "Users who were changed since are skipped and shown, not overwritten.",
            *(["The rule is paused, so that it does not take everything again."] if operation.rule_id else []),
        ],
        count=_typed(count),
        count_hint="The number of users whom this undoes.",
    )

    def do(data: QueryDict) -> Operation:
        return services.undo_operation(
            operation=operation,
            actor=request.access.actor,
            operator=request.access.operator,
            account_ids=[account] if account else None,
        )

    return _asked(request, operation, question, do)


def _encoded(**values: str) -> str:
    query = QueryDict(mutable=True)
    query.update(values)
    return query.urlencode()


def _derived(request: OrganizationRequest, operation: Operation, make: Callable[[], Operation]) -> HttpResponse:
    """To the operation that `make` makes from this one, or back with the reason why there is none."""
    try:
        return _to(request, make())
    except DomainError as error:
        messages.error(request, _sentence(error))
        return _to(request, operation)


@require(Permission.ACT)
@require_POST
def undo_preview(request: OrganizationRequest, number: int) -> HttpResponse:
    """Plan the undo in Safe mode first."""
    operation = _operation(request, number)
    return _derived(
        request,
        operation,
        lambda: services.undo_operation(
            operation=operation,
            actor=request.access.actor,
            operator=request.access.operator,
            mode=Operation.Mode.SAFE,
        ),
    )


@require(Permission.ACT)
@require_POST
def retry(request: OrganizationRequest, number: int) -> HttpResponse:
    """A new run with what failed."""
    operation = _operation(request, number)
    return _derived(
        request,
        operation,
        lambda: services.retry_failed(
            operation=operation, actor=request.access.actor, operator=request.access.operator
        ),
    )


# --- lists ----------------------------------------------------------------------------------------------------------


@require(Permission.VIEW)
@require_GET
def of_person(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Previews and runs that hold one person, newest first."""
    account: Account | None = Account.objects.of(organization_of(request)).filter(pk=pk).first()
    if account is None:
        raise Http404
    items = OperationItem.objects.filter(account=account).select_related("operation", "account").order_by("-pk")[:50]
    now = timezone.now()
    context = {"account": account, "rows": [_line(item, now) for item in items]}
    return render(request, "operations/_of_person.html" if request.htmx else "operations/of_person.html", context)


@dataclass(frozen=True)
class Waiting:
    """A held plan in the list of approvals."""

    operation: Operation
    button: str
    share: float
    refusal: str


@require(Permission.VIEW)
@require_GET
def approvals(request: OrganizationRequest) -> HttpResponse:
    """Plans that wait for a decision, and decisions made."""
    organization, operator = organization_of(request), request.access.operator
    is_decided = request.GET.get("view") == "decided"
    waiting = list(selectors.waiting_approvals(organization))
    decided = selectors.decided_approvals(organization)
    rows, after = [], None
    if is_decided:
        text = request.GET.get("before", "")
        if text.isascii() and text.isdecimal() and len(text) < 19:
            decided = decided.filter(pk__lt=int(text))
        found = list(decided[: ROWS + 1])
        rows, after = found[:ROWS], found[ROWS - 1].pk if len(found) > ROWS else None
    return render(
        request,
        "operations/approvals.html",
        {
            "waiting": [_waiting(operation, operator) for operation in waiting],
            "is_decided": is_decided,
            "decided": rows,
            "after": after,
            "decided_count": Approval.objects.of(organization).count(),
        },
    )


def _waiting(operation: Operation, operator: Any) -> Waiting:
    licensed = operation.licensed_count
    is_author = (
        operator is not None and operator.pk == operation.actor_id and not operation.organization.is_one_operator
    )
    return Waiting(
        operation=operation,
        button=button_words(operation, operation.people_count),
        share=100 * operation.people_count / licensed if licensed else 100.0,
        refusal="You started this plan, so another person has to decide." if is_author else "",
    )
