"""Deliveries, the undeliverable list, people's answers, and the mapping of managers and languages."""

from __future__ import annotations

from typing import Any

from csp.decorators import csp_exempt
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from apps.notifications import content, selectors, services
from apps.notifications.forms import ContactsForm, DecisionForm
from apps.notifications.models import Delivery, PersonContact
from apps.notifications.services.contacts import MAX_BYTES
from apps.notifications.views.templates import framed
from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from apps.operators.views import add_errors
from aum.common.errors import DomainError, InvalidInput, Missing

ROWS = 50


def _delivery(request: OrganizationRequest, pk: int) -> Delivery:
    try:
        return selectors.delivery_by_id(organization_of(request), pk)
    except Missing as error:
        raise Http404 from error


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 18 else None


@require(Permission.VIEW)
@require_GET
def delivery_list(request: OrganizationRequest) -> HttpResponse:
    """Every mail with time, recipient and what became of it (S222)."""
    organization = organization_of(request)
    view = request.GET.get("status", "all")
    view = view if view in selectors.VIEWS else "all"
    search, kind = request.GET.get("q", "")[:200], request.GET.get("kind", "")
    template = _number(request.GET.get("template", ""))
    before = _number(request.GET.get("before", ""))
    found = selectors.deliveries(
        organization,
        view=view,
        search=search,
        kind=kind if kind in Delivery.Kind.values else "",
        template=template,
    )
    if before is not None:
        found = found.filter(pk__lt=before)
    rows = list(found[: ROWS + 1])
    counts = selectors.delivery_counts(organization)
    context = {
        "rows": rows[:ROWS],
        "next_before": rows[ROWS - 1].pk if len(rows) > ROWS else None,
        "is_first": before is None,
        "views": [(word, label, counts[word]) for word, (label, _condition) in selectors.VIEWS.items()],
        "current_view": view,
        "search": search,
        "kind": kind,
        "kinds": Delivery.Kind.choices,
        "template_id": template,
        "template_name": next((t.name for t in selectors.templates(organization) if t.pk == template), ""),
        "total": counts["all"],
        "section": "deliveries",
        "mail": selectors.mail_state(organization),
    }
    partial = request.htmx and request.htmx.target == "list"
    return render(request, "notifications/_deliveries.html" if partial else "notifications/deliveries.html", context)


@require(Permission.VIEW)
@require_GET
def delivery(request: OrganizationRequest, pk: int) -> HttpResponse:
    """One mail: evidence, what it said, what can be done."""
    return _page(request, _delivery(request, pk), DecisionForm(initial=_decision_values(_delivery(request, pk))))


def _decision_values(row: Delivery) -> dict[str, Any]:
    return {"days": max(14, row.days_before or 0)}


def _page(request: OrganizationRequest, row: Delivery, form: DecisionForm, *, status: int = 200) -> HttpResponse:
    context = {
        "row": row,
        "form": form,
        "copies": selectors.sent_of_delivery(row),
        "decisions": list(row.decisions.order_by("-pk")),
        "may_decide": request.access.may(Permission.RULES),
        "is_failed": row.status in Delivery.FAILED,
        "section": "deliveries",
    }
    return render(request, "notifications/delivery.html", context, status=status)


@require(Permission.VIEW)
@require_GET
@csp_exempt()  # type: ignore[arg-type]  # typed for plain requests
def delivery_frame(request: OrganizationRequest, pk: int) -> HttpResponse:
    """What the mail said, without its link and code."""
    row = _delivery(request, pk)
    return framed(row.html or content.document("", "<p>This mail has not been written yet.</p>"))


@require(Permission.RULES)
@require_POST
def again(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Send an undeliverable, bounced or doubtful mail again."""
    row = _delivery(request, pk)
    try:
        services.send_again(delivery=row, actor=request.access.actor)
    except DomainError as error:
        messages.error(request, error.detail)
    else:
        messages.success(request, "The mail is queued again.")
    return redirect("notifications:delivery", organization_of(request).slug, row.pk)


@require(Permission.RULES)
@require_POST
def arrived(request: OrganizationRequest, pk: int) -> HttpResponse:
    """The mail server's log shows that a doubtful mail was taken."""
    row = _delivery(request, pk)
    try:
        services.say_arrived(delivery=row, actor=request.access.actor, reason=request.POST.get("reason", "")[:300])
    except DomainError as error:
        messages.error(request, error.detail)
    else:
        messages.success(request, "Recorded as accepted by the mail server.")
    return redirect("notifications:delivery", organization_of(request).slug, row.pk)


@require(Permission.RULES)
@require_POST
def decide(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Let the action follow although the notice could not be delivered."""
    row = _delivery(request, pk)
    form = DecisionForm(request.POST)
    if form.is_valid():
        try:
            services.let_follow(delivery=row, actor=request.access.actor, **form.cleaned_data)
        except InvalidInput as error:
            add_errors(form, error)
        except DomainError as error:
            messages.error(request, error.detail)
            return redirect("notifications:delivery", organization_of(request).slug, row.pk)
        else:
            messages.success(request, "Recorded. The rule may act from the date shown.")
            return redirect("notifications:delivery", organization_of(request).slug, row.pk)
    return _page(request, row, form, status=422)


@require(Permission.VIEW)
@require_GET
def undeliverable(request: OrganizationRequest) -> HttpResponse:
    """Who could not be told, why, and what follows."""
    organization = organization_of(request)
    pages = Paginator(selectors.undeliverable(organization), ROWS)
    page = pages.get_page(request.GET.get("page"))
    context = {
        "page": page,
        "may_decide": request.access.may(Permission.RULES),
        "section": "undeliverable",
        "mail": selectors.mail_state(organization),
    }
    return render(request, "notifications/undeliverable.html", context)


@require(Permission.RULES)
@require_POST
def again_all(request: OrganizationRequest) -> HttpResponse:
    """Send everything on the undeliverable list again, as after the mail server was mended."""
    queued = 0
    for row in selectors.undeliverable(organization_of(request))[:5000]:
        try:
            services.send_again(delivery=row, actor=request.access.actor)
            queued += 1
        except DomainError:  # somebody else did meanwhile
            continue
    messages.success(request, f"{queued:,} mails are queued again." if queued else "There was nothing to send again.")
    return redirect("notifications:undeliverable", organization_of(request).slug)


@require(Permission.VIEW)
@require_GET
def answers(request: OrganizationRequest) -> HttpResponse:
    """What people answered by the links of their mails."""
    organization = organization_of(request)
    page = Paginator(selectors.decisions(organization), ROWS).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "median_seconds": selectors.returns(organization).median_seconds,
        "section": "answers",
        "mail": selectors.mail_state(organization),
    }
    return render(request, "notifications/answers.html", context)


@require(Permission.VIEW)
@require_http_methods(["GET", "POST"])
def contacts(request: OrganizationRequest) -> HttpResponse:
    """Managers and languages from a CSV file; who is mapped now."""
    organization = organization_of(request)
    report = None
    form = ContactsForm()
    if request.method == "POST":
        if not request.access.may(Permission.RULES):
            return render(request, "operators/refused.html", {"permission": Permission.RULES}, status=403)
        form = ContactsForm(request.POST, request.FILES)
        if form.is_valid():
            try:
                report = services.import_contacts(
                    organization=organization,
                    data=form.cleaned_data["file"].read(MAX_BYTES + 1),
                    actor=request.access.actor,
                )
            except InvalidInput as error:
                add_errors(form, error)
            else:
                messages.success(request, f"{report.saved:,} people are mapped.")
    rows = PersonContact.objects.of(organization).select_related("account").order_by("account__sort_name", "pk")
    context = {
        "form": form,
        "report": report,
        "page": Paginator(rows, ROWS).get_page(request.GET.get("page")),
        "may_edit": request.access.may(Permission.RULES),
        "section": "contacts",
    }
    return render(request, "notifications/contacts.html", context, status=422 if form.errors else 200)
