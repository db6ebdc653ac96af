"""The schema of a new installation in one step; older ones went through the migrations that this replaces."""

import django.core.validators
import django.db.models.deletion
from django.db import migrations, models

import apps.organizations.models


class Migration(migrations.Migration):
    replaces = [
        ("organizations", "0001_initial"),
        ("organizations", "0002_second_factor_required"),
        ("organizations", "0003_rule_settings"),
        ("organizations", "0004_share_of_a_group"),
    ]

    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Organization",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("slug", models.SlugField(unique=True)),
                ("name", models.CharField(max_length=200)),
                ("org_id", models.CharField(max_length=128, unique=True, verbose_name="Atlassian organisation id")),
                ("api_url", models.CharField(max_length=300)),
                (
                    "timezone",
                    models.CharField(
                        default="UTC", max_length=64, validators=[apps.organizations.models.validate_timezone]
                    ),
                ),
                (
                    "currency",
                    models.CharField(
                        default="USD", max_length=3, validators=[django.core.validators.RegexValidator("^[A-Z]{3}$")]
                    ),
                ),
                ("is_demo", models.BooleanField(default=False)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("kill_switch_at", models.DateTimeField(blank=True, null=True)),
                ("kill_switch_by", models.CharField(blank=True, max_length=254)),
                ("kill_switch_reason", models.TextField(blank=True)),
                ("is_one_operator", models.BooleanField(default=False)),
                ("is_second_factor_required", models.BooleanField(db_default=False, default=False)),
                (
                    "max_count",
                    models.PositiveIntegerField(default=500, validators=[django.core.validators.MinValueValidator(1)]),
                ),
                (
                    "max_share_percent",
                    models.DecimalField(
                        decimal_places=2,
                        default=10,
                        max_digits=5,
                        validators=[
                            django.core.validators.MinValueValidator(0),
                            django.core.validators.MaxValueValidator(100),
                        ],
                    ),
                ),
                (
                    "max_group_share_percent",
                    models.PositiveSmallIntegerField(
                        db_default=50,
                        default=50,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(100),
                        ],
                    ),
                ),
                (
                    "max_per_day",
                    models.PositiveIntegerField(default=1000, validators=[django.core.validators.MinValueValidator(1)]),
                ),
                (
                    "activity_margin_hours",
                    models.PositiveSmallIntegerField(
                        default=48, validators=[django.core.validators.MaxValueValidator(720)]
                    ),
                ),
                (
                    "snooze_days",
                    models.PositiveSmallIntegerField(
                        default=30, validators=[django.core.validators.MaxValueValidator(365)]
                    ),
                ),
                (
                    "calls_in_flight",
                    models.PositiveSmallIntegerField(
                        default=4,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(64),
                        ],
                    ),
                ),
                (
                    "held_plan_days",
                    models.PositiveSmallIntegerField(
                        default=5,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(30),
                        ],
                    ),
                ),
                (
                    "preview_hours",
                    models.PositiveSmallIntegerField(
                        default=24,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(720),
                        ],
                    ),
                ),
                (
                    "max_data_age_hours",
                    models.PositiveSmallIntegerField(
                        default=36,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(720),
                        ],
                    ),
                ),
                (
                    "max_people_lost_percent",
                    models.PositiveSmallIntegerField(
                        default=10, validators=[django.core.validators.MaxValueValidator(100)]
                    ),
                ),
                (
                    "max_activity_lost_percent",
                    models.PositiveSmallIntegerField(
                        default=10, validators=[django.core.validators.MaxValueValidator(100)]
                    ),
                ),
                (
                    "max_failure_percent",
                    models.PositiveSmallIntegerField(
                        default=25,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(100),
                        ],
                    ),
                ),
                (
                    "catch_up_hours",
                    models.PositiveSmallIntegerField(
                        db_default=6, default=6, validators=[django.core.validators.MaxValueValidator(72)]
                    ),
                ),
                (
                    "max_regret_percent",
                    models.PositiveSmallIntegerField(
                        db_default=10,
                        default=10,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(100),
                        ],
                    ),
                ),
                ("allow_delete_rules", models.BooleanField(db_default=False, default=False)),
                (
                    "sync_hour_utc",
                    models.PositiveSmallIntegerField(
                        default=2, validators=[django.core.validators.MaxValueValidator(23)]
                    ),
                ),
            ],
            options={
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="Installation",
            fields=[
                ("id", models.PositiveSmallIntegerField(default=1, editable=False, primary_key=True, serialize=False)),
                ("instance_id", models.CharField(max_length=64)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "constraints": [models.CheckConstraint(condition=models.Q(("id", 1)), name="installation_single_row")],
            },
        ),
        migrations.CreateModel(
            name="Directory",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                ("directory_id", models.CharField(max_length=128)),
                ("name", models.CharField(max_length=255)),
                ("seen_at", models.DateTimeField()),
            ],
            options={
                "verbose_name_plural": "directories",
                "constraints": [
                    models.UniqueConstraint(fields=("organization", "directory_id"), name="directory_id_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="Credential",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("api_key", "Organisation API key"), ("api_token", "Personal API token")],
                        max_length=20,
                    ),
                ),
                ("encrypted_value", models.BinaryField(blank=True, null=True)),
                ("reference", models.CharField(blank=True, max_length=300)),
                ("owner_email", models.EmailField(blank=True, max_length=254)),
                ("owner_account_id", models.CharField(blank=True, max_length=128)),
                ("expires_on", models.DateField(blank=True, null=True)),
                ("set_at", models.DateTimeField()),
                ("set_by", models.CharField(max_length=254)),
                ("is_valid", models.BooleanField(default=True)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("organization", "kind"), name="credential_kind_once"),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("encrypted_value__isnull", False),
                            models.Q(("reference", ""), _negated=True),
                            _connector="XOR",
                        ),
                        name="credential_value_or_reference",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="CapabilityCheck",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                ("capability", models.CharField(max_length=40)),
                ("position", models.PositiveSmallIntegerField(default=0)),
                ("ok", models.BooleanField()),
                ("code", models.CharField(blank=True, max_length=60)),
                ("detail", models.TextField(blank=True)),
                ("value", models.CharField(blank=True, max_length=20, verbose_name="which value failed")),
                ("checked_at", models.DateTimeField()),
            ],
            options={
                "ordering": ["position"],
                "constraints": [models.UniqueConstraint(fields=("organization", "capability"), name="capability_once")],
            },
        ),
        migrations.CreateModel(
            name="Alert",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                ("kind", models.CharField(max_length=60)),
                (
                    "severity",
                    models.CharField(
                        choices=[("info", "Information"), ("warning", "Warning"), ("error", "Error")], max_length=10
                    ),
                ),
                ("title", models.CharField(max_length=200)),
                ("detail", models.TextField(blank=True)),
                ("link", models.CharField(blank=True, max_length=300)),
                ("dedup_key", models.CharField(max_length=200)),
                ("repeats", models.PositiveIntegerField(default=1)),
                ("created_at", models.DateTimeField()),
                ("last_at", models.DateTimeField()),
                ("resolved_at", models.DateTimeField(blank=True, null=True)),
                ("resolved_by", models.CharField(blank=True, max_length=254)),
            ],
            options={
                "ordering": ["-last_at"],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("resolved_at__isnull", True)),
                        fields=("organization", "dedup_key"),
                        name="alert_open_once",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="RatePause",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                ("family", models.CharField(max_length=60)),
                ("until", models.DateTimeField()),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("organization", "family"), name="rate_pause_family_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="Site",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                ("cloud_id", models.CharField(blank=True, max_length=128)),
                ("url", models.CharField(max_length=300)),
                ("name", models.CharField(max_length=200)),
                ("is_primary", models.BooleanField(default=False)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("organization", "url"), name="site_url_once"),
                    models.UniqueConstraint(
                        condition=models.Q(("is_primary", True)), fields=("organization",), name="site_one_primary"
                    ),
                ],
            },
        ),
    ]
