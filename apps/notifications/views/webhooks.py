"""API & webhooks, Webhooks: where events go, what was sent, and sending it again."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from apps.notifications import selectors, services
from apps.notifications.forms import WebhookForm
from apps.notifications.models import AlertChannel, ChannelDelivery
from apps.notifications.services import ChannelInput
from apps.operators.access import OrganizationRequest, fresh, organization_of, require
from apps.operators.permissions import Permission
from apps.operators.views import add_errors
from apps.organizations.crypto import SecretUnreadable
from aum.common.errors import DomainError, Missing

LOG_ROWS = 30


def _webhook(request: OrganizationRequest, pk: int) -> AlertChannel:
    try:
        return selectors.webhook_by_id(organization_of(request), pk)
    except Missing as error:
        raise Http404 from error


def _message(request: OrganizationRequest, pk: int, message: int) -> ChannelDelivery:
    try:
        return selectors.message_by_id(_webhook(request, pk), message)
    except Missing as error:
        raise Http404 from error


def _values(form: WebhookForm, *, is_enabled: bool = True) -> ChannelInput:
    return ChannelInput(kind=AlertChannel.Kind.WEBHOOK.value, is_enabled=is_enabled, **form.cleaned_data)


@require(Permission.SETTINGS)
@require_http_methods(["GET", "POST"])
@fresh("Add a webhook")
def webhook_list(request: OrganizationRequest) -> HttpResponseBase:
    """All webhooks with their newest message, and the form for another one. A new secret is shown once."""
    organization = organization_of(request)
    form = WebhookForm(request.POST or None, initial={"events": services.SUGGESTED})
    if request.method == "POST" and form.is_valid():
        try:
            row, secret = services.create_channel(
                organization=organization, values=_values(form), actor=request.access.actor
            )
        except DomainError as error:
            add_errors(form, error)
        else:
            messages.success(request, f"“{row.name}” is added. Send a test to see whether it works.")
            return _page(request, row, secret=secret)
    rows = list(selectors.webhooks(organization))
    newest = selectors.newest_messages(rows)
    context = {"webhooks": [(row, newest.get(row.pk)) for row in rows], "form": form}
    return render(request, "notifications/webhooks.html", context, status=422 if form.errors else 200)


@require(Permission.SETTINGS)
@require_http_methods(["GET", "POST"])
@fresh("Save the webhook")
def webhook(request: OrganizationRequest, pk: int) -> HttpResponseBase:
    """One webhook: its form and its log."""
    row = _webhook(request, pk)
    if request.method == "GET":
        return _page(request, row)
    form = WebhookForm(request.POST)
    if form.is_valid():
        try:
            services.update_channel(
                channel=row, values=_values(form, is_enabled=row.is_enabled), actor=request.access.actor
            )
        except DomainError as error:
            add_errors(form, error)
        else:
            messages.success(request, "The webhook is saved.")
            return redirect(row)
    return _page(request, row, form=form, status=422)


def _page(
    request: OrganizationRequest,
    row: AlertChannel,
    *,
    form: WebhookForm | None = None,
    secret: str = "",
    status: int = 200,
) -> HttpResponse:
    before = request.GET.get("before", "")
    log = ChannelDelivery.objects.filter(channel=row).order_by("-pk")
    if before.isascii() and before.isdecimal() and len(before) < 19:
        log = log.filter(pk__lt=int(before))
    found = list(log[: LOG_ROWS + 1])
    context: dict[str, Any] = {
        "webhook": row,
        "form": form or WebhookForm(initial={"name": row.name, "events": row.events, "level": row.level}),
        "log": found[:LOG_ROWS],
        "older": found[LOG_ROWS - 1].pk if len(found) > LOG_ROWS else None,
        "is_first": not before,
        "secret": secret,
    }
    response = render(request, "notifications/webhook.html", context, status=status)
    if secret:
        response["Cache-Control"] = "no-store"
    return response


@require(Permission.SETTINGS)
@require_POST
def test(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Send a test message now."""
    row = _webhook(request, pk)
    try:
        sent = services.test_channel(channel=row, actor=request.access.actor)
    except DomainError as error:
        messages.error(request, error.detail)
    else:
        messages.success(request, f"“{row.name}” took the test with status {sent.http_status}.")
    return redirect(row)


@require(Permission.SETTINGS)
@require_POST
def toggle(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Switch a webhook on or off; what happens while it is off is not told later."""
    row = _webhook(request, pk)
    try:
        changed = services.switch_channel(channel=row, actor=request.access.actor)
    except DomainError as error:
        messages.error(request, error.detail)
    else:
        messages.success(request, f"“{changed.name}” is {'on' if changed.is_enabled else 'off'}.")
    return redirect(row)


@require(Permission.SETTINGS)
@require_POST
@fresh("Make a new secret")
def secret(request: OrganizationRequest, pk: int) -> HttpResponseBase:
    """A new secret, shown once; the previous one signs for a day beside it."""
    made = services.rotate_channel_secret(channel=_webhook(request, pk), actor=request.access.actor)
    return _page(request, _webhook(request, pk), secret=made)


@require(Permission.SETTINGS)
@require_http_methods(["GET", "POST"])
def delete(request: OrganizationRequest, pk: int) -> HttpResponse:
    """A page that asks, then the webhook and its log are gone."""
    row = _webhook(request, pk)
    if request.method == "POST":
        services.delete_channel(channel=row, actor=request.access.actor)
        messages.success(request, f"“{row.name}” is deleted.")
        return redirect("notifications:webhooks", organization_of(request).slug)
    return render(request, "notifications/webhook_delete.html", {"webhook": row})


@require(Permission.SETTINGS)
def message(request: OrganizationRequest, pk: int, message: int) -> HttpResponse:
    """One message: what is sent, and what the other side answered."""
    row = _message(request, pk, message)
    try:
        body, headers = services.signed_request(row)
    except SecretUnreadable as error:
        messages.error(request, error.detail)
        return redirect(row.channel)
    context = {
        "webhook": row.channel,
        "row": row,
        "body": json.dumps(json.loads(body), ensure_ascii=False, indent=2),
        # A signature of the moment would be taken for the one that was sent.
        "headers": [(name, value) for name, value in headers.items() if name in ("X-AUM-Event-Id", "X-AUM-Event")],
    }
    return render(request, "notifications/webhook_message.html", context)


@require(Permission.SETTINGS)
@require_POST
def again(request: OrganizationRequest, pk: int, message: int) -> HttpResponse:
    """Send a message once more, with the id that it has."""
    row = _message(request, pk, message)
    try:
        services.redeliver(delivery=row, actor=request.access.actor)
    except DomainError as error:
        messages.error(request, error.detail)
    else:
        messages.success(request, "The message is queued again.")
    return redirect(row.channel)
