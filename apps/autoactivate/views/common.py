"""What the pages of Auto-Activate Users share: tabs, refusals, whole numbers of addresses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from apps.autoactivate import selectors
from apps.operators.access import OrganizationRequest, organization_of
from apps.operators.permissions import Permission
from aum.common.errors import DomainError, Missing

Found = TypeVar("Found")


@dataclass(frozen=True)
class Tab:
    label: str
    url: str
    is_current: bool
    count: int | None = None


def tabs(request: OrganizationRequest, current: str) -> list[Tab]:
    """Rules, access given, log, setup guide."""
    organization = organization_of(request)
    asked = selectors.grant_counts(organization)["asked"]
    entries = (
        ("list", "Automation rules", None),
        ("grants", "Access given", asked or None),
        ("log", "Log", None),
        ("setup", "Setup guide", None),
    )
    return [
        Tab(label, reverse(f"autoactivate:{name}", args=[organization.slug]), name == current, count)
        for name, label, count in entries
    ]


def may(request: OrganizationRequest) -> dict[str, bool]:
    """What the page's buttons may do."""
    access = request.access
    return {
        "may_edit": access.may(Permission.RULES),
        "may_set_up": access.may(Permission.SETTINGS),
        "may_act": access.may(Permission.ACT),
        "may_decide": access.may(Permission.APPROVE),
    }


def found_or_404(find: Callable[[], Found]) -> Found:
    try:
        return find()
    except Missing as error:
        raise Http404 from error


def changed(request: OrganizationRequest, change: Callable[[], str], *, to: str, query: str = "") -> HttpResponse:
    """Do `change`, say its sentence or its refusal, go to a page of the app."""
    try:
        messages.success(request, change())
    except DomainError as error:
        texts = [text for texts in error.fields.values() for text in texts]
        messages.error(request, " ".join(texts) or error.detail)
    return redirect(reverse(f"autoactivate:{to}", args=[organization_of(request).slug]) + query)


def page_number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and 0 < len(text) < 7 and int(text) else 1


PAGE_SIZE = 50


def paged(request: OrganizationRequest, rows: Any) -> dict[str, Any]:
    """One page of `rows` with the addresses beside it."""
    number = page_number(request.GET.get("page", ""))
    start = (number - 1) * PAGE_SIZE
    found = list(rows[start : start + PAGE_SIZE + 1])
    query = request.GET.copy()

    def address(page: int) -> str:
        query["page"] = str(page)
        return f"?{query.urlencode()}"

    shown = found[:PAGE_SIZE]
    text = f"{start + 1:,} to {start + len(shown):,}" if shown else ""
    return {
        "rows": shown,
        "pager_text": text,
        "previous": address(number - 1) if number > 1 else None,
        "next": address(number + 1) if len(found) > PAGE_SIZE else None,
    }
