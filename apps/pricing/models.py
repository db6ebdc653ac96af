"""The price book: what a product's licence costs from a date on, and the number of licences that raises an alert.

Amounts are exact decimals in one currency. How a bill follows from them is in `billing`.
"""

from __future__ import annotations

from django.core.validators import RegexValidator
from django.db import models

from apps.organizations.models import OrganizationOwned


class ProductPrice(OrganizationOwned):
    """The terms of one product from `valid_from` until the next row of the product begins.

    `unit_price` is per user and month, or per user and year with annual billing. With a tier mode the rows of
    `PriceTier` count instead; `unit_price` is then the price of the first tier.
    """

    class Billing(models.TextChoices):
        MONTHLY = "monthly", "Monthly: the month's highest number of licences is billed"
        DAILY = "daily", "Monthly: each licence is billed for the days it was held"
        ANNUAL = "annual", "Annual: the number of licences changes at renewal"

    class TierMode(models.TextChoices):
        FLAT = "flat", "One price for every user"
        GRADUATED = "graduated", "Each user costs the price of the tier they fall into"
        VOLUME = "volume", "All users cost the price of the tier that is reached"

    product = models.CharField(max_length=60)
    # The name of the plan: Free, Standard, Premium. For people; nothing is computed from it.
    tier = models.CharField(max_length=60, blank=True)
    currency = models.CharField(max_length=3, validators=[RegexValidator(r"^[A-Z]{3}$")])
    billing = models.CharField(max_length=10, choices=Billing.choices, default=Billing.MONTHLY)
    tier_mode = models.CharField(max_length=10, choices=TierMode.choices, default=TierMode.FLAT)
    unit_price = models.DecimalField(max_digits=12, decimal_places=4)
    valid_from = models.DateField()
    # Annual billing: any day on which the contract was or will be renewed; it recurs each year.
    renewal_on = models.DateField(null=True, blank=True)
    is_demo = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=254)

    class Meta:
        ordering = ["product", "-valid_from"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "product", "valid_from"], name="price_once_a_day"),
            models.CheckConstraint(condition=models.Q(unit_price__gte=0), name="price_not_negative"),
            models.CheckConstraint(
                condition=~models.Q(billing="annual") | models.Q(renewal_on__isnull=False),
                name="price_annual_has_renewal",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.product} from {self.valid_from}: {self.unit_price} {self.currency}"


class PriceTier(OrganizationOwned):
    """From the `from_users`th user on, a user costs `unit_price`. The first tier begins at 1."""

    price = models.ForeignKey(ProductPrice, on_delete=models.CASCADE, related_name="tiers")
    from_users = models.PositiveIntegerField()
    unit_price = models.DecimalField(max_digits=12, decimal_places=4)

    class Meta:
        ordering = ["from_users"]
        constraints = [
            models.UniqueConstraint(fields=["price", "from_users"], name="price_tier_once"),
            models.CheckConstraint(
                condition=models.Q(unit_price__gte=0, from_users__gte=1), name="price_tier_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"from {self.from_users}: {self.unit_price}"


class LicenceAlert(OrganizationOwned):
    """Raise an alert when more than `above` licences of `product` are in use (S289)."""

    product = models.CharField(max_length=60)
    above = models.PositiveIntegerField()
    set_by = models.CharField(max_length=254)
    set_at = models.DateTimeField()

    class Meta:
        ordering = ["product"]
        constraints = [models.UniqueConstraint(fields=["organization", "product"], name="licence_alert_once")]

    def __str__(self) -> str:
        return f"{self.product} above {self.above}"
