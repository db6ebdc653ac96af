"""What came in and what it gave: the log of events, access with its end, and the form for people signed in here."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from apps.autoactivate import selectors, services
from apps.autoactivate.models import AccessGrant, InboundEvent, InboundSource, RequesterReply
from apps.autoactivate.views.common import changed, found_or_404, may, paged, tabs
from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from aum.common.errors import DomainError, InvalidInput

Status = InboundEvent.Status
BADGES = {
    Status.RECEIVED: "progress",
    Status.WORKING: "progress",
    Status.WAITING: "waiting",
    Status.CONFIRMING: "waiting",
    Status.DONE: "success",
    Status.NO_MATCH: "skipped",
    Status.REFUSED: "warning",
    Status.FAILED: "failed",
}
GRANT_BADGES = {
    AccessGrant.Status.GIVING: ("progress", ""),
    AccessGrant.Status.GIVEN: ("ok", "Given"),
    AccessGrant.Status.REMOVING: ("progress", "Being removed"),
    AccessGrant.Status.ENDED: ("plain", "Ended"),
    AccessGrant.Status.UNDONE: ("plain", "Undone"),
    AccessGrant.Status.HAD_IT: ("plain", "Had it already"),
    AccessGrant.Status.FAILED: ("failed", ""),
}
REPLY_BADGES = {
    RequesterReply.Status.QUEUED: "waiting",
    RequesterReply.Status.SENT: "ok",
    RequesterReply.Status.FAILED: "failed",
}
IDENTITIES = {
    "reporter": "reporter of the ticket, read again from Jira",
    "slack": "looked up in Slack",
    "mapping": "known from the list of people",
    "signed_link": "named by a signed single-use link",
    "sign_in": "signed in here",
    "confirmed": "confirmed by mail",
}
GRANT_VIEWS = {"all": "All", "timed": "With an end", "asked": "More time asked for"}


def _event_line(event: InboundEvent) -> dict[str, Any]:
    kinds = dict(InboundSource.Kind.choices)
    return {
        "event": event,
        "badge": BADGES[Status(event.status)],
        "what": event.issue_key or event.payload.get("issue_key") or event.get_kind_display(),
        "source": kinds.get(event.source_kind, event.source_kind),
        "identity": IDENTITIES.get(event.identity, ""),
        "rules": ", ".join(grant.rule.name for grant in event.grants.all()),
        "grants": [(grant, *GRANT_BADGES[AccessGrant.Status(grant.status)]) for grant in event.grants.all()],
        "replies": [(reply, REPLY_BADGES[RequesterReply.Status(reply.status)]) for reply in event.replies.all()],
        "may_repeat": event.status in (Status.NO_MATCH, Status.REFUSED, Status.FAILED, Status.WAITING)
        and event.kind not in ("test", "confirmation", "extension"),
        "may_dismiss": event.status in (Status.RECEIVED, Status.WAITING, Status.CONFIRMING),
    }


@require(Permission.VIEW)
@require_GET
def log(request: OrganizationRequest) -> HttpResponse:
    """Each event: requester, matched rule, or why not (S184)."""
    organization = organization_of(request)
    view = request.GET.get("view", "all")
    view = view if view in selectors.EVENT_VIEWS else "all"
    search = request.GET.get("q", "").strip()[:200].replace("\x00", "")
    page = paged(request, selectors.events(organization, view, search))
    counts = selectors.event_counts(organization)
    base = reverse("autoactivate:log", args=[organization.slug])
    context = {
        "tabs": tabs(request, "log"),
        "views": [
            (label, counts[name], base if name == "all" else f"{base}?view={name}", name == view)
            for name, label in selectors.EVENT_VIEWS.items()
        ],
        "current_view": view,
        "search": search,
        "total": counts["all"],
        "has_open": any(event.status in (Status.RECEIVED, Status.WORKING) for event in page["rows"]),
        **page,
        **may(request),
    }
    context["rows"] = [_event_line(event) for event in page["rows"]]
    partial = request.htmx and request.htmx.target == "list"
    return render(request, "autoactivate/_events.html" if partial else "autoactivate/log.html", context)


def _event(request: OrganizationRequest, pk: int) -> InboundEvent:
    return found_or_404(lambda: selectors.event_by_id(organization_of(request), pk))


@require(Permission.VIEW)
@require_GET
def event(request: OrganizationRequest, pk: int) -> HttpResponse:
    """One event with what was read again and what it gave."""
    found = _event(request, pk)
    return render(request, "autoactivate/event.html", {"line": _event_line(found), **may(request)})


@require(Permission.RULES)
@require_POST
def again(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Judge an event anew."""
    found = _event(request, pk)

    def change() -> str:
        services.process_again(event=found, actor=request.access.actor)
        return "The event is judged anew."

    return changed(request, change, to="log")


@require(Permission.RULES)
@require_POST
def dismiss(request: OrganizationRequest, pk: int) -> HttpResponse:
    """End an event that waits."""
    found = _event(request, pk)

    def change() -> str:
        services.dismiss_event(event=found, actor=request.access.actor)
        return "The event is dismissed. It gives nothing."

    return changed(request, change, to="log")


# --- access given -----------------------------------------------------------------------------------------------------


@require(Permission.VIEW)
@require_GET
def grants(request: OrganizationRequest) -> HttpResponse:
    """What rules gave to whom, until when, and who asks for more time (B22)."""
    organization = organization_of(request)
    view = request.GET.get("view", "all")
    view = view if view in GRANT_VIEWS else "all"
    search = request.GET.get("q", "").strip()[:200].replace("\x00", "")
    counts = selectors.grant_counts(organization)
    base = reverse("autoactivate:grants", args=[organization.slug])
    page = paged(request, selectors.grants(organization, view, search))
    context = {
        "tabs": tabs(request, "grants"),
        "views": [
            (label, counts[name], base if name == "all" else f"{base}?view={name}", name == view)
            for name, label in GRANT_VIEWS.items()
        ],
        "search": search,
        "total": counts["all"],
        **page,
        **may(request),
    }
    context["rows"] = [_grant_line(grant) for grant in page["rows"]]
    return render(request, "autoactivate/grants.html", context)


def _grant_line(grant: AccessGrant) -> dict[str, Any]:
    badge, word = GRANT_BADGES[AccessGrant.Status(grant.status)]
    return {
        "grant": grant,
        "badge": badge,
        "word": word or grant.get_status_display(),
        "days_left": selectors.days_left(grant),
        "is_given": grant.status == AccessGrant.Status.GIVEN,
        "is_timed": grant.status == AccessGrant.Status.GIVEN and grant.expires_at is not None,
    }


def _grant(request: OrganizationRequest, pk: int) -> AccessGrant:
    return found_or_404(lambda: selectors.grant_by_id(organization_of(request), pk))


@require(Permission.ACT)
@require_http_methods(["GET", "POST"])
def more(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Ask that access ends later."""
    grant = _grant(request, pk)
    access = request.access
    days, reason, errors = request.POST.get("days", "30"), request.POST.get("reason", ""), {}
    if request.method == "POST":
        try:
            services.ask_for_more(grant=grant, days=days, reason=reason, actor=access.actor, operator=access.operator)
        except InvalidInput as error:
            errors = error.fields
        except DomainError as error:
            messages.error(request, error.detail)
            return redirect("autoactivate:grants", organization_of(request).slug)
        else:
            messages.success(request, "Asked. An approver decides.")
            return redirect("autoactivate:grants", organization_of(request).slug)
    context = {"line": _grant_line(grant), "days": days, "reason": reason, "errors": errors}
    return render(request, "autoactivate/more.html", context, status=422 if errors else 200)


@require(Permission.APPROVE)
@require_POST
def decide(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Grant or refuse more time."""
    grant = _grant(request, pk)
    is_granted = request.POST.get("decision") == "grant"

    def change() -> str:
        decided = services.decide_more(
            grant=grant,
            is_granted=is_granted,
            reason=request.POST.get("reason", "")[:500],
            actor=request.access.actor,
            operator=request.user,
        )
        until = f"{decided.expires_at:%d %b %Y}" if decided.expires_at else ""
        return f"{grant.account.name} keeps the access until {until}." if is_granted else "More time is refused."

    return changed(request, change, to="grants")


@require(Permission.ACT)
@require_http_methods(["GET", "POST"])
def undo(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Take back what was given: a page that says what happens, then the run."""
    grant = _grant(request, pk)
    access = request.access
    if request.method == "POST":
        try:
            operation = services.undo_grant(grant=grant, actor=access.actor, operator=request.user)
        except DomainError as error:
            messages.error(request, error.detail)
            return redirect("autoactivate:grants", organization_of(request).slug)
        return redirect("operations:run", organization_of(request).slug, operation.number)
    return render(request, "autoactivate/undo.html", {"line": _grant_line(grant)})


# --- the form behind sign-in ------------------------------------------------------------------------------------------


@require(Permission.VIEW)
@require_http_methods(["GET", "POST"])
def request_access(request: OrganizationRequest) -> HttpResponse:
    """Whoever is signed in here asks for access for themselves; nobody else can be named."""
    organization = organization_of(request)
    if request.method == "POST":
        event = services.submit_signed_in(
            organization=organization, email=request.user.email, ip_address=request.META.get("REMOTE_ADDR") or None
        )
        messages.success(request, "Your request has arrived. What became of it stands here.")
        return redirect("autoactivate:event", organization.slug, event.pk)
    return render(request, "autoactivate/request.html", {})
