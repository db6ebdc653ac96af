"""The schema of a new installation in one step; older ones went through the migrations that this replaces."""

import uuid

import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    replaces = [("autoactivate", "0001_initial")]

    initial = True

    dependencies = [
        ("operations", "0001_squashed"),
        ("operators", "0001_squashed"),
        ("organizations", "0001_squashed"),
        ("users", "0001_squashed"),
    ]

    operations = [
        migrations.CreateModel(
            name="AssignmentRule",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                ("name", models.CharField(max_length=120)),
                ("is_active", models.BooleanField(default=False)),
                (
                    "channels",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(
                            choices=[
                                ("jsm", "JSM portal"),
                                ("slack", "Slack"),
                                ("teams", "Microsoft Teams"),
                                ("intranet", "Intranet"),
                            ],
                            max_length=20,
                        ),
                        default=list,
                        size=None,
                    ),
                ),
                ("project_id", models.CharField(blank=True, max_length=64)),
                ("project_key", models.CharField(blank=True, max_length=64)),
                ("project_name", models.CharField(blank=True, max_length=255)),
                ("service_desk_id", models.CharField(blank=True, max_length=64)),
                ("request_types", models.JSONField(blank=True, default=list)),
                (
                    "method",
                    models.CharField(
                        choices=[("email_domain", "Email domain"), ("existing_group", "Existing group")],
                        default="email_domain",
                        max_length=20,
                    ),
                ),
                (
                    "domains",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=253), blank=True, default=list, size=None
                    ),
                ),
                (
                    "trigger_group",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.RESTRICT,
                        related_name="+",
                        to="users.group",
                    ),
                ),
                (
                    "max_per_day",
                    models.PositiveIntegerField(
                        blank=True, null=True, validators=[django.core.validators.MinValueValidator(1)]
                    ),
                ),
                (
                    "seat_budget",
                    models.PositiveIntegerField(
                        blank=True, null=True, validators=[django.core.validators.MinValueValidator(1)]
                    ),
                ),
                (
                    "expires_after_days",
                    models.PositiveIntegerField(
                        blank=True,
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(3650),
                        ],
                    ),
                ),
                ("needs_approval", models.BooleanField(default=False)),
                ("restores", models.BooleanField(default=False)),
                ("version", models.PositiveIntegerField(default=1)),
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
                ("deleted_at", models.DateTimeField(blank=True, null=True)),
                ("groups", models.ManyToManyField(related_name="+", to="users.group")),
            ],
            options={
                "ordering": ["name"],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("deleted_at__isnull", True)),
                        fields=("organization", "name"),
                        name="assignment_rule_name_once",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="IdentityMapping",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                (
                    "channel",
                    models.CharField(
                        choices=[
                            ("jsm", "JSM portal"),
                            ("slack", "Slack"),
                            ("teams", "Microsoft Teams"),
                            ("intranet", "Intranet"),
                        ],
                        max_length=20,
                    ),
                ),
                ("external_id", models.CharField(max_length=128)),
                (
                    "account",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="users.account",
                    ),
                ),
                ("set_at", models.DateTimeField()),
                ("set_by", models.CharField(max_length=254)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("organization", "channel", "external_id"), name="identity_mapping_once"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="InboundSource",
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
                        choices=[
                            ("jira", "Jira Automation"),
                            ("jira_webhook", "Jira admin webhook"),
                            ("poll", "JSM polling"),
                            ("slack", "Slack"),
                            ("teams", "Microsoft Teams"),
                            ("intranet", "Intranet"),
                        ],
                        max_length=20,
                    ),
                ),
                ("key", models.CharField(max_length=43, unique=True)),
                ("is_enabled", models.BooleanField(default=True)),
                ("secret_hash", models.CharField(blank=True, max_length=64)),
                ("encrypted_secret", models.BinaryField(blank=True, null=True)),
                ("secret_set_at", models.DateTimeField(blank=True, null=True)),
                ("secret_set_by", models.CharField(blank=True, max_length=254)),
                ("previous_hash", models.CharField(blank=True, max_length=64)),
                ("previous_encrypted", models.BinaryField(blank=True, null=True)),
                ("previous_until", models.DateTimeField(blank=True, null=True)),
                ("api_token", models.BinaryField(blank=True, null=True)),
                ("api_token_set_at", models.DateTimeField(blank=True, null=True)),
                (
                    "domains",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=253), blank=True, default=list, size=None
                    ),
                ),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("polled_from", models.DateTimeField(blank=True, null=True)),
                ("polled_at", models.DateTimeField(blank=True, null=True)),
                ("poll_error", models.TextField(blank=True)),
                ("first_event_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ["pk"],
                "constraints": [
                    models.UniqueConstraint(fields=("organization", "kind"), name="inbound_source_kind_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="AssignmentRuleVersion",
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
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="versions",
                        to="autoactivate.assignmentrule",
                    ),
                ),
                ("version", models.PositiveIntegerField()),
                ("content", models.JSONField()),
                ("edited_by_text", models.CharField(max_length=254)),
                ("edited_at", models.DateTimeField()),
            ],
            options={
                "ordering": ["-version"],
                "constraints": [
                    models.UniqueConstraint(fields=("rule", "version"), name="assignment_rule_version_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="InboundEvent",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                (
                    "source",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="autoactivate.inboundsource",
                    ),
                ),
                ("source_kind", models.CharField(max_length=20)),
                (
                    "channel",
                    models.CharField(
                        choices=[
                            ("jsm", "JSM portal"),
                            ("slack", "Slack"),
                            ("teams", "Microsoft Teams"),
                            ("intranet", "Intranet"),
                        ],
                        max_length=20,
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("ticket", "Ticket"),
                            ("message", "Message"),
                            ("form", "Form"),
                            ("test", "Test"),
                            ("confirmation", "Confirmation"),
                            ("extension", "Extension"),
                        ],
                        default="ticket",
                        max_length=20,
                    ),
                ),
                ("dedup_key", models.CharField(max_length=200)),
                ("payload", models.JSONField(default=dict)),
                ("size_bytes", models.PositiveIntegerField(default=0)),
                ("ip_address", models.GenericIPAddressField(blank=True, null=True)),
                ("received_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("repeats", models.PositiveIntegerField(db_default=0, default=0)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("received", "Received"),
                            ("confirming", "Waits for confirmation"),
                            ("waiting", "Waiting"),
                            ("working", "In progress"),
                            ("done", "Done"),
                            ("no_match", "No match"),
                            ("refused", "Refused"),
                            ("failed", "Failed"),
                        ],
                        default="received",
                        max_length=20,
                    ),
                ),
                ("code", models.CharField(blank=True, db_default="", default="", max_length=40)),
                ("detail", models.TextField(blank=True, db_default="", default="")),
                ("attempts", models.PositiveIntegerField(db_default=0, default=0)),
                ("next_try_at", models.DateTimeField(blank=True, null=True)),
                ("lease_token", models.UUIDField(blank=True, null=True)),
                ("lease_until", models.DateTimeField(blank=True, null=True)),
                ("processed_at", models.DateTimeField(blank=True, null=True)),
                ("issue_key", models.CharField(blank=True, db_default="", default="", max_length=64)),
                ("project_key", models.CharField(blank=True, db_default="", default="", max_length=64)),
                ("request_type_id", models.CharField(blank=True, db_default="", default="", max_length=64)),
                ("request_type_name", models.CharField(blank=True, db_default="", default="", max_length=255)),
                (
                    "requester",
                    models.CharField(
                        blank=True, db_default="", default="", max_length=320, verbose_name="requester in words"
                    ),
                ),
                ("requester_id", models.CharField(blank=True, db_default="", default="", max_length=128)),
                ("identity", models.CharField(blank=True, db_default="", default="", max_length=20)),
                (
                    "account",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="users.account",
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [
                    models.Index(fields=["organization", "-id"], name="inbound_event_latest"),
                    models.Index(
                        condition=models.Q(("status__in", ["received", "waiting"])),
                        fields=["next_try_at", "id"],
                        name="inbound_event_open",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("organization", "dedup_key"), name="inbound_event_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="RuleDraft",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                (
                    "operator",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "rule",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="autoactivate.assignmentrule",
                    ),
                ),
                ("values", models.JSONField(default=dict)),
                ("updated_at", models.DateTimeField()),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("organization", "operator", "rule"), name="rule_draft_once", nulls_distinct=False
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="AccessGrant",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                (
                    "event",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="grants",
                        to="autoactivate.inboundevent",
                    ),
                ),
                (
                    "rule",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.RESTRICT,
                        related_name="grants",
                        to="autoactivate.assignmentrule",
                    ),
                ),
                ("rule_version", models.PositiveIntegerField()),
                (
                    "account",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="users.account",
                    ),
                ),
                (
                    "operation",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.RESTRICT,
                        related_name="+",
                        to="operations.operation",
                    ),
                ),
                ("needs_approval", models.BooleanField(default=False)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("giving", "Being given"),
                            ("given", "Given"),
                            ("had_it", "Had it already"),
                            ("failed", "Not given"),
                            ("removing", "Being removed"),
                            ("ended", "Ended"),
                            ("undone", "Undone"),
                        ],
                        default="giving",
                        max_length=10,
                    ),
                ),
                ("added", models.JSONField(default=list)),
                ("detail", models.TextField(blank=True, default="")),
                ("created_at", models.DateTimeField()),
                ("given_at", models.DateTimeField(blank=True, null=True)),
                ("expires_after_days", models.PositiveIntegerField(blank=True, null=True)),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
                ("warned_7_at", models.DateTimeField(blank=True, null=True)),
                ("warned_1_at", models.DateTimeField(blank=True, null=True)),
                ("next_removal_at", models.DateTimeField(blank=True, null=True)),
                (
                    "removal",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.RESTRICT,
                        related_name="+",
                        to="operations.operation",
                    ),
                ),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                ("asked_days", models.PositiveIntegerField(blank=True, null=True)),
                ("asked_reason", models.CharField(blank=True, default="", max_length=500)),
                ("asked_at", models.DateTimeField(blank=True, null=True)),
                (
                    "asked_by",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("asked_by_text", models.CharField(blank=True, default="", max_length=254)),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [
                    models.Index(fields=["organization", "-id"], name="access_grant_latest"),
                    models.Index(fields=["rule", "created_at"], name="access_grant_rule"),
                    models.Index(
                        condition=models.Q(("expires_at__isnull", False), ("status", "given")),
                        fields=["expires_at"],
                        name="access_grant_expiry",
                    ),
                    models.Index(fields=["operation"], name="access_grant_operation"),
                ],
                "constraints": [models.UniqueConstraint(fields=("event", "rule"), name="access_grant_once")],
            },
        ),
        migrations.CreateModel(
            name="InboundLink",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                ("uuid", models.UUIDField(default=uuid.uuid4, unique=True)),
                ("token_hash", models.CharField(max_length=64, unique=True)),
                (
                    "purpose",
                    models.CharField(
                        choices=[
                            ("confirm", "Confirm a request"),
                            ("request", "Request access"),
                            ("extend", "Ask for more time"),
                        ],
                        max_length=10,
                    ),
                ),
                ("email", models.CharField(blank=True, max_length=320)),
                (
                    "event",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="autoactivate.inboundevent",
                    ),
                ),
                (
                    "grant",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="autoactivate.accessgrant",
                    ),
                ),
                (
                    "account",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="users.account",
                    ),
                ),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("created_by", models.CharField(blank=True, max_length=254)),
                ("expires_at", models.DateTimeField()),
                ("used_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "abstract": False,
            },
        ),
    ]
