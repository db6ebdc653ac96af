"""How people, groups, exemptions and syncs look over REST."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.users.models import Exemption, Group, SyncRun
from aum.common.serializers import PlainText


class GroupTagSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    group_id = serializers.CharField(help_text="Atlassian's id.")
    name = serializers.CharField()


class ProductUseSerializer(serializers.Serializer[Any]):
    product = serializers.CharField()
    site = serializers.CharField()
    activity = serializers.ChoiceField(["known", "never", "unknown", "not_applicable"])
    last_active_at = serializers.DateTimeField(allow_null=True)
    granted_by = GroupTagSerializer(many=True, source="via")
    direct = serializers.ChoiceField(["unknown", "no", "yes"], help_text="Whether a role gives it without a group.")


class AccountSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    account_id = serializers.CharField()
    name = serializers.CharField()
    email = serializers.CharField(allow_null=True)
    account_status = serializers.ChoiceField(["active", "deactivated", "for_deletion", "closed", "unknown"])
    membership_status = serializers.ChoiceField(["active", "suspended", "no_membership", "unknown"])
    claim_status = serializers.ChoiceField(["managed", "unmanaged", "unknown"])
    kind = serializers.ChoiceField(["person", "service", "app", "bot"])
    is_synced = serializers.BooleanField()
    added_to_org_at = serializers.DateTimeField(allow_null=True)
    activity = serializers.ChoiceField(["known", "never", "unknown", "not_applicable"])
    last_active_at = serializers.DateTimeField(allow_null=True)
    products = ProductUseSerializer(many=True)
    groups = GroupTagSerializer(many=True)
    is_protected = serializers.BooleanField()
    exempt_until = serializers.DateTimeField(allow_null=True)


class DirectoryStateSerializer(serializers.Serializer[Any]):
    directory_id = serializers.CharField()
    name = serializers.CharField()
    status = serializers.CharField()
    added_at = serializers.DateTimeField(allow_null=True)


class AccessPathSerializer(serializers.Serializer[Any]):
    product = serializers.CharField(source="use.product")
    site = serializers.CharField(source="use.site")
    resource = serializers.CharField(source="use.resource")
    groups = GroupTagSerializer(many=True)
    is_direct = serializers.BooleanField()
    is_way_unknown = serializers.BooleanField()
    read_from = serializers.CharField(source="source", help_text="api, or the file that it was imported from.")
    read_at = serializers.DateTimeField(source="source_at", allow_null=True)


class ExemptionSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    account_id = serializers.CharField(source="account.account_id")
    name = serializers.CharField(source="account.name")
    kind = serializers.ChoiceField(Exemption.Kind.choices)
    reason = serializers.CharField()
    starts_at = serializers.DateTimeField()
    until = serializers.DateTimeField(allow_null=True)
    set_by = serializers.CharField()
    ended_at = serializers.DateTimeField(allow_null=True)


class AccountDetailSerializer(AccountSerializer):
    partition = serializers.CharField()
    idle_since = serializers.DateTimeField()
    access = AccessPathSerializer(many=True)
    directories = DirectoryStateSerializer(many=True)
    exemptions = ExemptionSerializer(many=True)
    protected_because = serializers.ListField(child=serializers.CharField())
    timeline = serializers.URLField()


class GrantSerializer(serializers.Serializer[Any]):
    product = serializers.CharField()
    site = serializers.CharField()
    role = serializers.CharField()


class GroupSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    group_id = serializers.CharField(help_text="Atlassian's id.")
    name = serializers.CharField()
    directory_id = serializers.CharField(source="directory.directory_id")
    is_synced = serializers.BooleanField()
    member_count = serializers.IntegerField()
    grants = serializers.SerializerMethodField()
    are_grants_known = serializers.BooleanField()
    is_administrative = serializers.BooleanField()
    is_protected = serializers.SerializerMethodField()

    def get_grants(self, group: Group) -> list[dict[str, str]]:
        return [
            {"product": grant.get("product", ""), "site": grant.get("site", ""), "role": grant.get("role", "")}
            for grant in group.grants
        ]

    def get_is_protected(self, group: Group) -> bool:
        return getattr(group, "protection", None) is not None


class SyncSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    kind = serializers.SerializerMethodField()
    status = serializers.ChoiceField(SyncRun.Status.choices)
    phase = serializers.CharField()
    initiator = serializers.CharField()
    started_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    people_seen = serializers.IntegerField()
    people_total = serializers.IntegerField(allow_null=True)
    groups_seen = serializers.IntegerField()
    data_trust = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()

    def get_kind(self, run: SyncRun) -> str:
        return "sync"

    def get_data_trust(self, run: SyncRun) -> dict[str, Any]:
        return {"ok": run.is_trusted, "reasons": run.distrust_reasons, "figures": run.trust}

    def get_error(self, run: SyncRun) -> dict[str, str] | None:
        return {"code": run.error_code, "detail": run.error_detail} if run.error_code else None


class NewExemptionSerializer(serializers.Serializer[Any]):
    account_id = PlainText(max_length=128)
    reason = PlainText()
    until = serializers.DateTimeField(required=False, allow_null=True, default=None)


class ExtendExemptionSerializer(serializers.Serializer[Any]):
    reason = PlainText()
    until = serializers.DateTimeField(allow_null=True)
