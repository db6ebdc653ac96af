"""How rules look over REST."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.operations.api.serializers import GroupRef
from apps.rules.models import CleanupRule
from apps.rules.selectors import sentence
from apps.users.api.serializers import GroupTagSerializer
from aum.common.serializers import PlainText


class RuleSerializer(serializers.Serializer[Any]):
    """`products` are those the rule is about: taken by remove_product_access, else where idleness is measured."""

    id = serializers.IntegerField(source="pk")
    name = serializers.CharField()
    mode = serializers.ChoiceField(CleanupRule.Mode.choices)
    action = serializers.ChoiceField(CleanupRule.Action.choices)
    products = serializers.SerializerMethodField()
    inactive_products = serializers.ListField(child=serializers.CharField())
    target_products = serializers.ListField(child=serializers.CharField())
    target_sites = serializers.ListField(child=serializers.CharField())
    inactive_days = serializers.IntegerField()
    include_never_active = serializers.BooleanField()
    never_active_days = serializers.IntegerField(allow_null=True)
    target = serializers.ChoiceField(CleanupRule.Target.choices)
    target_groups = GroupTagSerializer(many=True, source="target_groups.all")
    protected_groups = GroupTagSerializer(many=True, source="protected_groups.all")
    recurrence = serializers.ChoiceField(CleanupRule.Recurrence.choices)
    weekdays = serializers.ListField(child=serializers.IntegerField())
    month_day = serializers.IntegerField(allow_null=True)
    run_at = serializers.SerializerMethodField(help_text="HH:MM in the rule's timezone.")
    timezone = serializers.CharField()
    max_count = serializers.IntegerField(allow_null=True)
    max_share_percent = serializers.FloatField(allow_null=True)
    is_paused = serializers.BooleanField()
    paused_reason = serializers.CharField()
    last_run_at = serializers.DateTimeField(allow_null=True)
    last_operation_number = serializers.IntegerField(allow_null=True)
    next_run_at = serializers.DateTimeField(allow_null=True)
    version = serializers.IntegerField()
    edited_by = serializers.CharField(source="edited_by_text")
    edited_at = serializers.DateTimeField()

    def get_products(self, rule: CleanupRule) -> list[str]:
        return list(rule.target_products or rule.inactive_products)

    def get_run_at(self, rule: CleanupRule) -> str:
        return f"{rule.run_at:%H:%M}"


class RuleDetailSerializer(RuleSerializer):
    sentence = serializers.SerializerMethodField()

    def get_sentence(self, rule: CleanupRule) -> str:
        return sentence(rule)


class Days(serializers.IntegerField):
    """Days; which numbers make sense is judged by the service, so that pages and REST say the same."""


class WeekdayRef(PlainText):
    """A day of the week by name, or 0 (Monday) to 6."""

    def to_internal_value(self, data: Any) -> str:
        return super().to_internal_value(str(data) if isinstance(data, int) and not isinstance(data, bool) else data)


class GroupsInput(serializers.ListField):
    """Groups by id, Atlassian's id or name; also as the objects that an answer holds."""

    child = GroupRef(max_length=255)

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, max_length=1000, **options)

    def to_internal_value(self, data: Any) -> list[Any]:
        if isinstance(data, list):
            data = [part["id"] if isinstance(part, dict) and "id" in part else part for part in data]
        found: list[Any] = super().to_internal_value(data)
        return found


class RuleInputSerializer(serializers.Serializer[Any]):
    """Everything that can be entered of a rule. What is read only in answers is taken and passed over in PUT."""

    name = PlainText(max_length=1000)
    mode = serializers.ChoiceField(CleanupRule.Mode.values, required=False)
    action = serializers.ChoiceField(CleanupRule.Action.values, required=False)
    products = serializers.ListField(child=PlainText(max_length=60), required=False, max_length=50)
    inactive_products = serializers.ListField(child=PlainText(max_length=60), required=False, max_length=50)
    target_products = serializers.ListField(child=PlainText(max_length=60), required=False, max_length=50)
    target_sites = serializers.ListField(child=PlainText(max_length=300), required=False, max_length=50)
    inactive_days = Days()
    include_never_active = serializers.BooleanField(required=False)
    never_active_days = Days(required=False, allow_null=True)
    target = serializers.ChoiceField(CleanupRule.Target.values, required=False)
    target_groups = GroupsInput()
    protected_groups = GroupsInput()
    recurrence = serializers.ChoiceField(CleanupRule.Recurrence.values, required=False)
    weekdays = serializers.ListField(child=WeekdayRef(max_length=20), required=False, max_length=7)
    month_day = serializers.IntegerField(required=False, allow_null=True)
    run_at = PlainText(max_length=20)
    timezone = PlainText(max_length=64, required=False, allow_blank=True)
    max_count = serializers.IntegerField(required=False, allow_null=True)
    max_share_percent = serializers.DecimalField(
        max_digits=12, decimal_places=6, required=False, allow_null=True, normalize_output=True
    )
    is_paused = serializers.BooleanField(required=False)
    paused_reason = PlainText(max_length=300, required=False, allow_blank=True)
    version = serializers.IntegerField(required=False, help_text="The version that the change is made to.")


# In answers only; a client that sends back what it read is not refused for them.
READ_ONLY = tuple(sorted({*map(str, RuleDetailSerializer().fields)} - {*map(str, RuleInputSerializer().fields)}))
