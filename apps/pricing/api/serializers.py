"""How prices and licence alerts look over REST. Amounts are texts, so that nothing rounds them."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.pricing.models import LicenceAlert, ProductPrice
from aum.common.serializers import PlainText


class TierSerializer(serializers.Serializer[Any]):
    from_users = serializers.IntegerField()
    unit_price = serializers.DecimalField(max_digits=12, decimal_places=4)


class PriceSerializer(serializers.Serializer[Any]):
    """`unit_price`: per user and month, or per user and year with annual billing."""

    id = serializers.IntegerField(source="pk")
    product = serializers.CharField()
    tier = serializers.CharField()
    currency = serializers.CharField()
    billing = serializers.ChoiceField(ProductPrice.Billing.choices)
    tier_mode = serializers.ChoiceField(ProductPrice.TierMode.choices)
    unit_price = serializers.DecimalField(max_digits=12, decimal_places=4)
    tiers = TierSerializer(many=True, source="tiers.all")
    valid_from = serializers.DateField()
    renewal_on = serializers.DateField(allow_null=True)
    is_demo = serializers.BooleanField()
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()


class TierInputSerializer(serializers.Serializer[Any]):
    from_users = PlainText(max_length=20)
    unit_price = PlainText(max_length=20)


class PriceInputSerializer(serializers.Serializer[Any]):
    """Numbers and days may come as texts; what is wrong is answered by the field, with 422."""

    product = PlainText(max_length=60)
    tier = PlainText(max_length=100, required=False, allow_blank=True)
    currency = PlainText(max_length=10, required=False, allow_blank=True)
    billing = serializers.ChoiceField(ProductPrice.Billing.values, required=False)
    tier_mode = serializers.ChoiceField(ProductPrice.TierMode.values, required=False)
    unit_price = PlainText(max_length=20, required=False, allow_null=True)
    tiers = TierInputSerializer(many=True, required=False)
    valid_from = PlainText(max_length=20, required=False)
    renewal_on = PlainText(max_length=20, required=False, allow_null=True)


class LicencesSerializer(serializers.Serializer[Any]):
    """`used`: people who hold the product and could use it. `above` null: no alert."""

    product = serializers.CharField()
    used = serializers.IntegerField()
    above = serializers.IntegerField(allow_null=True)
    is_over = serializers.BooleanField()


class LicenceAlertInputSerializer(serializers.Serializer[Any]):
    product = PlainText(max_length=60)
    above = serializers.IntegerField(allow_null=True, min_value=0, max_value=10_000_000)


def licence_row(product: str, used: int, alert: LicenceAlert | None) -> dict[str, Any]:
    """One product as `LicencesSerializer` shows it."""
    above = alert.above if alert else None
    return {"product": product, "used": used, "above": above, "is_over": above is not None and used > above}
