"""How rules look over REST."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.notifications.models import Audience
from apps.operations.api.serializers import GroupRef
from apps.operations.reasons import reason_sentence, safeguard_lines
from apps.rules.compare import Difference
from apps.rules.models import CleanupRule
from apps.rules.selectors import next_runs, open_changes, regret, sentence
from apps.users.api.serializers import GroupTagSerializer
from aum.common.serializers import PlainText


class WordOrNumber(PlainText):
    """A name, or a key as text or as a number."""

    def to_internal_value(self, data: Any) -> str:
        return super().to_internal_value(str(data) if isinstance(data, int) and not isinstance(data, bool) else data)


class NoticeStepSerializer(serializers.Serializer[Any]):
    """One mail of a rule, so many days before its action; `days_inactive` is the same date from the other side."""

    template = serializers.IntegerField(help_text="Id of an email template; its name is taken as well.")
    template_name = serializers.CharField(read_only=True)
    days_before = serializers.IntegerField()
    days_inactive = serializers.IntegerField(read_only=True)
    audience = serializers.ChoiceField(Audience.choices)


class NoticeInput(serializers.Serializer[Any]):
    """A step as it is given; `days_inactive` may be given instead of `days_before`."""

    template = WordOrNumber(max_length=120)
    template_name = PlainText(max_length=120, required=False, allow_blank=True)
    days_before = serializers.IntegerField(required=False, allow_null=True)
    days_inactive = serializers.IntegerField(required=False, allow_null=True)
    audience = serializers.ChoiceField(Audience.values, required=False)


class RuleSerializer(serializers.Serializer[Any]):
    """`products` are those the rule is about: taken by remove_product_access, else where idleness is measured."""

    id = serializers.IntegerField(source="pk")
    name = serializers.CharField()
    mode = serializers.ChoiceField(CleanupRule.Mode.choices)
    owner = serializers.SerializerMethodField(help_text="E-mail address; empty when nobody owns it.")
    notes = serializers.CharField()
    action = serializers.ChoiceField(CleanupRule.Action.choices)
    action_groups = GroupTagSerializer(many=True, source="action_groups.all")
    products = serializers.SerializerMethodField()
    inactive_products = serializers.ListField(child=serializers.CharField())
    target_products = serializers.ListField(child=serializers.CharField())
    target_sites = serializers.ListField(child=serializers.CharField())
    inactive_days = serializers.IntegerField(allow_null=True)
    include_never_active = serializers.BooleanField()
    never_active_days = serializers.IntegerField(allow_null=True)
    status_days = serializers.IntegerField(allow_null=True)
    saved_view = serializers.IntegerField(source="saved_view_id", allow_null=True)
    conditions = serializers.SerializerMethodField(
        help_text="Predicates that hold as well: name, parameters, and not: true for the opposite."
    )
    target = serializers.ChoiceField(CleanupRule.Target.choices)
    target_groups = GroupTagSerializer(many=True, source="target_groups.all")
    protected_groups = GroupTagSerializer(many=True, source="protected_groups.all")
    recurrence = serializers.ChoiceField(CleanupRule.Recurrence.choices)
    weekdays = serializers.ListField(child=serializers.IntegerField())
    month_day = serializers.IntegerField(allow_null=True)
    run_at = serializers.SerializerMethodField(help_text="HH:MM in the rule's timezone.")
    window_minutes = serializers.IntegerField()
    timezone = serializers.CharField()
    blackout_dates = serializers.ListField(child=serializers.CharField())
    max_count = serializers.IntegerField(allow_null=True)
    max_share_percent = serializers.FloatField(allow_null=True)
    notices = serializers.SerializerMethodField()
    undeliverable = serializers.ChoiceField(CleanupRule.Undeliverable.choices)
    undeliverable_days = serializers.IntegerField()
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

    @extend_schema_field(NoticeStepSerializer(many=True))
    def get_notices(self, rule: CleanupRule) -> list[dict[str, Any]]:
        return [
            {
                "template": step.template_id,
                "template_name": step.template.name,
                "days_before": step.days_before,
                "days_inactive": max(0, (rule.inactive_days or 0) - step.days_before),
                "audience": step.audience,
            }
            for step in rule.notice_steps.all()
        ]

    def get_owner(self, rule: CleanupRule) -> str:
        return rule.owner.email if rule.owner else ""

    def get_conditions(self, rule: CleanupRule) -> list[dict[str, Any]]:
        return list(rule.conditions)

    def get_run_at(self, rule: CleanupRule) -> str:
        return f"{rule.run_at:%H:%M}"


class RegretSerializer(serializers.Serializer[Any]):
    """Of the people that the rule took access from in 90 days, those who got it back within 30."""

    reclaimed = serializers.IntegerField()
    restored = serializers.IntegerField()
    percent = serializers.FloatField(allow_null=True)
    limit = serializers.IntegerField(help_text="Above this share the rule pauses itself, in percent.")


class RuleDetailSerializer(RuleSerializer):
    sentence = serializers.SerializerMethodField()
    next_runs = serializers.SerializerMethodField(help_text="The next five times; empty while the rule is paused.")
    regret = serializers.SerializerMethodField()
    pending_changes = serializers.SerializerMethodField(
        help_text="Looser safeguards of the rule that wait for another person or for their hour."
    )

    def get_next_runs(self, rule: CleanupRule) -> list[datetime]:
        return [] if rule.is_paused else next_runs(rule, 5, timezone.now())

    @extend_schema_field(RegretSerializer)
    def get_regret(self, rule: CleanupRule) -> dict[str, Any]:
        return dict(RegretSerializer(regret(rule)).data)

    def get_pending_changes(self, rule: CleanupRule) -> list[str]:
        return [line.sentence for change in open_changes(rule) for line in safeguard_lines(change)]

    def get_sentence(self, rule: CleanupRule) -> str:
        return sentence(rule)


class CountedSerializer(serializers.Serializer[Any]):
    reason = serializers.SerializerMethodField()
    people = serializers.SerializerMethodField()

    def get_reason(self, pair: tuple[str, int]) -> str:
        return pair[0]

    def get_people(self, pair: tuple[str, int]) -> int:
        return pair[1]


class RuleEstimateSerializer(serializers.Serializer[Any]):
    """What a rule would do now. Preview it for the names."""

    sentence = serializers.CharField()
    next_runs = serializers.ListField(child=serializers.DateTimeField())
    matches = serializers.IntegerField(source="estimate.matches")
    people_licensed = serializers.IntegerField(source="estimate.people_licensed")
    share_percent = serializers.FloatField(source="estimate.share_percent")
    over_limit = serializers.BooleanField(source="estimate.over_limit", help_text="A live run would be held.")
    limit = serializers.CharField(source="estimate.limit_text")
    by_reason = CountedSerializer(many=True, source="estimate.by_reason")
    left_out = CountedSerializer(many=True, source="estimate.left_out")
    active_elsewhere = serializers.IntegerField(source="estimate.active_elsewhere")
    is_upper_bound = serializers.BooleanField(source="estimate.is_upper_bound")
    warnings = serializers.ListField(child=serializers.CharField())


class RungSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    name = serializers.CharField()
    mode = serializers.ChoiceField(CleanupRule.Mode.choices)
    action = serializers.ChoiceField(CleanupRule.Action.choices)
    inactive_days = serializers.IntegerField(allow_null=True)
    never_active_days = serializers.IntegerField(allow_null=True)
    status_days = serializers.IntegerField(allow_null=True)
    is_paused = serializers.BooleanField()


class LadderSerializer(serializers.Serializer[Any]):
    target = serializers.CharField()
    rungs = RungSerializer(many=True)


class LaddersSerializer(serializers.Serializer[Any]):
    results = LadderSerializer(many=True)


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
    owner = PlainText(max_length=254, required=False, allow_blank=True)
    notes = serializers.CharField(max_length=4000, required=False, allow_blank=True)
    action = serializers.ChoiceField(CleanupRule.Action.values, required=False)
    action_groups = GroupsInput()
    products = serializers.ListField(child=PlainText(max_length=60), required=False, max_length=50)
    inactive_products = serializers.ListField(child=PlainText(max_length=60), required=False, max_length=50)
    target_products = serializers.ListField(child=PlainText(max_length=60), required=False, max_length=50)
    target_sites = serializers.ListField(child=PlainText(max_length=300), required=False, max_length=50)
    inactive_days = Days(required=False, allow_null=True)
    include_never_active = serializers.BooleanField(required=False)
    never_active_days = Days(required=False, allow_null=True)
    status_days = Days(required=False, allow_null=True)
    saved_view = serializers.IntegerField(required=False, allow_null=True, help_text="Key of a shared view.")
    conditions = serializers.ListField(
        child=serializers.DictField(), required=False, max_length=50, help_text="As an answer gives them."
    )
    target = serializers.ChoiceField(CleanupRule.Target.values, required=False)
    target_groups = GroupsInput()
    protected_groups = GroupsInput()
    recurrence = serializers.ChoiceField(CleanupRule.Recurrence.values, required=False)
    weekdays = serializers.ListField(child=WeekdayRef(max_length=20), required=False, max_length=7)
    month_day = serializers.IntegerField(required=False, allow_null=True)
    run_at = PlainText(max_length=20)
    window_minutes = serializers.IntegerField(required=False)
    timezone = PlainText(max_length=64, required=False, allow_blank=True)
    blackout_dates = serializers.ListField(child=PlainText(max_length=40), required=False, max_length=200)
    max_count = serializers.IntegerField(required=False, allow_null=True)
    max_share_percent = serializers.DecimalField(
        max_digits=12, decimal_places=6, required=False, allow_null=True, normalize_output=True
    )
    notices = NoticeInput(many=True, required=False)
    undeliverable = serializers.ChoiceField(CleanupRule.Undeliverable.values, required=False)
    undeliverable_days = serializers.IntegerField(required=False)
    is_paused = serializers.BooleanField(required=False)
    paused_reason = PlainText(max_length=300, required=False, allow_blank=True)
    version = serializers.IntegerField(required=False, help_text="The version that the change is made to.")
    reason = PlainText(
        max_length=500,
        required=False,
        allow_blank=True,
        help_text="Why limits get looser or protected groups fewer: then another person has to agree first.",
    )


# In answers only; a client that sends back what it read is not refused for them.
READ_ONLY = tuple(sorted({*map(str, RuleDetailSerializer().fields)} - {*map(str, RuleInputSerializer().fields)}))


class WhatIfSerializer(serializers.Serializer[Any]):
    """Other days to try; at least one."""

    inactive_days = serializers.IntegerField(required=False)
    never_active_days = serializers.IntegerField(required=False)
    status_days = serializers.IntegerField(required=False)


class FieldChangeSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    before = serializers.CharField()
    after = serializers.CharField()


class RuleVersionSerializer(serializers.Serializer[Any]):
    """What a rule said at one version; `changes` since the one before, in words."""

    version = serializers.IntegerField()
    edited_by = serializers.CharField(source="edited_by_text")
    edited_at = serializers.DateTimeField()
    content = serializers.DictField()
    changes = FieldChangeSerializer(many=True)


class DifferenceSerializer(serializers.Serializer[Any]):
    account_id = serializers.CharField(source="subject")
    name = serializers.SerializerMethodField()
    email = serializers.SerializerMethodField()
    part = serializers.CharField()
    reason = serializers.SerializerMethodField(help_text="Why they are in the newer plan, or were in the older one.")
    why_not = serializers.CharField(help_text="Of the removed: why the newer plan has them no more. Else empty.")

    def get_name(self, entry: Difference) -> str:
        return entry.account.name if entry.account else ""

    def get_email(self, entry: Difference) -> str | None:
        return entry.account.email if entry.account else None

    def get_reason(self, entry: Difference) -> str:
        return reason_sentence(entry.reason, timezone.now())


class DifferenceCountsSerializer(serializers.Serializer[Any]):
    added = serializers.IntegerField()
    removed = serializers.IntegerField()
    changed = serializers.IntegerField()
    unchanged = serializers.IntegerField()


class DifferencesSerializer(serializers.Serializer[Any]):
    counts = DifferenceCountsSerializer()
    part = serializers.CharField()
    results = DifferenceSerializer(many=True)
