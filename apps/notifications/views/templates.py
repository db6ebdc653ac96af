"""Email Notifications: the list, the form with its live preview, the preview dialog and the buttons of a template."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from csp.decorators import csp_exempt
from django.contrib import messages
from django.core.cache import cache
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRedirect

from apps.notifications import content, selectors, services
from apps.notifications.forms import TemplateForm
from apps.notifications.models import EmailTemplate
from apps.notifications.services.testing import send_test
from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from apps.operators.views import add_errors
from apps.organizations.models import Organization
from aum.common.errors import DomainError, InvalidInput, Missing

# What the frame of a mail answers with (ui/DESIGN.md §4.8): no script, no network, shown by our own pages only.
FRAME_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'"
DRAFT_SECONDS = 1800


@require(Permission.VIEW)
@require_GET
def template_list(request: OrganizationRequest) -> HttpResponse:
    """All templates; who may edit makes the first ones appear."""
    if request.access.may(Permission.RULES):
        services.ensure_defaults(organization_of(request))
    return render(request, "notifications/list.html", _list_context(request))


def _list_context(request: OrganizationRequest) -> dict[str, Any]:
    organization = organization_of(request)
    return {
        "rows": selectors.template_rows(organization),
        "mail": selectors.mail_state(organization),
        "may_edit": request.access.may(Permission.RULES),
        "section": "templates",
    }


def _template(request: OrganizationRequest, pk: int) -> EmailTemplate:
    try:
        return selectors.template_by_id(organization_of(request), pk)
    except Missing as error:
        raise Http404 from error


# --- the form ---------------------------------------------------------------------------------------------------------


@require(Permission.RULES)
@require_http_methods(["GET", "POST"])
def new(request: OrganizationRequest) -> HttpResponse:
    """Create a template; `?event=` chooses what it is about."""
    if request.method == "GET":
        start = content.DEFAULTS[0]
        event = request.GET.get("event", "")
        for default in content.DEFAULTS:
            start = default if default[0] == event else start
        initial = {
            "event": event if event in EmailTemplate.Event.values else "other",
            "days_inactive": 23,
            "subject": start[2] if event else "",
            "body": start[3] if event else "<p>Dear {{username}},</p>\n<p></p>",
            "is_enabled": True,
        }
        return _form_page(request, TemplateForm(initial=initial), None)
    form = TemplateForm(request.POST)
    return _save(
        request,
        form,
        None,
        lambda: services.create_template(
            organization=organization_of(request), values=form.values(), actor=request.access.actor
        ),
    )


@require(Permission.VIEW)
@require_http_methods(["GET", "POST"])
def edit(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Show a template to everybody, and save it for those who may."""
    template = _template(request, pk)
    if request.method == "GET":
        row = selectors.template_rows(organization_of(request), [template])[0]
        return _form_page(request, TemplateForm.of(template, row.days[0]), template)
    if not request.access.may(Permission.RULES):
        return render(request, "operators/refused.html", {"permission": Permission.RULES}, status=403)
    form = TemplateForm(request.POST)
    version = request.POST.get("version", "")
    return _save(
        request,
        form,
        template,
        lambda: services.update_template(
            template=template,
            values=form.values(),
            actor=request.access.actor,
            operator=request.access.operator,
            expected_version=int(version) if version.isascii() and version.isdecimal() and len(version) < 9 else None,
            is_confirmed="is_confirmed" in request.POST,
        ),
    )


def _save(
    request: OrganizationRequest,
    form: TemplateForm,
    template: EmailTemplate | None,
    save: Callable[[], services.Saved],
) -> HttpResponse:
    if not form.is_valid():
        return _form_page(request, form, template, status=422)
    try:
        saved = save()
    except services.RulesWouldWait as error:
        return _form_page(request, form, template, status=422, would_wait=error.detail)
    except DomainError as error:
        add_errors(form, error)
        return _form_page(request, form, template, status=422)
    messages.success(request, f"“{saved.template.name}” is saved.")
    if saved.removed:
        messages.warning(request, f"Taken out, because mails may not hold it: {', '.join(saved.removed)}.")
        return redirect("notifications:edit", organization_of(request).slug, saved.template.pk)
    return redirect("notifications:list", organization_of(request).slug)


def _form_page(
    request: OrganizationRequest,
    form: TemplateForm,
    template: EmailTemplate | None,
    *,
    status: int = 200,
    would_wait: str = "",
) -> HttpResponse:
    organization = organization_of(request)
    uses = selectors.template_rows(organization, [template])[0].uses if template else ()
    subject, body = (str(form[name].value() or "") for name in ("subject", "body"))
    context = {
        "form": form,
        "template": template,
        "uses": uses,
        "one_use": uses[0] if len({use.rule_id for use in uses}) == 1 else None,
        "has_many_uses": len({use.rule_id for use in uses}) > 1,
        "placeholders": list(content.PLACEHOLDERS.values()),
        "live": _live(request, subject, body, str(form["event"].value() or "")),
        "mail": selectors.mail_state(organization),
        "would_wait": would_wait,
        "may_edit": request.access.may(Permission.RULES),
        "events": EmailTemplate.Event.choices,
    }
    return render(request, "notifications/edit.html", context, status=status)


# --- previews ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Live:
    """A draft as its mail would look: the subject with sample values, what is wrong or taken out, the frame."""

    subject: str
    frame_url: str
    faults: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def _live(request: OrganizationRequest, subject: str, body: str, event: str) -> Live:
    """Keep a draft for a while under a key that cannot be guessed, so that a frame can show it."""
    organization = organization_of(request)
    faults = [*content.faults_of(subject, is_subject=True)]
    removed: tuple[str, ...] = ()
    clean = ""
    try:
        sanitised = content.sanitise(body)
        clean, removed = sanitised.html, sanitised.removed
        faults += content.faults_of(clean)
    except InvalidInput as error:
        faults += [text for texts in error.fields.values() for text in texts]
    made = _sample(organization, subject[:1000], clean, event)
    key = uuid.uuid4().hex
    cache.set(_draft_key(request, key), made.html, DRAFT_SECONDS)
    url = reverse("notifications:draft-frame", args=[organization.slug])
    return Live(made.subject, f"{url}?draft={key}", tuple(faults), removed)


def _draft_key(request: OrganizationRequest, key: str) -> str:
    return f"mail-draft:{organization_of(request).pk}:{request.user.pk}:{key}"


def _sample(organization: Organization, subject: str, body: str, event: str, days: int = 23) -> content.Rendered:
    values = content.sample_values(days=days, organization=organization.name, now=timezone.now(), event=event)
    return content.render(subject=subject, body=body, values=values, keep_url="")


def _sample_of(template: EmailTemplate) -> content.Rendered:
    return _sample(template.organization, template.subject, template.body, template.event, template.days_inactive)


@require(Permission.VIEW)
@require_POST
def draft(request: OrganizationRequest) -> HttpResponse:
    """The preview of what stands in the form: beside it, as a dialog, or without script as a page of its own."""
    subject, body = request.POST.get("subject", ""), request.POST.get("body", "")[: 4 * content.MAX_BODY]
    live = _live(request, subject, body, request.POST.get("event", ""))
    if request.htmx and request.htmx.target == "live":
        return render(request, "notifications/_live.html", {"live": live, "is_partial": True})
    context = {"live": live, "name": request.POST.get("name", "")[:120], "notice": content.SAMPLE_NOTICE}
    return render(request, "notifications/_preview.html" if request.htmx else "notifications/preview.html", context)


@require(Permission.VIEW)
@require_GET
def preview(request: OrganizationRequest, pk: int) -> HttpResponse:
    """A saved template with sample values: a dialog for htmx, a page otherwise (S200, S215 to S217)."""
    template = _template(request, pk)
    made = _sample_of(template)
    url = reverse("notifications:frame", args=[organization_of(request).slug, template.pk])
    context = {
        "live": Live(made.subject, url),
        "name": template.name,
        "template": template,
        "notice": content.SAMPLE_NOTICE,
    }
    return render(request, "notifications/_preview.html" if request.htmx else "notifications/preview.html", context)


def framed(html: str) -> HttpResponse:
    """A mail as the document of a sandboxed frame."""
    response = HttpResponse(html)
    response["Content-Security-Policy"] = FRAME_POLICY
    response["X-Frame-Options"] = "SAMEORIGIN"
    response["Cache-Control"] = "no-store"
    response["Referrer-Policy"] = "no-referrer"
    return response


@require(Permission.VIEW)
@require_GET
@csp_exempt()  # type: ignore[arg-type]  # typed for plain requests
def frame(request: OrganizationRequest, pk: int) -> HttpResponse:
    """The rendered mail of a saved template, sanitised once more."""
    template = _template(request, pk)
    return framed(_sample_of(template).html)


@require(Permission.VIEW)
@require_GET
@csp_exempt()  # type: ignore[arg-type]  # typed for plain requests
def draft_frame(request: OrganizationRequest) -> HttpResponse:
    """The rendered mail of one's own draft."""
    key = request.GET.get("draft", "")[:64]
    html = cache.get(_draft_key(request, key)) if key.isalnum() else None
    return framed(
        html or content.document("", "<p>This preview is no longer kept. Change something to see it again.</p>")
    )


# --- buttons ----------------------------------------------------------------------------------------------------------


@require(Permission.RULES)
@require_POST
def toggle(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Enable or disable. Where live rules would wait, it asks first and names them."""
    template = _template(request, pk)
    try:
        row = services.set_enabled(
            template=template,
            is_enabled=not template.is_enabled,
            actor=request.access.actor,
            is_confirmed="is_confirmed" in request.POST,
        )
    except services.RulesWouldWait as error:
        context = {"template": template, "sentence": error.detail}
        if not request.htmx:
            return render(request, "notifications/disable.html", context, status=409)
        response = render(request, "notifications/_disable.html", context)
        response["HX-Retarget"] = "#dialog"
        return response
    except DomainError as error:
        messages.error(request, error.detail)
    else:
        state = "enabled" if row.is_enabled else "disabled. It goes out under no circumstances"
        messages.success(request, f"“{row.name}” is {state}.")
    if request.htmx:
        return render(request, "notifications/_list_and_toasts.html", _list_context(request))
    return redirect("notifications:list", organization_of(request).slug)


@require(Permission.RULES)
@require_POST
def duplicate(request: OrganizationRequest, pk: int) -> HttpResponse:
    """A disabled copy, opened in the form."""
    copy = services.duplicate_template(template=_template(request, pk), actor=request.access.actor)
    messages.success(request, f"Copied to “{copy.name}”, which is disabled.")
    return redirect("notifications:edit", organization_of(request).slug, copy.pk)


@require(Permission.RULES)
@require_http_methods(["GET", "POST"])
def delete(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Delete a template that no rule uses. A dialog for htmx, a page otherwise."""
    template = _template(request, pk)
    uses = selectors.template_rows(organization_of(request), [template])[0].uses
    error = ""
    if request.method == "POST":
        try:
            services.delete_template(template=template, actor=request.access.actor)
        except DomainError as refusal:
            error = refusal.detail
        else:
            messages.success(request, f"“{template.name}” is deleted. What was sent with it stays on record.")
            target = reverse("notifications:list", args=[organization_of(request).slug])
            return HttpResponseClientRedirect(target) if request.htmx else redirect(target)
    context = {"template": template, "uses": uses, "error": error}
    page = "notifications/_delete.html" if request.htmx else "notifications/delete.html"
    return render(request, page, context, status=422 if error else 200)


@require(Permission.RULES)
@require_POST
def test(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Send the saved template, or what stands in the form, to oneself (S218)."""
    template = _template(request, pk)
    assert request.access.operator is not None
    subject, body = request.POST.get("subject", ""), request.POST.get("body", "")
    try:
        cleaned = content.sanitise(body).html if body else ""
        sent = send_test(
            organization=organization_of(request),
            operator=request.access.operator,
            template=template,
            subject=content.clean_line(subject, content.MAX_SUBJECT),
            body=cleaned,
        )
    except DomainError as error:
        messages.error(request, f"The test mail was not sent. {error.detail}")
    else:
        messages.success(request, f"The mail server took the test mail for {sent.recipient}: {sent.server_answer}.")
    if request.htmx:
        return render(request, "components/_toasts_oob.html")
    return redirect("notifications:edit", organization_of(request).slug, template.pk)
