"""How people, groups, exemptions and syncs look over REST."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.users.exempting import Usage
from apps.users.models import AccountKind, Exemption, Group, SyncRun
from aum.common.serializers import PlainText

KIND_NAMES = {kind.name.lower(): kind.value for kind in AccountKind}


class GroupTagSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    group_id = serializers.CharField(help_text="Atlassian's id.")
    name = serializers.CharField()
    is_administrative = serializers.BooleanField(help_text="Grants administration of something.")


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
    frees = serializers.ListField(child=serializers.CharField(), help_text="What has to go for the seat to be free.")


class UsageSerializer(serializers.Serializer[Any]):
    """Plans of the last 90 days that left somebody out because of the exemption."""

    plans = serializers.IntegerField()
    people = serializers.IntegerField()
    rules = serializers.ListField(child=serializers.CharField())


class ExemptionSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    account_id = serializers.CharField(source="account.account_id", default=None, allow_null=True)
    name = serializers.CharField(source="subject", help_text="Whom it is about, in words.")
    group = serializers.IntegerField(source="group_id", allow_null=True)
    domain = serializers.CharField(allow_blank=True)
    account_kind = serializers.SerializerMethodField()
    kind = serializers.ChoiceField(Exemption.Kind.choices)
    reason = serializers.CharField()
    starts_at = serializers.DateTimeField()
    until = serializers.DateTimeField(allow_null=True)
    set_by = serializers.CharField()
    ended_at = serializers.DateTimeField(allow_null=True)
    usage = serializers.SerializerMethodField()

    def get_account_kind(self, exemption: Exemption) -> str | None:
        return None if exemption.account_kind is None else AccountKind(exemption.account_kind).name.lower()

    @extend_schema_field(UsageSerializer(allow_null=True))
    def get_usage(self, exemption: Exemption) -> dict[str, Any] | None:
        usage = self.context.get("usage")
        if usage is None:
            return None
        found = usage.get(exemption.pk, Usage())
        return {"plans": found.plans, "people": found.people, "rules": list(found.rules)}


class UpcomingSerializer(serializers.Serializer[Any]):
    at = serializers.DateTimeField(allow_null=True)
    title = serializers.CharField()
    rule = serializers.CharField()
    detail = serializers.CharField()


class TimelineEntrySerializer(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    kind = serializers.CharField()
    title = serializers.CharField()
    detail = serializers.CharField()
    by = serializers.CharField()


class TimelineSerializer(serializers.Serializer[Any]):
    results = TimelineEntrySerializer(many=True)
    older = serializers.DateTimeField(allow_null=True)


class AccountDetailSerializer(AccountSerializer):
    partition = serializers.CharField()
    idle_since = serializers.DateTimeField()
    access = AccessPathSerializer(many=True)
    directories = DirectoryStateSerializer(many=True)
    exemptions = ExemptionSerializer(many=True)
    protected_because = serializers.ListField(child=serializers.CharField())
    upcoming = UpcomingSerializer(many=True)
    timeline = serializers.URLField()


class GrantSerializer(serializers.Serializer[Any]):
    product = serializers.CharField()
    site = serializers.CharField()
    role = serializers.CharField()


class GroupSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    group_id = serializers.CharField(help_text="Atlassian's id.")
    name = serializers.CharField()
    is_administrative = serializers.BooleanField(help_text="Grants administration of something.")
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
    read_from = serializers.ChoiceField(SyncRun.Source.choices, source="source")
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
    """One of account_id, group, domain and account_kind. Without `until` it ends in 90 days; null is for good, by an
    Owner who is signed in.
    """

    account_id = PlainText(max_length=128, required=False)
    group = PlainText(max_length=255, required=False, help_text="Its id, Atlassian's id, or its name.")
    domain = PlainText(max_length=253, required=False)
    account_kind = serializers.ChoiceField(list(KIND_NAMES), required=False)
    reason = PlainText()
    starts_at = serializers.DateTimeField(required=False, allow_null=True, default=None)
    until = serializers.DateTimeField(required=False, allow_null=True)


class ExemptionSnoozeSerializer(serializers.Serializer[Any]):
    """`accounts` or `filter`, and `until` or `days`."""

    accounts = serializers.ListField(child=PlainText(max_length=128), required=False, max_length=10_000)
    filter = serializers.DictField(required=False)
    days = serializers.IntegerField(required=False, min_value=1, max_value=366)
    until = serializers.DateTimeField(required=False)
    reason = PlainText()


class ExemptionSnoozedSerializer(serializers.Serializer[Any]):
    snoozed = serializers.IntegerField()
    until = serializers.DateTimeField()


class SuggestionSerializer(serializers.Serializer[Any]):
    account_id = serializers.CharField()
    name = serializers.CharField()
    email = serializers.CharField(allow_null=True)


class ExtendExemptionSerializer(serializers.Serializer[Any]):
    reason = PlainText()
    until = serializers.DateTimeField(allow_null=True)
