"""Pages of people: the list with its filters and side panel, one person, exemptions."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.db.models import Q
from django.http import Http404, HttpResponse, HttpResponseBase, QueryDict, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from apps.audit.models import AuditEvent
from apps.audit.selectors import events_before, events_of_target
from apps.audit.services import record
from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from apps.organizations.models import Organization
from apps.users import services
from apps.users.forms import DEFAULT_LIMIT, LIMITS, ExemptionForm, FilterBar, canonical, filter_bar, limit_of
from apps.users.models import Account, Exemption, SyncRun
from apps.users.predicates import Context, live_q, search_q
from apps.users.selectors import (
    AccountFilters,
    AccountRow,
    DashboardCounts,
    dashboard_counts,
    explorer,
    latest_merged_sync,
    latest_sync,
    person_detail,
)
from aum.atlassian.errors import AtlassianError
from aum.common.csv import neutralise
from aum.common.errors import DomainError, InvalidInput, Missing

RANGE_DAYS = 30
TIMELINE_ROWS = 25
EXEMPTION_ROWS = 50
NOT_YOURS = "Your role may not change users. Ask a Helpdesk member, an Admin or an Owner."


# --- the list -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """A saved view: a tab over the list."""

    label: str
    count: int
    query: str
    is_current: bool


@dataclass(frozen=True)
class MenuAction:
    """One line of a person's menu. `refusal` says why it cannot be chosen now; empty when it can."""

    name: str
    label: str
    icon: str
    refusal: str
    # Groups or products are asked for next.
    needs_targets: bool = False


@dataclass(frozen=True)
class Line:
    """One person in the list and what can be done about them."""

    row: AccountRow
    actions: tuple[MenuAction, ...]


@require(Permission.VIEW)
@require_GET
def user_list(request: OrganizationRequest) -> HttpResponse:
    """The explorer. The state is the address; htmx gets the part that it names as its target."""
    organization = organization_of(request)
    if request.htmx and request.htmx.target == "panel":
        return _panel(request)
    params = canonical(request.GET)
    filters, errors = AccountFilters.parse(params)
    ordering = params.get("ordering") or "name"
    limit = limit_of(params)
    try:
        page = explorer(organization, filters, ordering=ordering, cursor=params.get("cursor"), limit=limit)
    except InvalidInput as error:
        errors |= error.fields
        ordering = "name"
        page = explorer(organization, filters, limit=limit)
    counts = dashboard_counts(organization, RANGE_DAYS)
    may_act = request.access.may(Permission.ACT)
    context: dict[str, Any] = {
        "page": page,
        "lines": [Line(row, menu_actions(row, may_act)) for row in page.rows],
        "bar": filter_bar(organization, params, filters, request.GET.get("group_search", "")),
        "chips": filters.chips(Context.of(organization)),
        "errors": [text for texts in errors.values() for text in texts],
        "views": _views(counts, filters),
        "counts": counts,
        "filter_query": filters.query_string(),
        "ordering": ordering,
        "orderings": _orderings(ordering),
        "limit": limit,
        "limits": LIMITS,
        "bulk_actions": BULK_USER_ACTIONS if may_act else (),
        "bulk_group_actions": BULK_GROUP_ACTIONS if may_act else (),
        "why_not_act": "" if may_act else NOT_YOURS,
        "is_htmx": bool(request.htmx),
        **_sync_state(organization),
    }
    template = {"list": "users/_list.html", "explorer": "users/_explorer.html", "sync-state": "users/_sync_state.html"}
    partial = template.get(request.htmx.target or "") if request.htmx else None
    if partial is None:
        context |= _panel_context(request)
    response = _varied(render(request, partial or "users/list.html", context))
    if partial and request.htmx.target != "sync-state":
        response["HX-Push-Url"] = _address(request, filters, ordering, limit)
    return response


def _address(request: OrganizationRequest, filters: AccountFilters, ordering: str, limit: int) -> str:
    """The list's address without the empty fields that a form sends along."""
    query = QueryDict(mutable=True)
    for name, value in filters.as_params():
        query.appendlist(name, value)
    if ordering != "name":
        query["ordering"] = ordering
    if limit != DEFAULT_LIMIT:
        query["limit"] = str(limit)
    if cursor := request.GET.get("cursor"):
        query["cursor"] = cursor
    return f"{request.path}?{query.urlencode()}" if query else request.path


def _varied(response: HttpResponse) -> HttpResponse:
    """Fragment and page share an address: caches are told so."""
    patch_vary_headers(response, ["HX-Request", "HX-Target"])
    return response


def _views(counts: DashboardCounts, filters: AccountFilters) -> list[View]:
    now = filters.query_string()
    days = f"&days={RANGE_DAYS}"
    tabs = [
        ("All users", counts.total, ""),
        ("Active", counts.active, f"partition=active{days}"),
        (f"Inactive {RANGE_DAYS}+ days", counts.inactive, f"partition=inactive{days}"),
        ("Never active", counts.never_active, f"partition=never_active{days}"),
        ("Not known", counts.unknown, f"partition=unknown{days}"),
        ("Suspended", counts.suspended, f"partition=suspended{days}"),
        ("Deactivated", counts.deactivated, f"partition=deactivated{days}"),
    ]
    return [View(label, count, query, query == now) for label, count, query in tabs]


def _orderings(current: str) -> dict[str, dict[str, str]]:
    """Per sortable heading: the ordering that its link asks for, and `aria-sort` of the present one."""
    state = {}
    for name in ("name", "added", "last_active"):
        is_on = current.removeprefix("-") == name
        is_down = current.startswith("-")
        state[name] = {
            "next": f"-{name}" if is_on and not is_down else name,
            "aria": ("descending" if is_down else "ascending") if is_on else "",
        }
    return state


def menu_actions(row: AccountRow, may_act: bool) -> tuple[MenuAction, ...]:
    """What the row's menu offers, each line with the reason where it cannot be chosen (S90)."""
    keeps = ""
    if row.is_protected:
        keeps = "Protected: no action that takes access is possible."
    elif row.is_exempt:
        keeps = "Exempt: end the exemption first."
    gone = "Not a member of any directory." if row.membership_status == "no_membership" else ""
    is_managed = row.claim_status == "managed"
    external = "" if is_managed else "Only managed accounts can be deactivated and activated."
    undeletable = "" if is_managed else "Only managed accounts can be deleted. Remove the user from the directory."
    if row.membership_status == "suspended":
        membership = MenuAction("restore", "Restore user", "undo", "")
    else:
        membership = MenuAction("suspend", "Suspend user", "pause", keeps or gone)
    if row.account_status == "for_deletion":
        account = MenuAction("activate", "Activate user", "check", "The account awaits its deletion.")
        deletion = MenuAction("cancel_delete", "Cancel deletion", "undo", undeletable)
    else:
        deletion = MenuAction("delete", "Delete user…", "trash", undeletable or keeps)
        if row.account_status == "deactivated":
            account = MenuAction("activate", "Activate user", "check", external)
        else:
            account = MenuAction("deactivate", "Deactivate user", "ban", external or keeps)
    no_groups = "" if row.groups else "In no group."
    no_products = "" if row.products else "No product is given to this user."
    managed = "A managed account: delete it instead." if is_managed else ""
    found = (
        membership,
        account,
        MenuAction("add_to_group", "Add to groups…", "plus", gone, needs_targets=True),
        MenuAction("remove_from_group", "Remove from groups…", "minus", keeps or gone or no_groups, needs_targets=True),
        MenuAction(
            "remove_product_access", "Suspend in products…", "pause", keeps or gone or no_products, needs_targets=True
        ),
        deletion,
        MenuAction("remove_from_directory", "Remove from directory…", "x", managed or keeps or gone),
    )
    return found if may_act else tuple(dataclasses.replace(action, refusal=NOT_YOURS) for action in found)


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


def _sync_state(organization: Organization) -> dict[str, Any]:
    """The sync that the list shows, one that is under way, and the last one's failure."""
    newest, merged = latest_sync(organization), latest_merged_sync(organization)
    is_open = newest is not None and newest.status in SyncRun.OPEN
    failed = newest if newest is not None and newest.status == SyncRun.Status.FAILED else None
    return {"merged_sync": merged, "open_sync": newest if is_open else None, "failed_sync": failed}


@require(Permission.VIEW)
@require_GET
def group_options(request: OrganizationRequest) -> HttpResponse:
    """The group filter's checkboxes for a search, those chosen first."""
    params = canonical(request.GET)
    filters, _ = AccountFilters.parse(params)
    bar: FilterBar = filter_bar(organization_of(request), params, filters, request.GET.get("group_search", ""))
    return render(request, "users/_group_options.html", {"bar": bar})


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


EXPORT_COLUMNS = (
    "account_id",
    "name",
    "email",
    "account_status",
    "membership_status",
    "claim_status",
    "kind",
    "added_to_org_utc",
    "activity",
    "last_active_utc",
    "products",
    "groups",
    "is_protected",
    "exempt_until_utc",
)


class _Echo:
    """A file of which csv writes each line straight into the answer."""

    def write(self, value: str) -> str:
        return value


@require(Permission.EXPORT)
@require_GET
def export(request: OrganizationRequest) -> HttpResponseBase:
    """The filtered list as CSV, in the order of the screen; logged."""
    organization = organization_of(request)
    params = canonical(request.GET)
    filters, _ = AccountFilters.parse(params)
    ordering = params.get("ordering") or "name"
    record(
        organization=organization,
        actor=request.access.actor,
        action="users.exported",
        target_kind="organization",
        target_ref=organization.slug,
        target_name=organization.name,
        after={"filters": filters.query_string()},
    )
    writer = csv.writer(_Echo())

    def lines() -> Iterator[str]:
        yield "\ufeff" + writer.writerow(EXPORT_COLUMNS)
        cursor: str | None = None
        while True:
            page = explorer(organization, filters, ordering=ordering, cursor=cursor, limit=500)
            for row in page.rows:
                yield writer.writerow([neutralise(cell) for cell in _cells(row)])
            cursor = page.next_cursor
            if cursor is None:
                return

    try:
        explorer(organization, filters, ordering=ordering, limit=1)
    except InvalidInput as error:
        return HttpResponse(error.detail, status=422, content_type="text/plain; charset=utf-8")
    response = StreamingHttpResponse(lines(), content_type="text/csv; charset=utf-8")
    name = f"aum-users-{organization.slug}-{timezone.now():%Y%m%dT%H%MZ}.csv"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _cells(row: AccountRow) -> list[str]:
    return [
        row.account_id,
        row.name,
        row.email or "",
        row.account_status,
        row.membership_status,
        row.claim_status,
        row.kind,
        _iso(row.added_to_org_at),
        row.activity,
        _iso(row.last_active_at),
        "; ".join(f"{use.product} {use.site}: {_iso(use.last_active_at) or use.activity}" for use in row.products),
        "; ".join(tag.name for tag in row.groups),
        "yes" if row.is_protected else "no",
        _iso(row.exempt_until),
    ]


def _iso(at: datetime | None) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}" if at else ""


# --- one person -----------------------------------------------------------------------------------------------------


def _panel(request: OrganizationRequest) -> HttpResponse:
    return _varied(render(request, "users/_panel.html", _panel_context(request)))


def _panel_context(request: OrganizationRequest) -> dict[str, Any]:
    """The person of `?user=` for the side panel; nothing for a key that is not there."""
    key = request.GET.get("user", "")
    if not (key.isascii() and key.isdecimal() and len(key) < 19):
        return {"person": None}
    try:
        return _person_context(request, int(key), rows=4)
    except Missing:
        return {"person": None, "is_person_missing": True}


def _person_context(request: OrganizationRequest, pk: int, *, rows: int, before: str = "") -> dict[str, Any]:
    organization = organization_of(request)
    detail = person_detail(organization, pk)
    found = events_of_target(organization, "account", detail.account.account_id)
    moment = _place(before)
    if moment is not None:
        found = events_before(found, *moment)
    events: list[AuditEvent] = list(found[: rows + 1])
    last = events[rows - 1] if len(events) > rows else None
    now = timezone.now()
    return {
        "person": detail,
        "row": detail.row,
        "actions": menu_actions(detail.row, request.access.may(Permission.ACT)),
        "events": [(event, event_words(event)) for event in events[:rows]],
        "older": f"{last.at.timestamp():.6f}-{last.pk}" if last else "",
        "exemptions": [(row, _is_in_force(row, now)) for row in detail.exemptions],
        "now": now,
    }


def _place(text: str) -> tuple[datetime, int] | None:
    """(instant, key) of the last event shown; None for anything else."""
    stamp, _, key = text.partition("-")
    try:
        return datetime.fromtimestamp(float(stamp), tz=timezone.get_default_timezone()), int(key)
    except (ValueError, OverflowError, OSError):
        return None


_WORDS = {
    "account.suspended": ("Suspended", "pause", "warn"),
    "account.restored": ("Restored", "undo", "ok"),
    "account.deactivated": ("Deactivated", "ban", "danger"),
    "account.activated": ("Activated", "check", "ok"),
    "account.refreshed": ("Last login fetched", "refresh", ""),
    "exemption.set": ("Exempted", "shield", "info"),
    "exemption.extended": ("Exemption extended", "shield", "info"),
    "exemption.ended": ("Exemption ended", "shield", ""),
    "snooze.set": ("Snoozed", "shield", "info"),
}


@dataclass(frozen=True)
class EventWords:
    """How an event reads in a timeline; `tone` colours its dot."""

    title: str
    icon: str
    tone: str


def event_words(event: AuditEvent) -> EventWords:
    """The title of an event about a person: "Suspended", "Suspend: failed"."""
    title, icon, tone = _WORDS.get(event.action, ("", "activity", ""))
    title = title or event.action.rpartition(".")[2].replace("_", " ").capitalize()
    if event.outcome == AuditEvent.Outcome.FAILED:
        return EventWords(f"{title}: failed", "x", "danger")
    if event.outcome == AuditEvent.Outcome.SKIPPED:
        return EventWords(f"{title}: skipped", "minus", "")
    return EventWords(title, icon, tone)


@require(Permission.VIEW)
@require_GET
def person(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Everything about one person. Older events by `?before=`."""
    try:
        context = _person_context(request, pk, rows=TIMELINE_ROWS, before=request.GET.get("before", ""))
    except Missing as error:
        raise Http404 from error
    return render(request, "users/person.html", context)


def _account(request: OrganizationRequest, pk: int) -> Account:
    account: Account | None = Account.objects.of(organization_of(request)).filter(pk=pk).first()
    if account is None:
        raise Http404
    return account


def _back(request: OrganizationRequest, fallback: str) -> HttpResponse:
    """To the page that the form came from, where that is one of this organisation's."""
    target = request.POST.get("next", "")
    base = reverse("users:list", args=[organization_of(request).slug]).removesuffix("users/")
    is_own = target.startswith(base) and "\\" not in target and "//" not in target.partition("?")[0]
    return redirect(target if is_own else fallback)


@require(Permission.SYNC)
@require_POST
def refresh(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Read one person's state and last login from Atlassian now."""
    account = _account(request, pk)
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
    return _back(request, reverse("users:person", args=[organization_of(request).slug, pk]))


# --- exemptions -----------------------------------------------------------------------------------------------------


def _is_in_force(exemption: Exemption, now: datetime) -> bool:
    return exemption.ended_at is None and (exemption.until is None or exemption.until > now)


@require(Permission.EXEMPT)
@require_http_methods(["GET", "POST"])
def exempt(request: OrganizationRequest, pk: int) -> HttpResponse:
    """The form that exempts one person, and its answer."""
    account = _account(request, pk)
    form = ExemptionForm.of(request.POST) if request.method == "POST" else ExemptionForm()
    if request.method == "POST":
        try:
            services.set_exemption(
                organization=organization_of(request),
                account=account,
                reason=form.reason,
                until=form.until_at(timezone.now()),
                actor=request.access.actor,
            )
        except DomainError as error:
            form = ExemptionForm.of(request.POST, error.fields or {"account": [error.detail]})
        else:
            messages.success(request, f"{account} is exempt. No cleanup touches this user until the exemption ends.")
            return redirect("users:person", organization_of(request).slug, pk)
    return render(request, "users/exempt.html", {"account": account, "form": form}, status=422 if form.errors else 200)


@require(Permission.VIEW)
@require_GET
def exemptions(request: OrganizationRequest) -> HttpResponse:
    """Exempt and snoozed people: those in force, or those that ended; and the search that adds one."""
    organization = organization_of(request)
    now = timezone.now()
    in_force = Q(ended_at__isnull=True) & (Q(until__isnull=True) | Q(until__gt=now))
    every = Exemption.objects.of(organization)
    is_ended = request.GET.get("view") == "ended"
    text = request.GET.get("search", "").replace("\x00", "").strip()[:200]
    chosen = every.exclude(in_force) if is_ended else every.filter(in_force)
    if text:
        accounts = Account.objects.of(organization).filter(search_q(text))
        chosen = chosen.filter(account__in=accounts.values("pk"))
    before = request.GET.get("before", "")
    if before.isascii() and before.isdecimal() and len(before) < 19:
        chosen = chosen.filter(pk__lt=int(before))
    rows = list(chosen.select_related("account").order_by("-pk")[: EXEMPTION_ROWS + 1])
    context = {
        "rows": rows[:EXEMPTION_ROWS],
        "older": rows[EXEMPTION_ROWS - 1].pk if len(rows) > EXEMPTION_ROWS else None,
        "is_ended": is_ended,
        "active_count": every.filter(in_force).count(),
        "ended_count": every.exclude(in_force).count(),
        "search": text,
        "now": now,
        **_found_people(request),
    }
    partial = request.htmx and request.htmx.target == "found-people"
    return _varied(render(request, "users/_found_people.html" if partial else "users/exemptions.html", context))


def _found_people(request: OrganizationRequest) -> dict[str, Any]:
    """People whose name or address has the text of the Add form."""
    text = request.GET.get("who", "").replace("\x00", "").strip()[:200]
    found: list[Account] = []
    if text:
        people = Account.objects.of(organization_of(request)).filter(live_q(), search_q(text))
        found = list(people.order_by("sort_name", "pk")[:10])
    return {"who": text, "found_people": found}


@require(Permission.EXEMPT)
@require_POST
def end(request: OrganizationRequest, pk: int) -> HttpResponse:
    """End an exemption now; the person's idle clock starts anew."""
    exemption: Exemption | None = (
        Exemption.objects.of(organization_of(request)).select_related("account").filter(pk=pk).first()
    )
    if exemption is None:
        raise Http404
    try:
        services.end_exemption(exemption=exemption, actor=request.access.actor)
        messages.success(request, f"The exemption of {exemption.account} has ended. The idle clock starts now.")
    except DomainError as error:
        messages.error(request, error.detail)
    return _back(request, reverse("users:exemptions", args=[organization_of(request).slug]))
