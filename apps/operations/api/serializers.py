"""How operations, their items and decisions look over REST."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.operations.actions import REGISTRY
from apps.operations.models import Approval, LeftOut, Operation, OperationItem
from apps.operations.planning import LEFT_OUT_LABELS
from apps.operations.reasons import left_out_label, outcome_sentence, reason_sentence
from aum.common.serializers import PlainText


class RuleOfOperationSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    version = serializers.IntegerField()


class ActorSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    operator_id = serializers.IntegerField(allow_null=True)
    is_by_token = serializers.BooleanField()


class HeldReasonSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    sentence = serializers.CharField()


class ProgressSerializer(serializers.Serializer[Any]):
    done = serializers.IntegerField()
    total = serializers.IntegerField()


class VerificationSerializer(serializers.Serializer[Any]):
    """People of a finished undo, compared with the state recorded before the runs that it undid."""

    equal = serializers.IntegerField()
    different = serializers.IntegerField()


class UndoneSerializer(serializers.Serializer[Any]):
    """What an undo over several runs is about: a day or an account, and the numbers of the runs."""

    day = serializers.DateField(required=False)
    account = serializers.CharField(required=False)
    numbers = serializers.ListField(child=serializers.IntegerField())


class OperationSerializer(serializers.Serializer[Any]):
    """`counts` are finished items by outcome; for operations still open the list adds them in one query."""

    id = serializers.IntegerField(source="pk")
    number = serializers.IntegerField()
    kind = serializers.ChoiceField(Operation.Kind.choices)
    mode = serializers.ChoiceField(Operation.Mode.choices)
    status = serializers.ChoiceField(Operation.Status.choices)
    status_detail = serializers.CharField()
    initiator = serializers.ChoiceField(Operation.Initiator.choices)
    actor = serializers.SerializerMethodField()
    name = serializers.CharField()
    action = serializers.CharField()
    reason = serializers.CharField()
    rule = serializers.SerializerMethodField()
    plan_hash = serializers.CharField()
    planned_count = serializers.IntegerField(help_text="Items of the plan.")
    people_count = serializers.IntegerField(help_text="People of the plan.")
    licensed_count = serializers.IntegerField(help_text="Licensed people of the organisation at planning.")
    left_out = serializers.DictField(child=serializers.IntegerField())
    counts = serializers.SerializerMethodField()
    progress = serializers.SerializerMethodField()
    held_reason = serializers.SerializerMethodField()
    held_reasons = serializers.SerializerMethodField()
    is_approved = serializers.BooleanField()
    applies = serializers.IntegerField(source="applies_id", allow_null=True)
    undo_of = serializers.IntegerField(source="undo_of_id", allow_null=True)
    retry_of = serializers.IntegerField(source="retry_of_id", allow_null=True)
    undo = serializers.SerializerMethodField()
    verification = VerificationSerializer(allow_null=True)
    created_at = serializers.DateTimeField()
    planned_at = serializers.DateTimeField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    waiting_until = serializers.DateTimeField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True)

    @extend_schema_field(ActorSerializer)
    def get_actor(self, operation: Operation) -> dict[str, Any]:
        return {
            "name": operation.actor_text,
            "operator_id": operation.actor_id,
            "is_by_token": operation.is_by_token,
        }

    @extend_schema_field(UndoneSerializer(allow_null=True))
    def get_undo(self, operation: Operation) -> dict[str, Any] | None:
        found: dict[str, Any] | None = (operation.frozen or {}).get("undo")
        return found

    @extend_schema_field(RuleOfOperationSerializer(allow_null=True))
    def get_rule(self, operation: Operation) -> dict[str, Any] | None:
        if operation.rule_id is None:
            return None
        return {"id": operation.rule_id, "name": operation.name, "version": operation.rule_version}

    def get_counts(self, operation: Operation) -> dict[str, int]:
        return self._counts(operation)

    def _counts(self, operation: Operation) -> dict[str, int]:
        known: dict[int, dict[str, int]] = self.context.get("counts", {})
        counts: dict[str, int] = known.get(operation.pk, operation.outcomes)
        return counts

    @extend_schema_field(ProgressSerializer)
    def get_progress(self, operation: Operation) -> dict[str, int]:
        """People read while the plan is made; afterwards items finished."""
        if operation.status == Operation.Status.PLANNING:
            return {"done": operation.progress_done, "total": operation.progress_total}
        return {"done": sum(self._counts(operation).values()), "total": operation.planned_count}

    def get_held_reason(self, operation: Operation) -> str:
        return " ".join(reason["sentence"] for reason in operation.held_reasons)

    @extend_schema_field(HeldReasonSerializer(many=True))
    def get_held_reasons(self, operation: Operation) -> list[dict[str, Any]]:
        return [{"code": reason["code"], "sentence": reason["sentence"]} for reason in operation.held_reasons]


class ActionsSerializer(serializers.Serializer[Any]):
    pause = serializers.BooleanField()
    resume = serializers.BooleanField()
    cancel = serializers.BooleanField()
    undo = serializers.BooleanField()
    retry_failed = serializers.BooleanField()
    apply = serializers.BooleanField()
    approve = serializers.BooleanField(help_text="Whether this caller may decide about the held plan.")
    why_not = serializers.DictField(child=serializers.CharField())


class SeatsSerializer(serializers.Serializer[Any]):
    """Licences of one product that the plan frees; negative ones are used."""

    product = serializers.CharField(source="label")
    count = serializers.IntegerField()
    money = serializers.DecimalField(
        max_digits=20, decimal_places=2, allow_null=True, help_text="A month, at today's price."
    )
    currency = serializers.CharField()


class OperationDetailSerializer(OperationSerializer):
    sentence = serializers.CharField()
    approval_hash = serializers.CharField(help_text="What approve takes as plan_hash; empty unless held.")
    approval_count = serializers.IntegerField(help_text="People that an approval releases.")
    seconds_left = serializers.IntegerField(allow_null=True)
    expected_seconds = serializers.IntegerField(
        allow_null=True, help_text="Applying takes about this long at the rate of the last runs."
    )
    seats = SeatsSerializer(many=True)
    can = ActionsSerializer()


class ItemSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    account_id = serializers.CharField(source="subject")
    name = serializers.CharField(source="account.name", default="", allow_null=True)
    email = serializers.CharField(source="account.email", default=None, allow_null=True)
    action = serializers.ChoiceField(sorted(REGISTRY))
    target = serializers.CharField()
    parameters = serializers.JSONField()
    reason = serializers.SerializerMethodField()
    reason_code = serializers.SerializerMethodField()
    reason_facts = serializers.JSONField(source="reason")
    status = serializers.ChoiceField(OperationItem.Status.choices)
    outcome = serializers.CharField(help_text="Empty until the item is finished.")
    detail = serializers.SerializerMethodField()
    atlassian_request_id = serializers.CharField()
    call_id = serializers.CharField()
    attempts = serializers.IntegerField()
    attempted_at = serializers.DateTimeField(source="written_at", allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)

    def get_reason(self, item: OperationItem) -> str:
        return reason_sentence(item.reason, self.context["now"])

    def get_reason_code(self, item: OperationItem) -> str:
        return str(item.reason.get("code", ""))

    def get_detail(self, item: OperationItem) -> str:
        return outcome_sentence(item)


class LeftOutSerializer(serializers.Serializer[Any]):
    account_id = serializers.CharField(source="account.account_id")
    name = serializers.CharField(source="account.name")
    email = serializers.CharField(source="account.email", allow_null=True)
    reason = serializers.ChoiceField(sorted(LEFT_OUT_LABELS))
    reason_label = serializers.SerializerMethodField()
    detail = serializers.CharField()

    def get_reason_label(self, row: LeftOut) -> str:
        return left_out_label(row.reason)


class DecisionSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    operation = serializers.IntegerField(source="operation_id")
    operation_number = serializers.IntegerField(source="operation.number")
    operation_name = serializers.CharField(source="operation.name")
    plan_hash = serializers.CharField()
    decision = serializers.ChoiceField(Approval.Decision.choices)
    decided_by = serializers.CharField(source="decided_by_text")
    decided_at = serializers.DateTimeField()
    reason = serializers.CharField()
    count = serializers.IntegerField()
    is_one_operator = serializers.BooleanField()


# --- bodies of writes -------------------------------------------------------------------------------------------------


class ActionField(serializers.ChoiceField):
    def __init__(self, **options: Any) -> None:
        super().__init__(sorted(REGISTRY), **options)


class GroupRef(PlainText):
    """A group by its id, Atlassian's id, or name."""

    def to_internal_value(self, data: Any) -> str:
        return super().to_internal_value(str(data) if isinstance(data, int) and not isinstance(data, bool) else data)


class BulkActionSerializer(serializers.Serializer[Any]):
    """Whom: `accounts` or `filter`. What: `action` or `actions`, which share `groups`, `products` and `sites`."""

    accounts = serializers.ListField(child=PlainText(max_length=128), required=False, max_length=10_000)
    filter = serializers.DictField(required=False)
    action = ActionField(required=False)
    actions = serializers.ListField(child=ActionField(), required=False, max_length=10)
    groups = serializers.ListField(child=GroupRef(max_length=255), required=False, max_length=100, default=list)
    products = serializers.ListField(child=PlainText(max_length=60), required=False, max_length=50, default=list)
    sites = serializers.ListField(child=PlainText(max_length=300), required=False, max_length=50, default=list)
    mode = serializers.ChoiceField(["preview", "live"], required=False, default="preview")
    reason = PlainText(required=False, allow_blank=True, default="")
    name = PlainText(max_length=200, required=False, allow_blank=True, default="")


class PlanHashSerializer(serializers.Serializer[Any]):
    plan_hash = PlainText(max_length=64)


class ApproveSerializer(PlanHashSerializer):
    confirm_count = serializers.IntegerField(required=False, allow_null=True, default=None, min_value=0)
    password = serializers.CharField(required=False, allow_null=True, default=None, max_length=500, write_only=True)
    reason = PlainText(required=False, allow_blank=True, default="")


class HoldRowsSerializer(serializers.Serializer[Any]):
    accounts = serializers.ListField(child=PlainText(max_length=320), min_length=1, max_length=1000)
    reason = PlainText(max_length=500)


class RejectSerializer(serializers.Serializer[Any]):
    reason = PlainText()


class RetrySerializer(serializers.Serializer[Any]):
    accounts = serializers.ListField(
        child=PlainText(max_length=320),
        required=False,
        allow_null=True,
        default=None,
        help_text="Only these users (Atlassian ids, or the addresses of invitations); everybody without it.",
    )


class UndoPersonSerializer(serializers.Serializer[Any]):
    since = serializers.DateTimeField(
        required=False, allow_null=True, default=None, help_text="Runs started since then; default: 30 days ago."
    )
    mode = serializers.ChoiceField(["preview", "live"], required=False, default="preview")


class UndoDaySerializer(serializers.Serializer[Any]):
    day = serializers.DateField(help_text="All live runs that started on this day, in UTC.")
    mode = serializers.ChoiceField(["preview", "live"], required=False, default="preview")


class UndoSerializer(serializers.Serializer[Any]):
    accounts = serializers.ListField(child=PlainText(max_length=128), required=False, allow_null=True, default=None)
    mode = serializers.ChoiceField(["preview", "live"], required=False, default="live")
