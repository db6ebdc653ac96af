"""Django admin for support staff: mails, answers and channels, to look at. No secret, no link, no code is shown."""

from __future__ import annotations

from django.contrib import admin

from apps.notifications.models import (
    AlertChannel,
    ChannelDelivery,
    Delivery,
    EmailTemplate,
    KeepDecision,
    MailEvent,
    MailSettings,
)
from aum.common.admin import ReadOnlyAdmin


@admin.register(EmailTemplate)
class EmailTemplateAdmin(ReadOnlyAdmin):
    list_display = ["name", "organization", "event", "days_inactive", "is_enabled", "edited_at", "deleted_at"]
    list_select_related = ["organization"]
    list_filter = ["organization", "is_enabled"]


@admin.register(MailSettings)
class MailSettingsAdmin(ReadOnlyAdmin):
    list_display = ["organization", "host", "port", "from_address", "last_ok_at", "failures", "paused_until"]
    list_select_related = ["organization"]


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    list_display = ["id", "organization", "kind", "status", "recipient", "accepted_at", "attempts", "server_answer"]
    list_select_related = ["organization"]
    list_filter = ["organization", "kind", "status"]
    search_fields = ["recipient", "message_id"]


@admin.register(KeepDecision)
class KeepDecisionAdmin(ReadOnlyAdmin):
    list_display = ["id", "organization", "account", "choice", "status", "decided_at", "detail"]
    list_select_related = ["organization", "account"]
    list_filter = ["organization", "choice", "status"]


@admin.register(MailEvent)
class MailEventAdmin(ReadOnlyAdmin):
    list_display = ["id", "organization", "received_at", "processed_at", "result"]
    list_select_related = ["organization"]


@admin.register(AlertChannel)
class AlertChannelAdmin(ReadOnlyAdmin):
    list_display = ["name", "organization", "kind", "level", "is_enabled", "edited_at"]
    list_select_related = ["organization"]


@admin.register(ChannelDelivery)
class ChannelDeliveryAdmin(ReadOnlyAdmin):
    list_display = ["title", "channel", "status", "attempts", "sent_at", "http_status", "answer"]
    list_select_related = ["channel"]
    list_filter = ["status"]
