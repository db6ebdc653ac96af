"""How savings, insights and daily figures look over REST. Amounts are texts, so that nothing rounds them."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.savings.models import InsightDecision
from aum.common.serializers import PlainText


class MoneySerializer(serializers.Serializer[Any]):
    currency = serializers.CharField()
    amount = serializers.CharField()


class ProductSavingsSerializer(serializers.Serializer[Any]):
    """`seats`: licences off the month's bill; `amount` null without a price."""

    product = serializers.CharField()
    seats = serializers.IntegerField()
    amount = serializers.CharField(allow_null=True)
    currency = serializers.CharField()
    people = serializers.IntegerField(help_text="People whose licence was free for at least a day of the month.")
    free_now = serializers.IntegerField()
    used = serializers.IntegerField()


class SavingsSourceSerializer(serializers.Serializer[Any]):
    rule_id = serializers.IntegerField(allow_null=True)
    name = serializers.CharField()
    amounts = MoneySerializer(many=True)


class MonthSavingsSerializer(serializers.Serializer[Any]):
    month = serializers.CharField()
    seats = serializers.IntegerField()
    amounts = MoneySerializer(many=True)


class EstimateSerializer(serializers.Serializer[Any]):
    """Licences by product and their worth a month by today's prices."""

    seats = serializers.DictField(child=serializers.IntegerField())
    monthly = MoneySerializer(many=True)


class GivenBackSerializer(serializers.Serializer[Any]):
    count = serializers.IntegerField()
    monthly = MoneySerializer(many=True)


class SavingsSerializer(serializers.Serializer[Any]):
    """Realised, scheduled and possible overlap: they are never added up."""

    month = serializers.CharField()
    is_running = serializers.BooleanField()
    has_prices = serializers.BooleanField()
    realised = MoneySerializer(many=True)
    realised_seats = serializers.IntegerField()
    products = ProductSavingsSerializer(many=True)
    rules = SavingsSourceSerializer(many=True)
    months = MonthSavingsSerializer(many=True)
    projected = MonthSavingsSerializer(many=True)
    scheduled = EstimateSerializer()
    possible = EstimateSerializer()
    given_back = GivenBackSerializer()
    is_demo_history = serializers.BooleanField()


class SeatLineSerializer(serializers.Serializer[Any]):
    account_id = serializers.CharField()
    name = serializers.CharField()
    email = serializers.CharField()
    product = serializers.CharField()
    freed_at = serializers.DateTimeField()
    returned_at = serializers.DateTimeField(source="ended_at", allow_null=True)
    days = serializers.IntegerField()
    amount = serializers.CharField(allow_null=True)
    currency = serializers.CharField()
    rule_or_run = serializers.CharField(source="source")
    run = serializers.IntegerField(source="run_number", allow_null=True)


class SeatLinesSerializer(serializers.Serializer[Any]):
    """`offset` and `limit` page through the lines of the month."""

    month = serializers.CharField()
    count = serializers.IntegerField()
    results = SeatLineSerializer(many=True)


class InsightDecisionSerializer(serializers.Serializer[Any]):
    state = serializers.ChoiceField(InsightDecision.State.choices)
    until = serializers.DateTimeField(allow_null=True)
    reason = serializers.CharField()
    decided_by = serializers.CharField()
    decided_at = serializers.DateTimeField()


class InsightEntrySerializer(serializers.Serializer[Any]):
    title = serializers.CharField()
    detail = serializers.CharField()
    url = serializers.CharField()


class InsightSerializer(serializers.Serializer[Any]):
    """`filter` gives exactly the people counted at `accounts/`; `rule` the values that Take action fills in."""

    key = serializers.CharField()
    title = serializers.CharField()
    why = serializers.CharField()
    recommendation = serializers.CharField()
    product = serializers.CharField()
    count = serializers.IntegerField()
    monthly = MoneySerializer(many=True, source="monthly.to_json")
    filter = serializers.DictField(child=serializers.CharField(), source="params")
    rule = serializers.DictField(child=serializers.CharField(), source="rule_params")
    entries = InsightEntrySerializer(many=True)
    is_open = serializers.BooleanField()
    decision = InsightDecisionSerializer(allow_null=True)


class SnoozeSerializer(serializers.Serializer[Any]):
    days = serializers.IntegerField()


class DismissSerializer(serializers.Serializer[Any]):
    reason = PlainText()


class SnapshotSerializer(serializers.Serializer[Any]):
    """`figures`: range of days → part of everybody → people. `is_demo`: invented for the demo organisation."""

    id = serializers.IntegerField(source="pk")
    day = serializers.DateField()
    taken_at = serializers.DateTimeField()
    total = serializers.IntegerField()
    figures = serializers.DictField(child=serializers.DictField(child=serializers.IntegerField()))
    seats = serializers.DictField(child=serializers.IntegerField())
    peak_seats = serializers.DictField(child=serializers.IntegerField())
    idle = serializers.DictField(child=serializers.IntegerField())
    is_demo = serializers.BooleanField()
