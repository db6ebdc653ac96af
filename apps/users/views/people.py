"""One person: side panel, page, timeline, and a fresh look at Atlassian."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from apps.audit.services import record
from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from apps.users import services
from apps.users.registries import KINDS
from apps.users.selectors import person_detail
from apps.users.selectors.timeline import timeline, whole_timeline
from apps.users.views.common import account_of, back_to, is_in_force, menu_actions, varied
from apps.users.views.table import account_badge, membership_badge
from aum.atlassian.errors import AtlassianError
from aum.common.csv import neutralise
from aum.common.errors import DomainError, Missing

TIMELINE_ROWS = 25


def panel(request: OrganizationRequest) -> HttpResponse:
    return varied(render(request, "users/_panel.html", panel_context(request)))


def panel_context(request: OrganizationRequest) -> dict[str, Any]:
    """The person of `?user=` for the side panel; nothing for a key that is not there."""
    key = request.GET.get("user", "")
    if not (key.isascii() and key.isdecimal() and len(key) < 19):
        return {"person": None}
    try:
        return _person_context(request, int(key), rows=4)
    except Missing:
        return {"person": None, "is_person_missing": True}


def _person_context(
    request: OrganizationRequest, pk: int, *, rows: int, kinds: Sequence[str] = (), before: datetime | None = None
) -> dict[str, Any]:
    detail = person_detail(organization_of(request), pk, with_upcoming=True)
    page = timeline(detail.account, kinds=kinds, before=before, limit=rows)
    now = timezone.now()
    return {
        "person": detail,
        "row": detail.row,
        "account_badge": account_badge(detail.row.account_status, detail.row.account_status_label),
        "membership_badge": membership_badge(detail.row.membership_status, detail.row.membership_status_label),
        "actions": menu_actions(detail.row, request.access),
        "entries": page.entries,
        "older": page.older.isoformat() if page.older else "",
        "kinds": [(kind, label, kind in kinds) for kind, label in KINDS.items()],
        "is_narrowed": bool(kinds) or before is not None,
        "exemptions": [(row, is_in_force(row, now)) for row in detail.exemptions],
        "now": now,
    }


def _kinds(request: OrganizationRequest) -> list[str]:
    """The kinds of entries that the address asks for; unknown ones are passed over."""
    return [kind for kind in dict.fromkeys(request.GET.getlist("kind")) if kind in KINDS]


def _instant(text: str) -> datetime | None:
    """An ISO 8601 instant with its offset; None for anything else."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else None


@require(Permission.VIEW)
@require_GET
def person(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Everything about one person. The timeline by `?kind=` and, for older entries, `?before=`."""
    try:
        before = _instant(request.GET.get("before", ""))
        context = _person_context(request, pk, rows=TIMELINE_ROWS, kinds=_kinds(request), before=before)
    except Missing as error:
        raise Http404 from error
    part = request.htmx and request.htmx.target == "timeline-card"
    return varied(render(request, "users/_timeline_card.html" if part else "users/person.html", context))


TIMELINE_COLUMNS = ("at_utc", "kind", "title", "detail", "by", "link")


@require(Permission.EXPORT)
@require_GET
def timeline_export(request: OrganizationRequest, pk: int) -> HttpResponseBase:
    """The whole timeline as CSV, with the kinds that are shown; logged."""
    account = account_of(request, pk)
    kinds = _kinds(request)
    record(
        organization=account.organization,
        actor=request.access.actor,
        action="timeline.exported",
        target_kind="account",
        target_ref=account.account_id,
        target_name=account.name,
        target_email=account.email or "",
        after={"kinds": kinds},
    )
    writer: Any = csv.writer(_Echo())

    def lines() -> Iterator[str]:
        yield "\ufeff" + writer.writerow(TIMELINE_COLUMNS)
        for entry in whole_timeline(account, kinds=kinds):
            at = f"{entry.at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
            link = request.build_absolute_uri(entry.url) if entry.url else ""
            cells = (at, entry.kind, entry.title, entry.detail, entry.by, link)
            yield writer.writerow([neutralise(cell) for cell in cells])

    response = StreamingHttpResponse(lines(), content_type="text/csv; charset=utf-8")
    name = f"aum-timeline-{account.organization.slug}-{pk}-{timezone.now():%Y%m%dT%H%MZ}.csv"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


class _Echo:
    """A file of which csv writes each line straight into the answer."""

    def write(self, value: str) -> str:
        return value


@require(Permission.SYNC)
@require_POST
def refresh(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Read one person's state and last login from Atlassian now."""
    account = account_of(request, pk)
    try:
        fresh = services.refresh_person(account=account, actor=request.access.actor)
    except DomainError as error:
        messages.error(request, error.detail)
    except AtlassianError as error:
        messages.error(request, f"{error.detail} {error.advice}")
    else:
        if fresh.vanished_at:
            messages.warning(request, f"Atlassian no longer knows {account}.")
        else:
            messages.success(request, f"Read {fresh} from Atlassian. Its dates can be up to 24 hours old.")
    return back_to(request, reverse("users:person", args=[organization_of(request).slug, pk]))
