"""The list of people: filters, views, columns, paging, and the sync that it shows."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.template.loader import get_template
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import capfirst
from django.views.decorators.http import require_GET, require_POST

from apps.operators.access import Access, OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from apps.organizations.models import Organization
from apps.users import services
from apps.users.forms import DEFAULT_LIMIT, LIMITS, FilterBar, canonical, filter_bar, limit_of
from apps.users.models import SavedView, SyncRun
from apps.users.predicates import Context
from apps.users.selectors import (
    ORDERINGS,
    AccountFilters,
    AccountRow,
    CappedCount,
    DashboardCounts,
    count_exactly,
    dashboard_counts,
    explorer,
    latest_merged_sync,
    latest_sync,
    visible_views,
)
from apps.users.selectors.columns import COLUMNS, Column, chosen_columns
from apps.users.selectors.counts import contractor_groups, mirror_version, view_counts
from apps.users.selectors.explorer import sort_sentence
from apps.users.selectors.trust import MERGED
from apps.users.services.columns import choose_columns, reset_columns
from apps.users.views.common import NOT_YOURS, MenuAction, menu_actions, own_address, varied
from apps.users.views.people import panel, panel_context
from apps.users.views.picking import picked
from apps.users.views.table import table_row
from aum.common.errors import DomainError, InvalidInput

RANGE_DAYS = 30
# Stands for a person's key while the menu of everybody alike is made; no sequence comes near it.
ANY_PK = str(2**53 - 1)
CONTRACTOR_DAYS = 60


@dataclass(frozen=True)
class View:
    """A tab over the list. `count` None: not counted yet. `pk`: the saved view, 0 for those that come with AUM."""

    label: str
    count: CappedCount | None
    query: str
    is_current: bool
    pk: int = 0
    is_shared: bool = False
    is_changed: bool = False
    refusal: str = ""


@dataclass(frozen=True)
class Sort:
    """A line of the menu of orderings."""

    label: str
    link: str
    is_current: bool


@dataclass(frozen=True)
class Heading:
    """A column as the table shows it. `next`: the ordering that its link asks for; `aria`: the present one."""

    column: Column
    next: str = ""
    aria: str = ""


@require(Permission.VIEW)
@require_GET
def user_list(request: OrganizationRequest) -> HttpResponse:
    """The explorer. The state is the address; htmx gets the part that it names as its target."""
    organization = organization_of(request)
    if request.htmx and request.htmx.target == "panel":
        return panel(request)
    typed = request.GET
    params = canonical(typed)
    filters, errors = AccountFilters.parse(params)
    ordering = params.get("ordering") or "name"
    limit = limit_of(params)
    try:
        page = explorer(organization, filters, ordering=ordering, cursor=params.get("cursor"), limit=limit)
    except InvalidInput as error:
        errors |= error.fields
        ordering = "name"
        page = explorer(organization, filters, limit=limit)
    sync_state = _sync_state(organization)
    version = mirror_version(organization, sync_state["merged_sync"])
    counts = dashboard_counts(organization, RANGE_DAYS, version=version)
    views, current = _views(request, counts, filters, ordering, version)
    address = _query(params, filters, ordering, limit, current)
    # Links of the page change this address, so they carry no empty fields of the form.
    request.GET = address  # type: ignore[assignment]  # the stubs want an immutable one
    picks = picked(request, organization, [row.pk for row in page.rows])
    columns = chosen_columns(organization, request.access.operator)
    may_act, may_export = request.access.may(Permission.ACT), request.access.may(Permission.EXPORT)
    context: dict[str, Any] = {
        "page": page,
        "count": _count(organization, filters, page.count, counts, is_exact=params.get("count") == "exact"),
        "lines": _lines(request, page.rows, columns, picked_pks=picks.here, may_select=may_act or may_export),
        "shown": ",".join(str(row.pk) for row in page.rows),
        "picks": picks,
        "bar": filter_bar(organization, params, filters, typed.get("group_search", ""), typed),
        "chips": filters.chips(Context.of(organization)),
        "errors": [text for texts in errors.values() for text in texts],
        "views": views,
        "view": current,
        "kept_view": f"&view={current.pk}" if current else "",
        "counts": counts,
        "filter_query": filters.query_string(),
        "ordering": ordering,
        "headings": [_heading(column, ordering) for column in columns],
        "user_heading": _heading(Column("user", "User", "name"), ordering),
        "sorts": _sorts(address, ordering),
        "columns": COLUMNS,
        "shown_keys": {column.key for column in columns},
        "limit": limit,
        "limits": LIMITS,
        "may_select": may_act or may_export,
        "bulk_actions": BULK_USER_ACTIONS if may_act else (),
        "bulk_group_actions": _bulk_group_actions(request.access),
        "why_not_act": "" if may_act else NOT_YOURS,
        "is_htmx": bool(request.htmx),
        **sync_state,
    }
    template = {"list": "users/_list.html", "explorer": "users/_explorer.html", "sync-state": "users/_sync_state.html"}
    partial = template.get(request.htmx.target or "") if request.htmx else None
    if partial is None:
        context |= panel_context(request)
    response = varied(render(request, partial or "users/list.html", context))
    if partial and request.htmx.target != "sync-state":
        response["HX-Push-Url"] = f"{request.path}?{address.urlencode()}" if address else request.path
    return response


def _lines(
    request: OrganizationRequest,
    rows: Sequence[AccountRow],
    columns: Sequence[Column],
    *,
    picked_pks: Container[int],
    may_select: bool,
) -> list[SafeString]:
    """The rows of the table with their menus."""
    organization = organization_of(request)
    may_sync, may_exempt = request.access.may(Permission.SYNC), request.access.may(Permission.EXEMPT)
    keys = [column.key for column in columns]
    address = request.GET.copy()
    address.pop("user", None)
    link = f"?{address.urlencode()}&user=" if address else "?user="
    lines = []
    for number, row in enumerate(rows):
        actions = menu_actions(row, request.access)
        menu = _menu(organization.slug, organization.is_from_file, may_sync, may_exempt, actions)
        lines.append(
            table_row(
                row,
                number=number,
                columns=keys,
                # Nothing but our own number is put into what the template has escaped.
                menu=mark_safe(menu.replace(ANY_PK, str(row.pk))),
                link=f"{link}{row.pk}",
                may_select=may_select,
                is_picked=row.pk in picked_pks,
            )
        )
    return lines


@lru_cache(maxsize=512)
def _menu(slug: str, is_from_file: bool, may_sync: bool, may_exempt: bool, actions: tuple[MenuAction, ...]) -> str:
    """The menu of everybody of whom the same can be done; ANY_PK stands for the person's key."""
    return get_template("users/_row_menu.html").render(
        {
            "slug": slug,
            "is_from_file": is_from_file,
            "may_sync": may_sync,
            "may_exempt": may_exempt,
            "act_url": reverse("operations:act", args=[slug]),
            "actions": actions,
            "pk": ANY_PK,
        }
    )


def _query(params: QueryDict, filters: AccountFilters, ordering: str, limit: int, current: View | None) -> QueryDict:
    """The list's address without the empty fields that a form sends along."""
    query = QueryDict(mutable=True)
    for name, value in filters.as_params():
        query.appendlist(name, value)
    if ordering != "name":
        query["ordering"] = ordering
    if limit != DEFAULT_LIMIT:
        query["limit"] = str(limit)
    if current:
        query["view"] = str(current.pk)
    for name in ("cursor", "count", "user"):
        if value := params.get(name, ""):
            query[name] = value
    return query


def _count(
    organization: Organization, filters: AccountFilters, found: CappedCount, counts: DashboardCounts, *, is_exact: bool
) -> CappedCount:
    """The page's count; exact where that is known anyway or was asked for."""
    if not found.is_capped:
        return found
    if not filters:
        return CappedCount(counts.total, False)
    if is_exact:
        return CappedCount(count_exactly(organization, filters.as_q(Context.of(organization))), False)
    return found


def _views(
    request: OrganizationRequest, counts: DashboardCounts, filters: AccountFilters, ordering: str, version: str
) -> tuple[list[View], View | None]:
    """The tabs, and the saved view that the address names."""
    organization, access = organization_of(request), request.access
    days = f"&days={RANGE_DAYS}"
    groups = "".join(f"&group={pk}" for pk in contractor_groups(organization))
    contractors = f"claim_status=unmanaged{groups}&added_days={CONTRACTOR_DAYS}"
    built_in = [
        ("All users", counts.total, ""),
        (f"Inactive {RANGE_DAYS}+ days", counts.inactive, f"partition=inactive{days}"),
        ("Contractors to review", None, contractors),
        ("Never logged in", counts.never_active, f"partition=never_active{days}"),
        ("Suspended", counts.suspended, f"partition=suspended{days}"),
        ("Deactivated", counts.deactivated, f"partition=deactivated{days}"),
    ]
    saved: list[SavedView] = list(visible_views(organization, access.operator))
    asked = {str(view.pk): AccountFilters.parse(view.params)[0] for view in saved}
    asked["contractors"] = AccountFilters.parse(QueryDict(contractors))[0]
    counted = view_counts(organization, asked, version=version)
    key = request.GET.get("view", "")
    chosen = next((view for view in saved if str(view.pk) == key), None)
    now = filters.query_string()
    tabs = []
    for label, count, text in built_in:
        query = AccountFilters.parse(QueryDict(text))[0].query_string()
        shown = counted.get("contractors") if count is None else CappedCount(count, False)
        tabs.append(View(label, shown, query, chosen is None and query == now))
    current = None
    for view in saved:
        query = asked[str(view.pk)].query_string()
        order = "" if view.ordering == "name" else f"&ordering={view.ordering}"
        tab = View(
            view.name,
            counted.get(str(view.pk)),
            f"{query}{order}&view={view.pk}".lstrip("&"),
            view == chosen,
            view.pk,
            view.is_shared,
            is_changed=view == chosen and (query, view.ordering) != (now, ordering),
            refusal=services.why_not_change(view, access.operator, access.permissions) if view == chosen else "",
        )
        current = tab if view == chosen else current
        tabs.append(tab)
    return tabs, current


def _sorts(address: QueryDict, ordering: str) -> list[Sort]:
    """Every way to sort. Links keep the filters and begin with the first page, nobody's panel open."""
    kept = address.copy()
    for name in ("ordering", "cursor", "user"):
        kept.pop(name, None)
    start = f"?{kept.urlencode()}&" if kept else "?"
    return [
        Sort(capfirst(sort_sentence(name).removeprefix("Sorted by ")), f"{start}ordering={name}", name == ordering)
        for name in ORDERINGS
    ]


def _heading(column: Column, ordering: str) -> Heading:
    if not column.ordering:
        return Heading(column)
    is_on = ordering.removeprefix("-") == column.ordering
    is_down = ordering.startswith("-")
    aria = ("descending" if is_down else "ascending") if is_on else ""
    return Heading(column, f"-{column.ordering}" if is_on and not is_down else column.ordering, aria)


# The bulk bar's choices; "None" stands before them (S95, S99, S104).
BULK_USER_ACTIONS = (
    ("deactivate", "Deactivate"),
    ("suspend", "Suspend"),
    ("remove_product_access", "Suspend in selected products"),
    ("activate", "Activate"),
    ("restore", "Restore"),
    ("delete", "Delete"),
    ("remove_from_directory", "Remove from directory"),
)
BULK_GROUP_ACTIONS = (("add_to_group", "Add user to group"), ("remove_from_group", "Remove user from group"))


# For owners alone.
BULK_ADMIN_ACTIONS = (
    ("add_to_admin_group", "Add user to admin group"),
    ("remove_from_admin_group", "Remove user from admin group"),
)


def _bulk_group_actions(access: Access) -> tuple[tuple[str, str], ...]:
    if not access.may(Permission.ACT):
        return ()
    return (*BULK_GROUP_ACTIONS, *BULK_ADMIN_ACTIONS) if access.may(Permission.OWN) else BULK_GROUP_ACTIONS


def _sync_state(organization: Organization) -> dict[str, Any]:
    """The sync that the list shows, one that is under way, and the last one's failure."""
    newest = latest_sync(organization)
    merged = newest if newest is not None and newest.status in MERGED else latest_merged_sync(organization)
    is_open = newest is not None and newest.status in SyncRun.OPEN
    failed = newest if newest is not None and newest.status == SyncRun.Status.FAILED else None
    return {"merged_sync": merged, "open_sync": newest if is_open else None, "failed_sync": failed}


@require(Permission.VIEW)
@require_GET
def group_options(request: OrganizationRequest) -> HttpResponse:
    """The group filter's checkboxes for a search, those chosen first."""
    params = canonical(request.GET)
    filters, _ = AccountFilters.parse(params)
    search = request.GET.get("group_search", "")
    bar: FilterBar = filter_bar(organization_of(request), params, filters, search, request.GET)
    return render(request, "users/_group_options.html", {"bar": bar})


@require(Permission.VIEW)
@require_POST
def columns(request: OrganizationRequest) -> HttpResponse:
    """Keep the columns that were ticked, or go back to those that everybody starts with."""
    organization = organization_of(request)
    try:
        if "reset" in request.POST:
            reset_columns(organization=organization, operator=request.user)
        else:
            choose_columns(organization=organization, operator=request.user, columns=request.POST.getlist("column"))
    except DomainError as error:
        messages.error(request, error.detail)
    target = own_address(request, request.POST.get("to", ""))
    return redirect(target) if target else redirect("users:list", organization.slug)


@require(Permission.SYNC)
@require_POST
def start_sync(request: OrganizationRequest) -> HttpResponse:
    """Queue a sync, or say that one is under way."""
    try:
        services.request_sync(organization=organization_of(request), actor=request.access.actor)
        messages.success(request, "The sync has started. The list changes when it is done.")
    except DomainError as error:
        messages.error(request, error.detail)
    return redirect("users:list", organization_of(request).slug)
