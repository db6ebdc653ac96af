"""Hand-off: the work list for the identity provider, over all runs or of one; its download; closing a line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from django.contrib import messages
from django.db.models import Count, QuerySet
from django.http import Http404, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from apps.audit.services import record
from apps.operations.actions import REGISTRY
from apps.operations.models import HandOff
from apps.operations.services.handoffs import close_hand_off, coverage
from apps.operations.views.common import ROWS
from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from aum.common.csv import neutralise
from aum.common.errors import DomainError

COLUMNS = ("run", "account_id", "name", "email", "change", "target", "state", "since_utc", "why")


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def _chosen(request: OrganizationRequest) -> tuple[QuerySet[HandOff], str, int | None]:
    """(lines, state, number of the run) as the address asks."""
    rows: QuerySet[HandOff] = HandOff.objects.of(organization_of(request))
    number = _number(request.GET.get("operation", ""))
    if number is not None:
        rows = rows.filter(operation__number=number)
    state = request.GET.get("state", "")
    return rows, state if state in HandOff.State.values else "", number


@require(Permission.VIEW)
@require_GET
def hand_offs(request: OrganizationRequest) -> HttpResponse:
    """The lines by state, and how many people AUM can act on itself."""
    rows, state, number = _chosen(request)
    counts = {row["state"]: row["n"] for row in rows.order_by().values("state").annotate(n=Count("pk"))}
    shown = rows.filter(state=state) if state else rows
    before = _number(request.GET.get("before", ""))
    if before is not None:
        shown = shown.filter(pk__lt=before)
    found: list[HandOff] = list(shown.select_related("account", "operation").order_by("-pk")[: ROWS + 1])
    context: dict[str, Any] = {
        "rows": [(row, _label(row)) for row in found[:ROWS]],
        "older": found[ROWS - 1].pk if len(found) > ROWS else None,
        "state": state,
        "number": number,
        "states": [
            ("", "All", sum(counts.values())),
            *((s, label, counts.get(s, 0)) for s, label in HandOff.State.choices),
        ],
        "coverage": coverage(organization_of(request)),
    }
    return render(request, "operations/hand_offs.html", context)


def _label(row: HandOff) -> str:
    return REGISTRY[row.action].label if row.action in REGISTRY else row.action.replace("_", " ")


class _Echo:
    def write(self, value: str) -> str:
        return value


@require(Permission.EXPORT)
@require_GET
def export(request: OrganizationRequest) -> HttpResponseBase:
    """The work list as CSV, for whoever works in the identity provider; logged."""
    rows, state, number = _chosen(request)
    rows = rows.filter(state=state) if state else rows
    record(
        organization=organization_of(request),
        actor=request.access.actor,
        action="hand_off.exported",
        target_kind="hand_off",
        target_ref=str(number or ""),
        target_name=f"run #{number}" if number else "all runs",
    )
    writer = csv.writer(_Echo())

    def lines() -> Iterator[str]:
        yield "\ufeff" + writer.writerow(COLUMNS)
        for row in rows.select_related("account", "operation").order_by("pk").iterator(chunk_size=2000):
            account = row.account
            cells = [
                str(row.operation.number),
                account.account_id,
                account.name,
                account.email or "",
                _label(row),
                row.target_name or row.target,
                row.state,
                f"{row.changed_at:%Y-%m-%dT%H:%M:%SZ}",
                row.detail,
            ]
            yield writer.writerow([neutralise(cell) for cell in cells])

    response = StreamingHttpResponse(lines(), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="aum-hand-off{f"-{number}" if number else ""}.csv"'
    return response


@require(Permission.ACT)
@require_POST
def close(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Close a line by hand: rules may act on the person again."""
    organization = organization_of(request)
    row: HandOff | None = HandOff.objects.of(organization).select_related("account").filter(pk=pk).first()
    if row is None:
        raise Http404
    try:
        close_hand_off(hand_off=row, actor=request.access.actor)
        messages.success(request, f"Closed for {row.account}. Rules may act on this user again.")
    except DomainError as error:
        messages.error(request, error.detail)
    return redirect("operations:hand_offs", organization.slug)
