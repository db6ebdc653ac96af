"""The setup guide: addresses, secrets shown once, steps for each sender, and what has arrived."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from apps.autoactivate import selectors, services
from apps.autoactivate.models import Channel, IdentityMapping, InboundSource
from apps.autoactivate.selectors import Arrival
from apps.autoactivate.services.receiving import last_rejection
from apps.autoactivate.services.sources import ENTERED_SECRETS, OWN_SECRETS
from apps.autoactivate.views.common import changed, may, tabs
from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from apps.organizations.models import Organization
from apps.users.models import Account
from aum.common.errors import DomainError, InvalidInput

Kind = InboundSource.Kind
REJECTIONS = {
    "secret": "a wrong or missing secret",
    "signature": "a wrong or missing signature",
    "stale": "a time stamp that is more than 5 minutes off",
    "timestamp": "no usable time stamp",
    "not_json": "a body that is not JSON",
    "content_type": "another content type than application/json",
    "too_large": "a body that is too large",
    "too_many": "too many requests within a minute",
    "no_user": "no Slack user",
    "not_a_message": "something other than a message",
    "foreign_domain": "an address of a domain that is not allowed",
}
AUTOMATION_BODY = """{
  "issueKey": "{{issue.key}}"
}"""


@dataclass(frozen=True)
class Way:
    """One way in, as the guide shows it."""

    kind: str
    label: str
    source: InboundSource | None
    address: str
    arrival: Arrival | None
    refused_at: datetime | None
    refused_why: str
    is_own_secret: bool
    is_entered_secret: bool

    @property
    def is_seen(self) -> bool:
        return self.source is not None and self.source.first_event_at is not None

    @property
    def overlap_until(self) -> datetime | None:
        """Until when the earlier secret is still believed."""
        until = self.source.previous_until if self.source else None
        return until if until and until > timezone.now() else None

    @property
    def template(self) -> str:
        return f"autoactivate/guide_{self.kind}.html"

    @property
    def has_secret(self) -> bool:
        return self.source is not None and bool(self.source.secret_hash)


def ways(organization: Organization) -> list[Way]:
    """Every way in, those that were never set up among them."""
    known, arrivals = selectors.sources(organization), selectors.arrivals(organization)
    found = []
    for kind, label in Kind.choices:
        source = known.get(kind)
        refused = last_rejection(source) if source else None
        found.append(
            Way(
                kind=kind,
                label=str(label),
                source=source,
                address=selectors.address_of(source) if source else "",
                arrival=arrivals.get(kind),
                refused_at=refused[0] if refused else None,
                refused_why=REJECTIONS.get(refused[1], refused[1].replace("_", " ")) if refused else "",
                is_own_secret=kind in OWN_SECRETS,
                is_entered_secret=kind in ENTERED_SECRETS,
            )
        )
    return found


def _kind(kind: str) -> str:
    if kind not in Kind.values:
        raise Http404
    return kind


def _source(request: OrganizationRequest, kind: str) -> InboundSource:
    return services.ensure_source(organization=organization_of(request), kind=_kind(kind))


def _page(request: OrganizationRequest, kind: str, *, status: int = 200, **shown: Any) -> HttpResponse:
    organization = organization_of(request)
    every = ways(organization)
    way = next(one for one in every if one.kind == kind)
    base = reverse("autoactivate:setup", args=[organization.slug])
    context = {
        "tabs": tabs(request, "setup"),
        "ways": [(one, f"{base}?way={one.kind}") for one in every],
        "way": way,
        "automation_body": AUTOMATION_BODY,
        "form_address": f"{settings.AUM_PUBLIC_URL}/hooks/form/{way.source.key}/" if way.source else "",
        "public_url": settings.AUM_PUBLIC_URL,
        "is_loopback": "//localhost" in settings.AUM_PUBLIC_URL or "//127." in settings.AUM_PUBLIC_URL,
        "mappings": list(selectors.mappings(organization).filter(channel=Channel.TEAMS)[:200])
        if kind == Kind.TEAMS
        else [],
        "errors": {},
        **may(request),
        **shown,
    }
    response = render(request, "autoactivate/setup.html", context, status=status)
    if shown.get("secret") or shown.get("request_link"):
        response["Cache-Control"] = "no-store"
    return response


@require(Permission.VIEW)
@require_GET
def setup(request: OrganizationRequest) -> HttpResponse:
    """The guide of one way in (S173, S175)."""
    kind = request.GET.get("way", Kind.JIRA)
    return _page(request, kind if kind in Kind.values else Kind.JIRA)


@require(Permission.VIEW)
@require_GET
def arrivals(request: OrganizationRequest, kind: str) -> HttpResponse:
    """Whether something has arrived: asked again every few seconds while the guide is open."""
    way = next(one for one in ways(organization_of(request)) if one.kind == _kind(kind))
    return render(request, "autoactivate/_arrival.html", {"way": way})


def _to_way(request: OrganizationRequest, kind: str) -> HttpResponse:
    return redirect(f"{reverse('autoactivate:setup', args=[organization_of(request).slug])}?way={kind}")


@require(Permission.SETTINGS)
@require_POST
def secret(request: OrganizationRequest, kind: str) -> HttpResponse:
    """Make a new secret and show it once, or keep the one that Slack or Teams shows."""
    source = _source(request, kind)
    ends_now = request.POST.get("ends_now") == "on"
    if kind in ENTERED_SECRETS:
        try:
            services.save_secret(
                source=source, secret=request.POST.get("secret", ""), actor=request.access.actor, ends_now=ends_now
            )
        except InvalidInput as error:
            return _page(request, kind, status=422, errors=error.fields)
        messages.success(request, "The secret is kept. It is not shown again.")
        return _to_way(request, kind)
    try:
        _source_after, made = services.rotate_secret(source=source, actor=request.access.actor, ends_now=ends_now)
    except DomainError as error:
        messages.error(request, error.detail)
        return _to_way(request, kind)
    return _page(request, kind, secret=made)


@require(Permission.SETTINGS)
@require_POST
def end_overlap(request: OrganizationRequest, kind: str) -> HttpResponse:
    """Believe only the newest secret from now on."""
    source = _source(request, kind)

    def change() -> str:
        services.end_previous_secret(source=source, actor=request.access.actor)
        return "Only the newest secret is believed from now on."

    return changed(request, change, to="setup", query=f"?way={kind}")


@require(Permission.SETTINGS)
@require_POST
def switch(request: OrganizationRequest, kind: str) -> HttpResponse:
    """Open or close a way in; polling starts with tickets created from now on."""
    source = _source(request, kind)
    is_enabled = request.POST.get("is_enabled") == "on"

    def change() -> str:
        services.switch_source(source=source, is_enabled=is_enabled, actor=request.access.actor)
        return f"{source} is switched {'on' if is_enabled else 'off'}."

    return changed(request, change, to="setup", query=f"?way={kind}")


@require(Permission.SETTINGS)
@require_POST
def bot_token(request: OrganizationRequest) -> HttpResponse:
    """Keep Slack's bot token, once Slack accepts it; or forget it."""
    source = _source(request, Kind.SLACK)
    token = "" if "forget" in request.POST else request.POST.get("bot_token", "").strip()
    if not token and "forget" not in request.POST:
        return _page(request, Kind.SLACK, status=422, errors={"bot_token": ["Paste the bot token."]})
    try:
        team = services.save_bot_token(source=source, token=token, actor=request.access.actor)
    except InvalidInput as error:
        return _page(request, Kind.SLACK, status=422, errors=error.fields)
    except DomainError as error:
        return _page(request, Kind.SLACK, status=422, errors={"bot_token": [error.detail]})
    messages.success(request, f"The bot token of {team} is kept." if token else "The bot token is forgotten.")
    return _to_way(request, Kind.SLACK)


@require(Permission.SETTINGS)
@require_POST
def domains(request: OrganizationRequest) -> HttpResponse:
    """Whose addresses the intranet may name."""
    source = _source(request, Kind.INTRANET)
    typed = request.POST.get("domains", "")[:5000]
    try:
        services.set_domains(source=source, domains=[typed], actor=request.access.actor)
    except InvalidInput as error:
        return _page(request, Kind.INTRANET, status=422, errors=error.fields, domains_text=typed)
    messages.success(request, "The domains are kept.")
    return _to_way(request, Kind.INTRANET)


@require(Permission.SETTINGS)
@require_POST
def people(request: OrganizationRequest) -> HttpResponse:
    """Who Teams users are: id, comma, e-mail, one a line."""
    typed = request.POST.get("lines", "")[:500_000]
    try:
        count = services.save_mappings(
            organization=organization_of(request), channel=Channel.TEAMS, lines=typed, actor=request.access.actor
        )
    except InvalidInput as error:
        return _page(request, Kind.TEAMS, status=422, errors=error.fields, lines_text=typed)
    messages.success(request, f"{count:,} {'person is' if count == 1 else 'people are'} known.")
    return _to_way(request, Kind.TEAMS)


@require(Permission.SETTINGS)
@require_POST
def forget_person(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Forget who an outside id is."""
    mapping = IdentityMapping.objects.of(organization_of(request)).select_related("account", "organization")
    found = mapping.filter(pk=pk).first()
    if found is None:
        raise Http404
    services.remove_mapping(mapping=found, actor=request.access.actor)
    messages.success(request, "That id is forgotten.")
    return _to_way(request, Kind.TEAMS)


@require(Permission.ACT)
@require_POST
def link(request: OrganizationRequest) -> HttpResponse:
    """A single-use link by which one person may ask for access."""
    organization = organization_of(request)
    services.ensure_source(organization=organization, kind=Kind.INTRANET)
    typed = request.POST.get("person", "").strip()[:320]
    found = Account.objects.of(organization).filter(vanished_at__isnull=True)
    people_found = list(found.filter(email__iexact=typed)[:2]) if typed else []
    if len(people_found) != 1:
        sentence = "Enter the e-mail of exactly one user of the directory."
        return _page(request, Kind.INTRANET, status=422, errors={"person": [sentence]}, person_text=typed)
    url = services.make_request_link(organization=organization, account=people_found[0], actor=request.access.actor)
    return _page(request, Kind.INTRANET, request_link=url, link_person=people_found[0])
