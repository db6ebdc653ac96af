"""The schema of a new installation in one step; older ones went through the migrations that this replaces."""

import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models

import apps.organizations.models


class Migration(migrations.Migration):
    replaces = [
        ("rules", "0001_initial"),
        ("rules", "0002_further_actions"),
        ("rules", "0003_schema_version"),
        ("rules", "0004_notices"),
    ]

    initial = True

    dependencies = [
        ("django_celery_beat", "0019_alter_periodictasks_options"),
        ("notifications", "0001_squashed"),
        ("operators", "0001_squashed"),
        ("organizations", "0001_squashed"),
        ("users", "0001_squashed"),
    ]

    operations = [
        migrations.CreateModel(
            name="CleanupRule",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                ("name", models.CharField(max_length=120, verbose_name="scheduling display name")),
                (
                    "mode",
                    models.CharField(
                        choices=[("safe", "Safe mode"), ("live", "Live mode")], default="safe", max_length=10
                    ),
                ),
                (
                    "action",
                    models.CharField(
                        choices=[
                            ("deactivate", "Deactivate (managed users only)"),
                            ("suspend", "Suspend users (all users)"),
                            ("remove_product_access", "Remove product access"),
                            ("remove_from_group", "Remove from groups"),
                            ("add_to_group", "Add to groups"),
                            ("restore", "Restore suspended users"),
                            ("activate", "Activate deactivated users (managed users only)"),
                            ("delete", "Delete users deactivated or suspended (managed users only)"),
                        ],
                        default="suspend",
                        max_length=40,
                    ),
                ),
                (
                    "inactive_products",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=60), blank=True, default=list, size=None
                    ),
                ),
                (
                    "target_products",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=60), blank=True, default=list, size=None
                    ),
                ),
                (
                    "target_sites",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=300), blank=True, default=list, size=None
                    ),
                ),
                (
                    "inactive_days",
                    models.PositiveIntegerField(
                        blank=True,
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(3650),
                        ],
                        verbose_name="days inactive threshold",
                    ),
                ),
                (
                    "status_days",
                    models.PositiveIntegerField(
                        blank=True,
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(3650),
                        ],
                    ),
                ),
                ("conditions", models.JSONField(blank=True, default=list)),
                (
                    "saved_view",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.RESTRICT,
                        related_name="+",
                        to="users.savedview",
                    ),
                ),
                ("include_never_active", models.BooleanField(default=False)),
                (
                    "never_active_days",
                    models.PositiveIntegerField(
                        blank=True,
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(3650),
                        ],
                    ),
                ),
                (
                    "target",
                    models.CharField(
                        choices=[
                            ("all_except_protected", "All users except protected groups"),
                            ("specified_groups", "Specified groups only"),
                        ],
                        default="all_except_protected",
                        max_length=30,
                    ),
                ),
                (
                    "recurrence",
                    models.CharField(
                        choices=[("daily", "Daily"), ("weekly", "Weekly"), ("monthly", "Monthly")],
                        default="daily",
                        max_length=10,
                    ),
                ),
                (
                    "weekdays",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.PositiveSmallIntegerField(), blank=True, default=list, size=None
                    ),
                ),
                (
                    "month_day",
                    models.PositiveSmallIntegerField(
                        blank=True,
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(31),
                        ],
                    ),
                ),
                ("run_at", models.TimeField(verbose_name="execution time")),
                (
                    "timezone",
                    models.CharField(
                        default="UTC", max_length=64, validators=[apps.organizations.models.validate_timezone]
                    ),
                ),
                ("window_minutes", models.PositiveIntegerField(db_default=60, default=60)),
                (
                    "blackout_dates",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=24), blank=True, default=list, size=None
                    ),
                ),
                (
                    "max_count",
                    models.PositiveIntegerField(
                        blank=True, null=True, validators=[django.core.validators.MinValueValidator(1)]
                    ),
                ),
                (
                    "max_share_percent",
                    models.DecimalField(
                        blank=True,
                        decimal_places=2,
                        max_digits=5,
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(0),
                            django.core.validators.MaxValueValidator(100),
                        ],
                    ),
                ),
                (
                    "undeliverable",
                    models.CharField(
                        choices=[("ask", "Ask the manager or an owner, and wait"), ("act", "Act after some days")],
                        db_default="ask",
                        default="ask",
                        max_length=10,
                    ),
                ),
                (
                    "undeliverable_days",
                    models.PositiveIntegerField(
                        db_default=14,
                        default=14,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(365),
                        ],
                    ),
                ),
                (
                    "owner",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("notes", models.TextField(blank=True, db_default="", default="")),
                ("version", models.PositiveIntegerField(default=1)),
                ("schema_version", models.PositiveSmallIntegerField(db_default=1, default=2)),
                (
                    "edited_by",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("edited_by_text", models.CharField(max_length=254)),
                ("edited_at", models.DateTimeField()),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("is_paused", models.BooleanField(default=False)),
                ("paused_reason", models.CharField(blank=True, max_length=300)),
                ("run_paused_with_rule", models.PositiveIntegerField(blank=True, null=True)),
                ("deleted_at", models.DateTimeField(blank=True, null=True)),
                ("last_run_at", models.DateTimeField(blank=True, null=True)),
                ("last_operation_number", models.PositiveIntegerField(blank=True, null=True)),
                ("scheduled_from", models.DateTimeField()),
                ("next_run_at", models.DateTimeField(blank=True, null=True)),
                (
                    "periodic_task",
                    models.OneToOneField(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="django_celery_beat.periodictask",
                    ),
                ),
                ("action_groups", models.ManyToManyField(blank=True, related_name="+", to="users.group")),
                ("target_groups", models.ManyToManyField(blank=True, related_name="+", to="users.group")),
                ("protected_groups", models.ManyToManyField(blank=True, related_name="+", to="users.group")),
            ],
            options={
                "ordering": ["name", "id"],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("deleted_at__isnull", True)),
                        fields=("organization", "name"),
                        name="rule_name_once",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("inactive_days__gte", 1)), name="rule_inactive_days_positive"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("include_never_active", False), ("never_active_days__gte", 1), _connector="OR"
                        ),
                        name="rule_never_active_days_given",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="DueSlot",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                (
                    "rule",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="slots", to="rules.cleanuprule"
                    ),
                ),
                ("due_at", models.DateTimeField()),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("fired", "Fired"),
                            ("caught_up", "Caught up"),
                            ("missed", "Missed"),
                            ("refused", "Refused"),
                        ],
                        max_length=12,
                    ),
                ),
                ("handled_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("operation_number", models.PositiveIntegerField(blank=True, null=True)),
                ("detail", models.TextField(blank=True)),
            ],
            options={
                "ordering": ["-due_at"],
                "constraints": [models.UniqueConstraint(fields=("rule", "due_at"), name="due_slot_once")],
            },
        ),
        migrations.CreateModel(
            name="NoticeStep",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                (
                    "rule",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="notice_steps", to="rules.cleanuprule"
                    ),
                ),
                (
                    "template",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.RESTRICT, related_name="+", to="notifications.emailtemplate"
                    ),
                ),
                (
                    "days_before",
                    models.PositiveIntegerField(
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(3650),
                        ]
                    ),
                ),
                (
                    "audience",
                    models.CharField(
                        choices=[("person", "The user"), ("manager", "Their manager")], default="person", max_length=10
                    ),
                ),
            ],
            options={
                "ordering": ["-days_before", "id"],
                "constraints": [
                    models.UniqueConstraint(fields=("rule", "template", "audience"), name="notice_step_template_once"),
                    models.CheckConstraint(
                        condition=models.Q(("days_before__gte", 1)), name="notice_step_days_positive"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="RuleVersion",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                (
                    "rule",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="versions", to="rules.cleanuprule"
                    ),
                ),
                ("version", models.PositiveIntegerField()),
                ("content", models.JSONField()),
                ("edited_by_text", models.CharField(max_length=254)),
                ("edited_at", models.DateTimeField()),
            ],
            options={
                "ordering": ["-version"],
                "constraints": [models.UniqueConstraint(fields=("rule", "version"), name="rule_version_once")],
            },
        ),
    ]
