"""Settings, Mail and Settings, Alert channels."""

from __future__ import annotations

from typing import Any

from django.conf import settings as django_settings
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from apps.notifications import selectors, services
from apps.notifications.forms import ChannelForm, MailSettingsForm
from apps.notifications.models import AlertChannel, ChannelDelivery
from apps.notifications.services import ChannelInput
from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from apps.operators.views import add_errors
from aum.common.errors import DomainError, Missing

LOG_ROWS = 30


# --- mail -------------------------------------------------------------------------------------------------------------


@require(Permission.SETTINGS)
@require_http_methods(["GET", "POST"])
def mail(request: OrganizationRequest) -> HttpResponse:
    """Server, sender, pace and links. Owners save; the password is a credential."""
    row = services.mail_settings(organization_of(request))
    if request.method == "GET":
        return _mail_page(request, MailSettingsForm.of(row))
    if not request.access.may(Permission.OWN):
        return render(request, "operators/refused.html", {"permission": Permission.OWN}, status=403)
    form = MailSettingsForm(request.POST)
    if form.is_valid():
        try:
            services.save_mail_settings(
                organization=organization_of(request), values=form.values(), actor=request.access.actor
            )
        except DomainError as error:
            add_errors(form, error)
        else:
            messages.success(request, "The mail settings are saved. Send a test mail to see whether they work.")
            return redirect("organizations:mail", organization_of(request).slug)
    return _mail_page(request, form, status=422)


def _mail_page(
    request: OrganizationRequest, form: MailSettingsForm, *, status: int = 200, secret: str = ""
) -> HttpResponse:
    organization = organization_of(request)
    context = {
        "form": form,
        "row": services.mail_settings(organization),
        "mail": selectors.mail_state(organization),
        "secret": secret,
        "events_url": f"{django_settings.AUM_PUBLIC_URL}/k/events/{organization.slug}/",
        "may_save": request.access.may(Permission.OWN),
        "section": "mail",
    }
    return render(request, "notifications/mail_settings.html", context, status=status)


@require(Permission.SETTINGS)
@require_POST
def mail_test(request: OrganizationRequest) -> HttpResponse:
    """Send a test mail to oneself with the saved settings."""
    assert request.access.operator is not None
    try:
        sent = services.send_test(organization=organization_of(request), operator=request.access.operator)
    except DomainError as error:
        messages.error(request, f"The test mail was not sent. {error.detail}")
    else:
        messages.success(request, f"The mail server took the test mail for {sent.recipient}: {sent.server_answer}.")
    return redirect("organizations:mail", organization_of(request).slug)


@require(Permission.OWN)
@require_POST
def mail_secret(request: OrganizationRequest) -> HttpResponse:
    """A new secret for the mail provider's events, shown once."""
    secret = services.rotate_bounce_secret(organization=organization_of(request), actor=request.access.actor)
    return _mail_page(request, MailSettingsForm.of(services.mail_settings(organization_of(request))), secret=secret)


# --- channels ---------------------------------------------------------------------------------------------------------


def _channel(request: OrganizationRequest, pk: int) -> AlertChannel:
    try:
        return selectors.channel_by_id(organization_of(request), pk)
    except Missing as error:
        raise Http404 from error


def _values(form: ChannelForm, *, is_enabled: bool = True) -> ChannelInput:
    return ChannelInput(**form.cleaned_data, is_enabled=is_enabled)


@require(Permission.SETTINGS)
@require_http_methods(["GET", "POST"])
def channel_list(request: OrganizationRequest) -> HttpResponse:
    """All channels, and the form for another one."""
    organization = organization_of(request)
    form = ChannelForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            channel, _secret = services.create_channel(
                organization=organization, values=_values(form), actor=request.access.actor
            )
        except DomainError as error:
            add_errors(form, error)
        else:
            messages.success(request, f"“{channel.name}” is added. Send a test message to see whether it works.")
            return redirect("organizations:channels", organization.slug)
    context = {"channels": list(selectors.channels(organization)), "form": form, "section": "channels"}
    return render(request, "notifications/channels.html", context, status=422 if form.errors else 200)


@require(Permission.SETTINGS)
@require_http_methods(["GET", "POST"])
def channel(request: OrganizationRequest, pk: int) -> HttpResponse:
    """One channel: its form and its log."""
    row = _channel(request, pk)
    if row.kind == AlertChannel.Kind.WEBHOOK:
        return redirect(row)
    if request.method == "GET":
        return _channel_page(request, row)
    form = ChannelForm(request.POST)
    if form.is_valid():
        try:
            services.update_channel(
                channel=row, values=_values(form, is_enabled=row.is_enabled), actor=request.access.actor
            )
        except DomainError as error:
            add_errors(form, error)
        else:
            messages.success(request, "The channel is saved.")
            return redirect("organizations:channel", organization_of(request).slug, row.pk)
    return _channel_page(request, row, form=form, status=422)


def _channel_page(
    request: OrganizationRequest,
    row: AlertChannel,
    *,
    form: ChannelForm | None = None,
    status: int = 200,
) -> HttpResponse:
    context: dict[str, Any] = {
        "channel": row,
        "form": form or ChannelForm(initial={"name": row.name, "kind": row.kind, "level": row.level}),
        "log": list(ChannelDelivery.objects.filter(channel=row).order_by("-pk")[:LOG_ROWS]),
        "section": "channels",
    }
    return render(request, "notifications/channel.html", context, status=status)


@require(Permission.SETTINGS)
@require_POST
def channel_test(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Send a test message now."""
    row = _channel(request, pk)
    try:
        sent = services.test_channel(channel=row, actor=request.access.actor)
    except DomainError as error:
        messages.error(request, error.detail)
    else:
        messages.success(request, f"The message was taken with status {sent.http_status}.")
    return redirect("organizations:channel", organization_of(request).slug, row.pk)


@require(Permission.SETTINGS)
@require_POST
def channel_toggle(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Switch a channel on or off."""
    row = _channel(request, pk)
    try:
        changed = services.switch_channel(channel=row, actor=request.access.actor)
    except DomainError as error:
        messages.error(request, error.detail)
    else:
        messages.success(request, f"“{changed.name}” is {'on' if changed.is_enabled else 'off'}.")
    return redirect("organizations:channels", organization_of(request).slug)


@require(Permission.SETTINGS)
@require_POST
def channel_again(request: OrganizationRequest, pk: int, delivery: int) -> HttpResponse:
    """Send a failed message again."""
    row = _channel(request, pk)
    found = ChannelDelivery.objects.filter(channel=row, pk=delivery).select_related("channel__organization").first()
    if found is None:
        raise Http404
    try:
        services.redeliver(delivery=found, actor=request.access.actor)
    except DomainError as error:
        messages.error(request, error.detail)
    else:
        messages.success(request, "The message is queued again.")
    return redirect("organizations:channel", organization_of(request).slug, row.pk)


@require(Permission.SETTINGS)
@require_http_methods(["GET", "POST"])
def channel_delete(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Delete a channel and its log."""
    row = _channel(request, pk)
    if request.method == "POST":
        services.delete_channel(channel=row, actor=request.access.actor)
        messages.success(request, f"“{row.name}” is deleted.")
        return redirect("organizations:channels", organization_of(request).slug)
    return render(request, "notifications/channel_delete.html", {"channel": row, "section": "channels"})
