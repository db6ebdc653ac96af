"""Audit Logs: cards with their users, the timeline of runs, the detailed view, export, and the check of the chain."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import datetime
from itertools import groupby
from typing import Any, cast
from urllib.parse import urlencode

from django.http import Http404, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from apps.audit.models import AuditEvent, Verification
from apps.audit.selectors import export_rows, last_clearance, lines, verifications
from apps.audit.services import record, start_verification
from apps.dashboard.activity import (
    CARDS,
    PREFIXES,
    ActivityRow,
    activity_page,
    affected_rows,
    card_figures,
    card_rows,
    day_figures,
)
from apps.dashboard.forms import AuditFilterForm
from apps.operations.models import Operation, OperationItem
from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from apps.organizations.models import Organization
from aum.common.csv import neutralise

PAGE_SIZE = 25
DETAIL_PAGE_SIZE = 50
CARD_PAGE_SIZE = 50
PREVIEW_ITEMS = 10
VIEWS = ("runs", "detail")
# So many successes in a row, of which so many stay open.
LONG_STRETCH, SHOWN_OF_STRETCH = 6, 3
_FILTERS = ("q", "performer", "when", "since", "until", "type", "status", "outcome", "action")
_LINE_KEYS = ("e", "m")


@require(Permission.VIEW)
def audit(request: OrganizationRequest) -> HttpResponseBase:
    """`/audit/`: `view=runs` (default) or `view=detail`; a fragment for htmx."""
    organization = organization_of(request)
    form = AuditFilterForm(request.GET)
    form.is_valid()
    view = request.GET.get("view", "runs")
    view = view if view in VIEWS else "runs"
    context: dict[str, Any] = {"form": form, "view": view, "faults": form.errors, "active": _active(form)}
    context |= _runs(request, form) if view == "runs" else _details(request, form)
    if request.headers.get("HX-Request"):
        response = render(request, "dashboard/_audit_list.html", context)
    else:
        context |= {
            "figures": day_figures(organization),
            "clearance": last_clearance(organization),
            "verified": verifications(organization).filter(status=Verification.Status.FINISHED).first(),
        }
        response = render(request, "dashboard/audit.html", context)
    response["Vary"] = "HX-Request"
    return response


def _active(form: AuditFilterForm) -> int:
    """How many filters narrow the list."""
    return sum(1 for name in _FILTERS if form.value(name))


def _cursor(request: OrganizationRequest, prefixes: tuple[str, ...]) -> tuple[datetime, str] | None:
    """`after=<instant>,<key>` of the last row shown; None on the first page or when it was edited."""
    at, _, key = request.GET.get("after", "").partition(",")
    try:
        instant = parse_datetime(at)
    except ValueError:
        return None
    digits = key[1:]
    if instant is None or instant.tzinfo is None or key[:1] not in prefixes:
        return None
    return (instant, key) if digits.isascii() and digits.isdigit() and len(digits) < 21 else None


def _next_page(request: OrganizationRequest, at: datetime, key: str) -> str:
    query = request.GET.copy()
    query["after"] = f"{at.isoformat()},{key}"
    return f"?{query.urlencode()}"


def _first_page(request: OrganizationRequest) -> str:
    query = request.GET.copy()
    query.pop("after", None)
    return f"?{query.urlencode()}"


def _runs(request: OrganizationRequest, form: AuditFilterForm) -> dict[str, Any]:
    cursor = _cursor(request, PREFIXES)
    rows = activity_page(organization_of(request), form.run_filters(), PAGE_SIZE, cursor)
    page, has_more = rows[:PAGE_SIZE], len(rows) > PAGE_SIZE
    days: list[tuple[Any, list[ActivityRow]]] = []
    for row in page:
        if not days or days[-1][0] != row.at.date():
            days.append((row.at.date(), []))
        days[-1][1].append(row)
    today = timezone.now().date()
    return {
        "days": [(day, (today - day).days, len(found), _folded(found)) for day, found in days],
        "shown": len(page),
        "next": _next_page(request, page[-1].at, page[-1].key) if has_more else "",
        "previous": _first_page(request) if cursor else "",
    }


def _folded(rows: list[ActivityRow]) -> list[tuple[bool, list[ActivityRow]]]:
    """One day's rows in stretches; (True, rows) for the rest of a long stretch in which all went well."""
    stretches: list[tuple[bool, list[ActivityRow]]] = []
    for is_good, group in groupby(rows, key=lambda row: row.badge == "success"):
        found = list(group)
        shown = found[:SHOWN_OF_STRETCH] if is_good and len(found) >= LONG_STRETCH else found
        stretches.append((False, shown))
        if rest := found[len(shown) :]:
            stretches.append((True, rest))
    return stretches


def _details(request: OrganizationRequest, form: AuditFilterForm) -> dict[str, Any]:
    cursor = _cursor(request, _LINE_KEYS)
    found = lines(organization_of(request), form.event_filters(), DETAIL_PAGE_SIZE, cursor)
    page, has_more = found[:DETAIL_PAGE_SIZE], len(found) > DETAIL_PAGE_SIZE
    return {
        "lines": page,
        "shown": len(page),
        "next": _next_page(request, page[-1].at, page[-1].key) if has_more else "",
        "previous": _first_page(request) if cursor else "",
    }


@require(Permission.VIEW)
def card(request: OrganizationRequest, name: str) -> HttpResponseBase:
    """The users behind one of the five cards: email, action, status, group, details."""
    if name not in CARDS:
        raise Http404
    organization = organization_of(request)
    after = request.GET.get("after", "")
    found = card_rows(
        organization,
        name,
        CARD_PAGE_SIZE,
        after=int(after) if after.isascii() and after.isdigit() and len(after) < 19 else None,
    )
    page = found[:CARD_PAGE_SIZE]
    context = {
        "card": name,
        "title": CARDS[name],
        "cards": CARDS.items(),
        "rows": page,
        "figures": day_figures(organization),
        "people": card_figures(organization, name),
        "next": f"?after={page[-1].key}" if len(found) > CARD_PAGE_SIZE else "",
        "previous": request.path if after else "",
    }
    return render(request, "dashboard/audit_card.html", context)


@require(Permission.EXPORT)
def card_export(request: OrganizationRequest, name: str) -> HttpResponseBase:
    """The users behind a card as CSV; written to the log itself."""
    if name not in CARDS:
        raise Http404
    organization = organization_of(request)
    _record_export(request, {"card": name})
    return _csv_response(_card_lines(organization, name), f"aum-audit-{name}", organization)


def _card_lines(organization: Organization, name: str) -> Iterator[list[str]]:
    since = day_figures(organization).since
    yield ["user_email", "action", "status", "group", "details", "operation", "run", "at_utc"]
    after: int | None = None
    while page := card_rows(organization, name, 1000, after=after, since=since)[:1000]:
        for row in page:
            at = row.at.isoformat(timespec="seconds").replace("+00:00", "Z") if row.at else ""
            number = str(row.operation.number)
            cells = (row.who, row.action, row.status_label, row.target, row.detail, row.operation.name, number, at)
            yield [neutralise(cell) for cell in cells]
        after = page[-1].key


@require(Permission.VIEW)
def run_preview(request: OrganizationRequest, number: int) -> HttpResponseBase:
    """What a timeline row opens to: counts, steps and the first affected people of an operation."""
    operation = Operation.objects.of(organization_of(request)).filter(number=number).first()
    if operation is None:
        raise Http404
    shown = affected_rows(operation, PREVIEW_ITEMS + 1)
    began_at = operation.started_at or operation.planned_at or operation.created_at
    failed = OperationItem.objects.filter(operation=operation, outcome__in=_FAILED).exclude(detail="")
    context = {
        "operation": operation,
        "items": shown[:PREVIEW_ITEMS],
        "has_more": len(shown) > PREVIEW_ITEMS,
        "outcomes": _outcome_words(operation),
        "seconds": (operation.finished_at - began_at).total_seconds() if operation.finished_at else None,
        "errors": list(failed.order_by("detail").values_list("detail", flat=True).distinct()[:5]),
    }
    return render(request, "dashboard/_run_preview.html", context)


_FAILED = (
    OperationItem.Outcome.FAILED,
    OperationItem.Outcome.FAILED_LICENCE_LIMIT,
    OperationItem.Outcome.UNRESOLVED,
)


def _outcome_words(operation: Operation) -> list[tuple[str, int]]:
    labels = dict(OperationItem.Outcome.choices)
    return [(str(labels.get(code, code)), count) for code, count in operation.outcomes.items() if count]


@require(Permission.EXPORT)
def export(request: OrganizationRequest) -> HttpResponseBase:
    """The detailed view as CSV: all fields, UTC, same filters and order; written to the log itself."""
    form = AuditFilterForm(request.GET)
    form.is_valid()
    organization = organization_of(request)
    _record_export(request, {"filters": urlencode(sorted(request.GET.items()))})
    return _csv_response(export_rows(organization, form.event_filters()), "aum-audit", organization)


def _record_export(request: OrganizationRequest, what: dict[str, Any]) -> None:
    record(
        organization=organization_of(request),
        actor=request.access.actor,
        action="audit.exported",
        target_kind="organization",
        target_ref=organization_of(request).slug,
        after=what,
    )


def _csv_response(rows: Iterator[list[str]], name: str, organization: Organization) -> HttpResponseBase:
    response = StreamingHttpResponse(_csv_lines(rows), content_type="text/csv; charset=utf-8")
    name = f"{name}-{organization.slug}-{timezone.now():%Y%m%dT%H%MZ}.csv"
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
    """The result of the newest reading of the whole chain, and its progress while it runs; POST starts one."""
    organization = organization_of(request)
    if request.method == "POST":
        start_verification(organization=organization, by=request.access.actor.name)
        return redirect("dashboard:audit-verify", organization.slug)
    runs = list(verifications(organization)[:6])
    context = {"run": runs[0] if runs else None, "earlier": runs[1:]}
    if request.headers.get("HX-Request"):
        if runs and runs[0].status != Verification.Status.RUNNING:
            answer = HttpResponse(status=204)
            answer["HX-Redirect"] = reverse("dashboard:audit-verify", args=[organization.slug])
            return answer
        return render(request, "dashboard/_verify_progress.html", context)
    return render(request, "dashboard/verify.html", context)


@require(Permission.VIEW)
def event(request: OrganizationRequest, pk: int) -> HttpResponseBase:
    """One event with everything that is stored about it."""
    found = AuditEvent.objects.of(organization_of(request)).filter(pk=pk).select_related("actor", "target").first()
    if found is None:
        raise Http404
    return render(request, "dashboard/event.html", {"event": found})
