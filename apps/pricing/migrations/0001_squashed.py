"""The schema of a new installation in one step; older ones went through the migrations that this replaces."""

import django.core.validators
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    replaces = [("pricing", "0001_prices"), ("pricing", "0002_tiers_have_an_owner")]

    initial = True

    dependencies = [
        ("organizations", "0001_squashed"),
    ]

    operations = [
        migrations.CreateModel(
            name="ProductPrice",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                ("product", models.CharField(max_length=60)),
                ("tier", models.CharField(blank=True, max_length=60)),
                (
                    "currency",
                    models.CharField(max_length=3, validators=[django.core.validators.RegexValidator("^[A-Z]{3}$")]),
                ),
                (
                    "billing",
                    models.CharField(
                        choices=[
                            ("monthly", "Monthly: the month's highest number of licences is billed"),
                            ("daily", "Monthly: each licence is billed for the days it was held"),
                            ("annual", "Annual: the number of licences changes at renewal"),
                        ],
                        default="monthly",
                        max_length=10,
                    ),
                ),
                (
                    "tier_mode",
                    models.CharField(
                        choices=[
                            ("flat", "One price for every user"),
                            ("graduated", "Each user costs the price of the tier they fall into"),
                            ("volume", "All users cost the price of the tier that is reached"),
                        ],
                        default="flat",
                        max_length=10,
                    ),
                ),
                ("unit_price", models.DecimalField(decimal_places=4, max_digits=12)),
                ("valid_from", models.DateField()),
                ("renewal_on", models.DateField(blank=True, null=True)),
                ("is_demo", models.BooleanField(default=False)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("created_by", models.CharField(max_length=254)),
            ],
            options={
                "ordering": ["product", "-valid_from"],
                "constraints": [
                    models.UniqueConstraint(fields=("organization", "product", "valid_from"), name="price_once_a_day"),
                    models.CheckConstraint(condition=models.Q(("unit_price__gte", 0)), name="price_not_negative"),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("billing", "annual"), _negated=True),
                            ("renewal_on__isnull", False),
                            _connector="OR",
                        ),
                        name="price_annual_has_renewal",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="LicenceAlert",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                ("product", models.CharField(max_length=60)),
                ("above", models.PositiveIntegerField()),
                ("set_by", models.CharField(max_length=254)),
                ("set_at", models.DateTimeField()),
            ],
            options={
                "ordering": ["product"],
                "constraints": [models.UniqueConstraint(fields=("organization", "product"), name="licence_alert_once")],
            },
        ),
        migrations.CreateModel(
            name="PriceTier",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                (
                    "price",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="tiers", to="pricing.productprice"
                    ),
                ),
                ("from_users", models.PositiveIntegerField()),
                ("unit_price", models.DecimalField(decimal_places=4, max_digits=12)),
            ],
            options={
                "ordering": ["from_users"],
                "constraints": [
                    models.UniqueConstraint(fields=("price", "from_users"), name="price_tier_once"),
                    models.CheckConstraint(
                        condition=models.Q(("from_users__gte", 1), ("unit_price__gte", 0)),
                        name="price_tier_not_negative",
                    ),
                ],
            },
        ),
    ]
