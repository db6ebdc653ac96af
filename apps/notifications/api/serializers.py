"""How mail looks over REST: templates, deliveries, answers, settings, channels, the mapping of managers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.notifications.models import AlertChannel, ChannelDelivery, Delivery, EmailTemplate, KeepDecision, MailSettings
from apps.notifications.selectors import TemplateRow
from apps.notifications.services import NAMES
from aum.common.serializers import PlainText


class TemplateUseSerializer(serializers.Serializer[Any]):
    """A rule that uses a template."""

    rule = serializers.IntegerField(source="rule_id")
    rule_name = serializers.CharField()
    is_live = serializers.BooleanField()
    threshold_days = serializers.IntegerField()
    days_before = serializers.IntegerField()
    days_inactive = serializers.IntegerField()


class EmailTemplateSerializer(serializers.Serializer[Any]):
    """`days_inactive`: what the one rule that uses it says, else its own. `recipients`: on the day it was last sent."""

    id = serializers.IntegerField(source="template.pk")
    name = serializers.CharField(source="template.name")
    event = serializers.ChoiceField(EmailTemplate.Event.choices, source="template.event")
    days_inactive = serializers.SerializerMethodField()
    subject = serializers.CharField(source="template.subject")
    body = serializers.CharField(source="template.body")
    bcc = serializers.ListField(child=serializers.EmailField(), source="template.bcc")
    is_enabled = serializers.BooleanField(source="template.is_enabled")
    used_by = TemplateUseSerializer(many=True, source="uses")
    last_sent_at = serializers.DateTimeField(allow_null=True)
    recipients = serializers.IntegerField()
    version = serializers.IntegerField(source="template.version")
    edited_by = serializers.CharField(source="template.edited_by_text")
    edited_at = serializers.DateTimeField(source="template.edited_at")

    def get_days_inactive(self, row: TemplateRow) -> int:
        return row.days[0]


class EmailTemplateSavedSerializer(EmailTemplateSerializer):
    """`removed`: what was taken out of the body, because mails may not hold it."""

    removed = serializers.SerializerMethodField()

    @extend_schema_field(serializers.ListField(child=serializers.CharField()))
    def get_removed(self, row: TemplateRow) -> list[str]:
        return list(self.context.get("removed", ()))


class EmailTemplateInputSerializer(serializers.Serializer[Any]):
    """Everything that can be entered of a template. `confirm` disables one although live rules would wait."""

    name = PlainText(max_length=1000)
    event = serializers.ChoiceField(EmailTemplate.Event.values, required=False)
    days_inactive = serializers.IntegerField()
    subject = serializers.CharField(max_length=2000, trim_whitespace=False)
    body = serializers.CharField(max_length=200_000, trim_whitespace=False)
    bcc = serializers.ListField(child=PlainText(max_length=320), required=False, max_length=50)
    is_enabled = serializers.BooleanField(required=False)
    confirm = serializers.BooleanField(required=False)
    version = serializers.IntegerField(required=False)


class PreviewSerializer(serializers.Serializer[Any]):
    """A mail with sample values. `faults` and `removed` say what is wrong with it or was taken out."""

    subject = serializers.CharField()
    html = serializers.CharField()
    text = serializers.CharField()
    notice = serializers.CharField()
    faults = serializers.ListField(child=serializers.CharField())
    removed = serializers.ListField(child=serializers.CharField())


class DeliverySerializer(serializers.Serializer[Any]):
    """One mail and what became of it."""

    id = serializers.IntegerField(source="pk")
    kind = serializers.ChoiceField(Delivery.Kind.choices)
    status = serializers.ChoiceField(Delivery.Status.choices)
    recipient = serializers.CharField()
    account_id = serializers.CharField(source="account.account_id", default=None, allow_null=True)
    audience = serializers.CharField()
    template = serializers.IntegerField(source="template_id", allow_null=True)
    subject = serializers.CharField()
    rule = serializers.IntegerField(source="rule_id", allow_null=True)
    rule_name = serializers.CharField()
    action = serializers.CharField()
    products = serializers.ListField(child=serializers.CharField())
    inactive_since = serializers.DateTimeField(source="spell_at", allow_null=True)
    announced_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    handed_at = serializers.DateTimeField(allow_null=True)
    accepted_at = serializers.DateTimeField(allow_null=True)
    failed_at = serializers.DateTimeField(allow_null=True)
    attempts = serializers.IntegerField()
    next_attempt_at = serializers.DateTimeField(allow_null=True)
    message_id = serializers.CharField()
    server_answer = serializers.CharField()
    problem = serializers.CharField()
    release_at = serializers.DateTimeField(allow_null=True)
    released_by = serializers.CharField()
    copy_of = serializers.IntegerField(source="copy_of_id", allow_null=True)


class DeliveryDetailSerializer(DeliverySerializer):
    html = serializers.CharField()
    text = serializers.CharField()


class LetFollowSerializer(serializers.Serializer[Any]):
    days = serializers.IntegerField()
    reason = PlainText(max_length=500)


class ArrivedSerializer(serializers.Serializer[Any]):
    reason = PlainText(max_length=300, required=False, allow_blank=True)


class AnswerSerializer(serializers.Serializer[Any]):
    """What somebody answered by the link of a mail."""

    id = serializers.IntegerField(source="pk")
    account_id = serializers.CharField(source="account.account_id")
    delivery = serializers.IntegerField(source="delivery_id")
    choice = serializers.ChoiceField(KeepDecision.Choice.choices)
    status = serializers.ChoiceField(KeepDecision.Status.choices)
    reason = serializers.CharField()
    detail = serializers.CharField()
    decided_at = serializers.DateTimeField()
    until = serializers.DateTimeField(allow_null=True)
    returned_at = serializers.DateTimeField(allow_null=True)


class MailSettingsSerializer(serializers.Serializer[MailSettings]):
    """The mail settings; of the password only when it was set."""

    host = serializers.CharField()
    port = serializers.IntegerField()
    security = serializers.ChoiceField(MailSettings.Security.choices)
    username = serializers.CharField()
    password_set_at = serializers.DateTimeField(allow_null=True)
    from_name = serializers.CharField()
    from_address = serializers.CharField()
    reply_to = serializers.CharField()
    per_minute = serializers.IntegerField()
    keep_days = serializers.IntegerField()
    keep_per_year = serializers.IntegerField()
    link_days = serializers.IntegerField()
    is_digest_on = serializers.BooleanField()
    last_ok_at = serializers.DateTimeField(allow_null=True)
    last_error = serializers.CharField()


class ContactsInputSerializer(serializers.Serializer[Any]):
    csv = serializers.CharField(
        max_length=4_000_000, help_text="The file's text: columns email (or account_id), manager_email, language."
    )


class ContactErrorSerializer(serializers.Serializer[Any]):
    line = serializers.IntegerField()
    detail = serializers.CharField()


class ContactsReportSerializer(serializers.Serializer[Any]):
    saved = serializers.IntegerField()
    cleared = serializers.IntegerField()
    lines_passed_over = ContactErrorSerializer(many=True, source="errors")


class ChannelSerializer(serializers.Serializer[Any]):
    """A channel for administrators' alerts; of a Slack or Teams address only the host is shown."""

    id = serializers.IntegerField(source="pk")
    name = serializers.CharField()
    kind = serializers.ChoiceField(AlertChannel.Kind.choices)
    address = serializers.CharField(source="address_hint")
    level = serializers.ChoiceField(AlertChannel.Level.choices)
    is_enabled = serializers.BooleanField()
    secret_set_at = serializers.DateTimeField(allow_null=True)


class ChannelInputSerializer(serializers.Serializer[Any]):
    name = PlainText(max_length=300)
    kind = serializers.ChoiceField(AlertChannel.Kind.values, required=False)
    address = PlainText(max_length=2000, required=False, allow_blank=True)
    level = serializers.ChoiceField(AlertChannel.Level.values, required=False)
    is_enabled = serializers.BooleanField(required=False)


class WebhookSerializer(serializers.Serializer[Any]):
    """A signed webhook; its secret is never shown."""

    id = serializers.IntegerField(source="pk")
    name = serializers.CharField()
    address = serializers.CharField(source="address_hint")
    events = serializers.ListField(child=serializers.ChoiceField(NAMES))
    level = serializers.ChoiceField(AlertChannel.Level.choices, help_text="Which alerts `alert.opened` is about.")
    is_enabled = serializers.BooleanField()
    failures = serializers.IntegerField(help_text="Attempts in a row that were not taken.")
    paused_until = serializers.DateTimeField(allow_null=True)
    secret_set_at = serializers.DateTimeField(allow_null=True)


class WebhookInputSerializer(serializers.Serializer[Any]):
    name = PlainText(max_length=300)
    address = PlainText(max_length=2000, required=False, allow_blank=True)
    events = serializers.ListField(child=PlainText(max_length=60), max_length=50, required=False)
    level = serializers.ChoiceField(AlertChannel.Level.values, required=False)
    is_enabled = serializers.BooleanField(required=False)
    secret = PlainText(
        max_length=200,
        required=False,
        write_only=True,
        help_text="At least 24 random characters. Left out at creation, one is made, to be replaced on its page. "
        "A new one takes the place of the old, which signs beside it for a day.",
    )


class ChannelDeliverySerializer(serializers.Serializer[Any]):
    """One message to a channel or webhook and what the other side answered."""

    id = serializers.IntegerField(source="pk")
    event_id = serializers.UUIDField(source="uuid")
    event = serializers.CharField()
    title = serializers.CharField()
    status = serializers.CharField()
    is_test = serializers.BooleanField()
    attempts = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    sent_at = serializers.DateTimeField(allow_null=True)
    next_attempt_at = serializers.SerializerMethodField(help_text="While it waits.")
    http_status = serializers.IntegerField(allow_null=True)
    answer = serializers.CharField()

    def get_next_attempt_at(self, row: ChannelDelivery) -> datetime | None:
        return row.next_attempt_at if row.status == ChannelDelivery.Status.QUEUED else None


class WebhookMessageSerializer(ChannelDeliverySerializer):
    """The same with what is sent."""

    payload = serializers.JSONField()
