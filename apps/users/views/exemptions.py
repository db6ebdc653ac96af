"""Exemptions: the list, the form for a person, group, domain or kind, extending, ending, snoozing many."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db.models import Q, QuerySet
from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from apps.users import services
from apps.users.exempting import covered_by, in_force_q, later_q, over_q, suggested_exemptions, usage_of
from apps.users.forms import ExemptionForm
from apps.users.models import Account, AccountKind, Exemption, Group, ProtectedGroup
from apps.users.predicates import Context, live_q, search_q
from apps.users.selectors import AccountFilters
from apps.users.views.common import account_of, back_to, own_address, varied
from aum.common.errors import DomainError, InvalidInput

EXEMPTION_ROWS = 50
SUGGESTED = 8
FOUND = 10
VIEWS = (("", "In force"), ("ending", "Ending within 7 days"), ("later", "Beginning later"), ("ended", "Ended"))
SCOPES = (("group", "A group"), ("domain", "A domain"), ("kind", "A kind of account"))


def _form(request: OrganizationRequest, **fields: Any) -> ExemptionForm:
    may_always = request.access.may(Permission.OWN)
    if request.method == "POST":
        return ExemptionForm.of(request.POST, may_always=may_always)
    return ExemptionForm(may_always=may_always, reason=request.GET.get("reason", "")[:500], **fields)


@require(Permission.EXEMPT)
@require_http_methods(["GET", "POST"])
def exempt(request: OrganizationRequest, pk: int) -> HttpResponse:
    """The form that exempts one person, and its answer."""
    account = account_of(request, pk)
    form = _form(request)
    if request.method == "POST":
        try:
            _set(request, form, account=account)
        except DomainError as error:
            form = form.refused(error.fields or {"account": [error.detail]})
        else:
            messages.success(request, f"{account} is exempt. No cleanup touches this user until the exemption ends.")
            return redirect("users:person", organization_of(request).slug, pk)
    context = {"account": account, "subject": str(account), "form": form}
    return render(request, "users/exempt.html", context, status=422 if form.errors else 200)


def _set(request: OrganizationRequest, form: ExemptionForm, **subject: Any) -> Exemption:
    now = timezone.now()
    starts_at = form.starts_at(now)
    return services.set_exemption(
        organization=organization_of(request),
        reason=form.reason,
        starts_at=starts_at,
        until=form.until_at(starts_at or now),
        actor=request.access.actor,
        **subject,
    )


@require(Permission.EXEMPT)
@require_http_methods(["GET", "POST"])
def exempt_set(request: OrganizationRequest) -> HttpResponse:
    """The form that exempts the members of a group, a domain, or a kind of account."""
    data = request.POST if request.method == "POST" else request.GET
    scope = data.get("scope", "group")
    if scope not in dict(SCOPES):
        raise Http404
    form = _form(request)
    groups = Group.objects.of(organization_of(request)).filter(vanished_at__isnull=True)
    search = data.get("group_search", "").replace("\x00", "").strip()[:100]
    chosen = groups.filter(pk=_number(data.get("group", ""))).first()
    if request.method == "POST" and "find" not in data:
        try:
            exemption = _set(request, form, **_subject(scope, data, chosen))
        except DomainError as error:
            form = form.refused(error.fields or {scope: [error.detail]})
        else:
            messages.success(request, f"{exemption.subject[:1].upper()}{exemption.subject[1:]}: exempt.")
            return redirect("users:exemptions", organization_of(request).slug)
    others = groups.filter(name__icontains=search) if search else groups
    context = {
        "scope": scope,
        "scopes": SCOPES,
        "form": form,
        "group_search": search,
        "chosen_group": chosen,
        "groups": list(others.exclude(pk=chosen.pk if chosen else None).order_by("name")[:FOUND]),
        "domain": data.get("domain", ""),
        "kinds": AccountKind.choices,
        "account_kind": data.get("account_kind", ""),
    }
    return render(request, "users/exempt_set.html", context, status=422 if form.errors else 200)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def _subject(scope: str, data: QueryDict, group: Group | None) -> dict[str, Any]:
    if scope == "group":
        if group is None:
            raise InvalidInput(fields={"group": ["Choose a group."]})
        return {"group": group}
    if scope == "domain":
        domain = data.get("domain", "").replace("\x00", "").strip()[:253]
        if not domain:
            raise InvalidInput(fields={"domain": ["Enter a domain such as partner.example."]})
        return {"domain": domain}
    kind = _number(data.get("account_kind", ""))
    if kind is None:
        raise InvalidInput(fields={"account_kind": ["Choose a kind of account."]})
    return {"account_kind": kind}


@require(Permission.VIEW)
@require_GET
def exemptions(request: OrganizationRequest) -> HttpResponse:
    """Exempt and snoozed people, groups, domains and kinds, by state; the search that adds one; what AUM proposes."""
    organization = organization_of(request)
    now = timezone.now()
    every = Exemption.objects.of(organization)
    states = {
        "": in_force_q(now),
        "ending": in_force_q(now) & Q(until__lte=now + services.REMIND_BEFORE),
        "later": later_q(now),
        "ended": over_q(now),
    }
    view = request.GET.get("view", "")
    view = view if view in states else ""
    text = request.GET.get("search", "").replace("\x00", "").strip()[:200]
    chosen = every.filter(states[view])
    if text:
        people = Account.objects.of(organization).filter(search_q(text))
        named = Q(account__in=people.values("pk")) | Q(group__name__icontains=text) | Q(domain__icontains=text)
        chosen = chosen.filter(named | Q(reason__icontains=text))
    before = _number(request.GET.get("before", ""))
    if before is not None:
        chosen = chosen.filter(pk__lt=before)
    rows: list[Exemption] = list(chosen.select_related("account", "group").order_by("-pk")[: EXEMPTION_ROWS + 1])
    shown, usage = rows[:EXEMPTION_ROWS], usage_of(rows[:EXEMPTION_ROWS])
    context = {
        "rows": [(row, usage.get(row.pk), None if row.account_id else covered_by(row).count()) for row in shown],
        "older": rows[EXEMPTION_ROWS - 1].pk if len(rows) > EXEMPTION_ROWS else None,
        "view": view,
        "views": [(key, label, every.filter(states[key]).count()) for key, label in VIEWS],
        "active_count": every.filter(states[""]).count(),
        "search": text,
        "now": now,
        "protected_groups": list(ProtectedGroup.objects.of(organization).select_related("group")[:20]),
        **_suggestions(request),
        **_found_people(request),
    }
    partial = request.htmx and request.htmx.target == "found-people"
    return varied(render(request, "users/_found_people.html" if partial else "users/exemptions.html", context))


def _suggestions(request: OrganizationRequest) -> dict[str, Any]:
    if not request.access.may(Permission.EXEMPT):
        return {"suggested": [], "suggested_count": 0}
    found = suggested_exemptions(organization_of(request), timezone.now())
    return {"suggested": list(found[:SUGGESTED]), "suggested_count": found.count()}


def _found_people(request: OrganizationRequest) -> dict[str, Any]:
    """People whose name or address has the text of the Add form."""
    text = request.GET.get("who", "").replace("\x00", "").strip()[:200]
    found: list[Account] = []
    if text:
        people = Account.objects.of(organization_of(request)).filter(live_q(), search_q(text))
        found = list(people.order_by("sort_name", "pk")[:FOUND])
    return {"who": text, "found_people": found}


def _exemption(request: OrganizationRequest, pk: int) -> Exemption:
    found: Exemption | None = (
        Exemption.objects.of(organization_of(request)).select_related("account", "group").filter(pk=pk).first()
    )
    if found is None:
        raise Http404
    return found


@require(Permission.EXEMPT)
@require_http_methods(["GET", "POST"])
def extend(request: OrganizationRequest, pk: int) -> HttpResponse:
    """The form that moves the end of an exemption."""
    exemption = _exemption(request, pk)
    form = _form(request)
    if request.method == "GET":
        form = ExemptionForm(may_always=form.may_always, reason=exemption.reason)
    else:
        try:
            start = max(exemption.starts_at, timezone.now())
            services.extend_exemption(
                exemption=exemption, until=form.until_at(start), reason=form.reason, actor=request.access.actor
            )
        except DomainError as error:
            form = form.refused(error.fields or {"until": [error.detail]})
        else:
            messages.success(request, "The exemption has a new end.")
            return back_to(request, reverse("users:exemptions", args=[organization_of(request).slug]))
    context = {"exemption": exemption, "subject": exemption.subject, "account": exemption.account, "form": form}
    return render(request, "users/exempt.html", context, status=422 if form.errors else 200)


@require(Permission.EXEMPT)
@require_POST
def end(request: OrganizationRequest, pk: int) -> HttpResponse:
    """End an exemption now; the idle clock of whom it covered starts anew."""
    exemption = _exemption(request, pk)
    try:
        services.end_exemption(exemption=exemption, actor=request.access.actor)
        messages.success(request, f"The exemption of {exemption.subject} has ended. The idle clock starts now.")
    except DomainError as error:
        messages.error(request, error.detail)
    return back_to(request, reverse("users:exemptions", args=[organization_of(request).slug]))


@require(Permission.EXEMPT)
@require_POST
def snooze(request: OrganizationRequest) -> HttpResponse:
    """Snooze the people whom a list had selected, or all who meet its filter: first the form, then the answer."""
    organization = organization_of(request)
    people, fields = _selected(request)
    count = people.count()
    form = ExemptionForm.of(request.POST, may_always=False, is_snooze=True)
    if not count:
        messages.error(request, "Select at least one user.")
        return back_to(request, reverse("users:list", args=[organization.slug]))
    if "until" in request.POST:
        try:
            until = form.until_at(timezone.now())
            assert until is not None
            done = services.snooze_matching(
                organization=organization, people=people, until=until, reason=form.reason, actor=request.access.actor
            )
        except DomainError as error:
            form = form.refused(error.fields or {"until": [error.detail]})
        else:
            messages.success(request, f"{done:,} user{'' if done == 1 else 's'} snoozed until {until:%d %b %Y}.")
            return back_to(request, reverse("users:exemptions", args=[organization.slug]))
    names = [str(account) for account in people.order_by("sort_name", "pk")[:5]]
    context = {
        "count": count,
        "names": names,
        "fields": fields,
        "form": form,
        "next": own_address(request, request.POST.get("next", "")),
    }
    return render(request, "users/snooze.html", context, status=422 if form.errors else 200)


def _selected(request: OrganizationRequest) -> tuple[QuerySet[Account], list[tuple[str, str]]]:
    """(people, the fields that carry the choice): `accounts` with our keys, or `all` with `filters`."""
    organization, data = organization_of(request), request.POST
    people = Account.objects.of(organization).filter(live_q())
    if "all" in data:
        text = data.get("filters", "")[:8000]
        filters, errors = AccountFilters.parse(QueryDict(text))
        if errors:
            return people.none(), []
        return people.filter(filters.as_q(Context.of(organization))), [("all", "1"), ("filters", text)]
    given = [_number(part) for value in data.getlist("accounts") for part in value.split(",")]
    keys = [key for key in given if key is not None][: services.SNOOZE_AT_ONCE]
    return people.filter(pk__in=keys), [("accounts", ",".join(map(str, keys)))]
