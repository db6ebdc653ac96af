"""REST of the organisation's settings: what is tighter counts at once, what is looser by another person (P5)."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.operations.api.safeguards import SafeguardChangeSerializer
from apps.operations.services import propose_change
from apps.operators.api.base import ApiView
from apps.operators.permissions import Permission
from apps.organizations.models import Organization
from apps.organizations.services import SETTINGS_FIELDS
from aum.common.serializers import PlainText


class SettingsSerializer(serializers.ModelSerializer[Organization]):
    class Meta:
        model = Organization
        fields = sorted(SETTINGS_FIELDS)


class SettingsChangeSerializer(SettingsSerializer):
    """What is to change, and why: a reason is needed for what protects less than before."""

    reason = PlainText(required=False, allow_blank=True, default="", max_length=2000)

    class Meta(SettingsSerializer.Meta):
        fields = [*SettingsSerializer.Meta.fields, "reason"]
        extra_kwargs = {name: {"required": False} for name in SettingsSerializer.Meta.fields}


class SettingsAnswerSerializer(serializers.Serializer[Any]):
    settings = SettingsSerializer()
    saved = serializers.ListField(child=serializers.CharField(), help_text="In force now.")
    pending = SafeguardChangeSerializer(allow_null=True, help_text="What waits for another person, and an hour.")


class SettingsView(ApiView):
    required = {"GET": Permission.VIEW, "PATCH": Permission.SETTINGS}

    @extend_schema(operation_id="settings_retrieve", responses=SettingsSerializer)
    def get(self, request: Request) -> Response:
        """The settings and safeguards in force."""
        return Response(SettingsSerializer(self.organization).data)

    @extend_schema(operation_id="settings_update", request=SettingsChangeSerializer, responses=SettingsAnswerSerializer)
    def patch(self, request: Request) -> Response:
        """Change some of them. What protects more, or is no safeguard, counts at once; a looser value is proposed.

        A token never loosens: its whole request is refused then.
        """
        changes = self.validated(SettingsChangeSerializer)
        reason = changes.pop("reason")
        proposal = propose_change(
            organization=self.organization, changes=changes, reason=reason, actor=self.actor, operator=self.operator
        )
        answer = {
            "settings": Organization.objects.get(pk=self.organization.pk),
            "saved": list(proposal.saved),
            "pending": proposal.pending,
        }
        return Response(SettingsAnswerSerializer(answer).data)
