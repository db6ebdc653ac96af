"""How activation looks over REST."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.autoactivate.models import (
    AccessGrant,
    AssignmentRule,
    Channel,
    InboundEvent,
    InboundSource,
    RequesterReply,
)
from apps.autoactivate.selectors import address_of
from apps.operations.api.serializers import GroupRef
from apps.users.api.serializers import GroupTagSerializer
from aum.common.serializers import PlainText


class RequestTypeSerializer(serializers.Serializer[Any]):
    id = serializers.CharField()
    name = serializers.CharField()


class ServiceProjectSerializer(serializers.Serializer[Any]):
    """`request_types` only when one project was asked for."""

    id = serializers.CharField()
    key = serializers.CharField()
    name = serializers.CharField()
    request_types = RequestTypeSerializer(many=True, required=False)


class AssignmentRuleSerializer(serializers.Serializer[Any]):
    """`used_30_days`: people whom the rule gave access in the last 30 days."""

    id = serializers.IntegerField(source="pk")
    name = serializers.CharField()
    is_active = serializers.BooleanField()
    channels = serializers.ListField(child=serializers.ChoiceField(Channel.choices))
    project = serializers.CharField(source="project_key")
    project_name = serializers.CharField()
    request_types = RequestTypeSerializer(many=True)
    method = serializers.ChoiceField(AssignmentRule.Method.choices)
    domains = serializers.ListField(child=serializers.CharField())
    trigger_group = GroupTagSerializer(allow_null=True)
    groups = GroupTagSerializer(many=True, source="groups.all")
    max_per_day = serializers.IntegerField(allow_null=True)
    seat_budget = serializers.IntegerField(allow_null=True)
    expires_after_days = serializers.IntegerField(allow_null=True)
    needs_approval = serializers.BooleanField()
    restores = serializers.BooleanField()
    used_30_days = serializers.IntegerField(source="used")
    version = serializers.IntegerField()
    edited_by = serializers.CharField(source="edited_by_text")
    edited_at = serializers.DateTimeField()


class AssignmentRuleInputSerializer(serializers.Serializer[Any]):
    """All that can be entered. `request_types` are ids, none for any; groups are ids, Atlassian's ids or names."""

    name = PlainText(max_length=1000, required=False)
    is_active = serializers.BooleanField(required=False)
    channels = serializers.ListField(child=PlainText(max_length=20), required=False, max_length=10)
    project = PlainText(max_length=64, required=False, allow_blank=True)
    request_types = serializers.ListField(child=PlainText(max_length=64), required=False, max_length=500)
    method = serializers.ChoiceField(AssignmentRule.Method.values, required=False)
    domains = serializers.ListField(child=PlainText(max_length=300), required=False, max_length=100)
    trigger_group = GroupRef(max_length=255, required=False, allow_null=True)
    groups = serializers.ListField(child=GroupRef(max_length=255), required=False, max_length=100)
    max_per_day = serializers.IntegerField(required=False, allow_null=True)
    seat_budget = serializers.IntegerField(required=False, allow_null=True)
    expires_after_days = serializers.IntegerField(required=False, allow_null=True)
    needs_approval = serializers.BooleanField(required=False)
    restores = serializers.BooleanField(required=False)
    version = serializers.IntegerField(required=False, help_text="The version that the change is made to.")


class WouldHaveMatchedSerializer(serializers.Serializer[Any]):
    """Requests of the last 30 days. `is_capped`: there were more than are read."""

    total = serializers.IntegerField()
    matched = serializers.IntegerField()
    people = serializers.IntegerField()
    is_capped = serializers.BooleanField()


class InboundSourceSerializer(serializers.Serializer[Any]):
    """A way in. Its secret is never given, only since when it is set."""

    id = serializers.IntegerField(source="pk")
    kind = serializers.ChoiceField(InboundSource.Kind.choices)
    channel = serializers.ChoiceField(Channel.choices)
    address = serializers.SerializerMethodField(help_text="Where the sender sends to; empty for polling.")
    is_enabled = serializers.BooleanField()
    domains = serializers.ListField(child=serializers.CharField())
    secret_set_at = serializers.DateTimeField(allow_null=True)
    previous_until = serializers.DateTimeField(
        allow_null=True, help_text="Until when the secret before the newest is believed."
    )
    first_event_at = serializers.DateTimeField(allow_null=True)
    polled_at = serializers.DateTimeField(allow_null=True)
    poll_error = serializers.CharField()

    def get_address(self, source: InboundSource) -> str:
        return address_of(source)


class NewSourceSerializer(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(InboundSource.Kind.values)


class SourceChangeSerializer(serializers.Serializer[Any]):
    is_enabled = serializers.BooleanField(required=False)
    domains = serializers.ListField(child=PlainText(max_length=300), required=False, max_length=50)


class RotateSerializer(serializers.Serializer[Any]):
    """`secret`: what Slack or Teams shows; AUM makes the others. `ends_now`: no overlap with the earlier one."""

    secret = PlainText(max_length=500, required=False, allow_blank=True)
    ends_now = serializers.BooleanField(required=False)


class RotatedSerializer(InboundSourceSerializer):
    """The way in with its new secret, given this once; empty where the sender made it."""

    secret = serializers.CharField()


class AccessGrantSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    account_id = serializers.CharField(source="account.account_id")
    rule = serializers.IntegerField(source="rule_id")
    rule_name = serializers.CharField(source="rule.name")
    rule_version = serializers.IntegerField()
    event = serializers.IntegerField(source="event_id")
    operation = serializers.IntegerField(source="operation_id", allow_null=True)
    removal = serializers.IntegerField(source="removal_id", allow_null=True)
    status = serializers.ChoiceField(AccessGrant.Status.choices)
    detail = serializers.CharField()
    groups = serializers.SerializerMethodField()
    given_at = serializers.DateTimeField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)
    asked_days = serializers.IntegerField(allow_null=True)
    asked_reason = serializers.CharField()
    asked_by = serializers.CharField(source="asked_by_text")

    def get_groups(self, grant: AccessGrant) -> list[str]:
        return [str(group["name"]) for group in grant.added]


class RequesterReplySerializer(serializers.Serializer[Any]):
    """What the requester was told, and where."""

    said = serializers.ChoiceField(RequesterReply.Said.choices)
    text = serializers.CharField()
    way = serializers.ChoiceField(RequesterReply.Way.choices, allow_blank=True)
    status = serializers.ChoiceField(RequesterReply.Status.choices)
    sent_at = serializers.DateTimeField(allow_null=True)
    answer = serializers.CharField(help_text="What Slack or the mail server answered.")


class InboundEventSerializer(serializers.Serializer[Any]):
    """`code` is stable, `detail` for people: which rule matched, or why none did."""

    id = serializers.IntegerField(source="pk")
    source = serializers.CharField(source="source_kind")  # type: ignore[assignment]
    channel = serializers.ChoiceField(Channel.choices)
    kind = serializers.ChoiceField(InboundEvent.Kind.choices)
    status = serializers.ChoiceField(InboundEvent.Status.choices)
    code = serializers.CharField()
    detail = serializers.CharField()
    issue_key = serializers.CharField()
    project = serializers.CharField(source="project_key")
    request_type = serializers.CharField(source="request_type_name")
    requester = serializers.CharField()
    requester_id = serializers.CharField()
    identity = serializers.CharField(help_text="By what the requester is known.")
    received_at = serializers.DateTimeField()
    processed_at = serializers.DateTimeField(allow_null=True)
    next_try_at = serializers.DateTimeField(allow_null=True)
    attempts = serializers.IntegerField()
    repeats = serializers.IntegerField()
    grants = AccessGrantSerializer(many=True, source="grants.all")
    replies = RequesterReplySerializer(many=True, source="replies.all")


class AskSerializer(serializers.Serializer[Any]):
    days = serializers.IntegerField()
    reason = PlainText(max_length=500)


class DecideSerializer(serializers.Serializer[Any]):
    grant = serializers.BooleanField()
    reason = PlainText(max_length=500, required=False, allow_blank=True)
