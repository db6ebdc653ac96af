"""Audit Logs: the timeline of runs, the detailed view of events, export, and the check of the chain."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import datetime
from typing import Any, cast
from urllib.parse import urlencode

from django.http import Http404, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from apps.audit.models import AuditEvent
from apps.audit.selectors import events, events_before, export_rows
from apps.audit.services import record, verify
from apps.dashboard.forms import AuditFilterForm
from apps.dashboard.selectors import ActivityRow, activity_page, affected_rows, day_figures
from apps.operations.models import Operation, OperationItem
from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission

PAGE_SIZE = 25
DETAIL_PAGE_SIZE = 50
PREVIEW_ITEMS = 10
VIEWS = ("runs", "detail")


@require(Permission.VIEW)
def audit(request: OrganizationRequest) -> HttpResponseBase:
    """`/audit/`: `view=runs` (default) or `view=detail`; a fragment for htmx."""
    form = AuditFilterForm(request.GET)
    form.is_valid()
    view = request.GET.get("view", "runs")
    view = view if view in VIEWS else "runs"
    context: dict[str, Any] = {"form": form, "view": view, "faults": form.errors, "active": _active(form, view)}
    context |= _runs(request, form) if view == "runs" else _details(request, form)
    if request.headers.get("HX-Request"):
        response = render(request, "dashboard/_audit_list.html", context)
    else:
        figures = day_figures(organization_of(request))
        response = render(request, "dashboard/audit.html", {**context, "figures": figures})
    response["Vary"] = "HX-Request"
    return response


def _active(form: AuditFilterForm, view: str) -> int:
    """How many filters narrow the list."""
    names = [
        "q",
        "performer",
        "when",
        "since",
        "until",
        *(["type", "status"] if view == "runs" else ["outcome", "action"]),
    ]
    return sum(1 for name in names if form.value(name))


def _cursor(request: OrganizationRequest) -> tuple[datetime, str] | None:
    """`after=<instant>,<key>` of the last row shown; None on the first page or when it was edited."""
    at, _, key = request.GET.get("after", "").partition(",")
    try:
        instant = parse_datetime(at)
    except ValueError:
        return None
    digits = key[1:] if key[:1] in ("o", "s") else key
    if instant is None or instant.tzinfo is None or not (digits.isascii() and digits.isdigit() and len(digits) < 21):
        return None
    return instant, key


def _next_page(request: OrganizationRequest, at: datetime, key: str) -> str:
    query = request.GET.copy()
    query["after"] = f"{at.isoformat()},{key}"
    return f"?{query.urlencode()}"


def _first_page(request: OrganizationRequest) -> str:
    query = request.GET.copy()
    query.pop("after", None)
    return f"?{query.urlencode()}"


def _runs(request: OrganizationRequest, form: AuditFilterForm) -> dict[str, Any]:
    cursor = _cursor(request)
    if cursor and cursor[1][:1] not in ("o", "s"):
        cursor = None
    rows = activity_page(organization_of(request), form.run_filters(), PAGE_SIZE, cursor)
    page, has_more = rows[:PAGE_SIZE], len(rows) > PAGE_SIZE
    days: list[tuple[Any, list[ActivityRow]]] = []
    for row in page:
        if not days or days[-1][0] != row.at.date():
            days.append((row.at.date(), []))
        days[-1][1].append(row)
    today = timezone.now().date()
    return {
        "days": [(day, (today - day).days, found) for day, found in days],
        "shown": len(page),
        "next": _next_page(request, page[-1].at, page[-1].key) if has_more else "",
        "previous": _first_page(request) if cursor else "",
    }


def _details(request: OrganizationRequest, form: AuditFilterForm) -> dict[str, Any]:
    cursor = _cursor(request)
    rows = events(organization_of(request), form.event_filters())
    if cursor and cursor[1].isdigit():
        rows = events_before(rows, cursor[0], int(cursor[1]))
    found = list(rows[: DETAIL_PAGE_SIZE + 1])
    page, has_more = found[:DETAIL_PAGE_SIZE], len(found) > DETAIL_PAGE_SIZE
    return {
        "events": page,
        "shown": len(page),
        "next": _next_page(request, page[-1].at, str(page[-1].pk)) if has_more else "",
        "previous": _first_page(request) if cursor else "",
    }


@require(Permission.VIEW)
def run_preview(request: OrganizationRequest, number: int) -> HttpResponseBase:
    """What a timeline row opens to: counts and the first affected people of an operation."""
    operation = Operation.objects.of(organization_of(request)).filter(number=number).first()
    if operation is None:
        raise Http404
    shown = affected_rows(operation, PREVIEW_ITEMS + 1)
    context = {
        "operation": operation,
        "items": shown[:PREVIEW_ITEMS],
        "has_more": len(shown) > PREVIEW_ITEMS,
        "outcomes": _outcome_words(operation),
    }
    return render(request, "dashboard/_run_preview.html", context)


def _outcome_words(operation: Operation) -> list[tuple[str, int]]:
    labels = dict(OperationItem.Outcome.choices)
    return [(str(labels.get(code, code)), count) for code, count in operation.outcomes.items() if count]


@require(Permission.EXPORT)
def export(request: OrganizationRequest) -> HttpResponseBase:
    """The detailed view as CSV: all fields, UTC, same filters and order; written to the log itself."""
    form = AuditFilterForm(request.GET)
    form.is_valid()
    filters = form.event_filters()
    record(
        organization=organization_of(request),
        actor=request.access.actor,
        action="audit.exported",
        target_kind="organization",
        target_ref=organization_of(request).slug,
        after={"filters": urlencode(sorted(request.GET.items()))},
    )
    response = StreamingHttpResponse(
        _csv_lines(export_rows(organization_of(request), filters)), content_type="text/csv"
    )
    name = f"aum-audit-{organization_of(request).slug}-{timezone.now():%Y%m%dT%H%MZ}.csv"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


class _Echo:
    """A file whose `write` hands the text back, so that rows leave as they are made."""

    def write(self, text: str) -> str:
        return text


def _csv_lines(rows: Iterator[list[str]]) -> Iterator[str]:
    writer = csv.writer(cast(Any, _Echo()))
    yield "\ufeff"
    for row in rows:
        yield cast(str, writer.writerow(row))


@require(Permission.VIEW)
def verify_chain(request: OrganizationRequest) -> HttpResponseBase:
    """The result of reading the whole chain again."""
    report = verify(organization_of(request)) if request.method == "POST" else None
    return render(request, "dashboard/verify.html", {"report": report, "checked_at": timezone.now()})


@require(Permission.VIEW)
def event(request: OrganizationRequest, pk: int) -> HttpResponseBase:
    """One event with everything that is stored about it."""
    found = AuditEvent.objects.of(organization_of(request)).filter(pk=pk).select_related("actor", "target").first()
    if found is None:
        raise Http404
    return render(request, "dashboard/event.html", {"event": found})
