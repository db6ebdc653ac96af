"""The schema of a new installation in one step; older ones went through the migrations that this replaces."""

import datetime
import uuid

import django.db.models.deletion
import django.db.models.expressions
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    replaces = [
        ("operations", "0001_initial"),
        ("operations", "0002_initial"),
        ("operations", "0003_count_the_day_from_items"),
        ("operations", "0004_loosen_with_a_second_person"),
        ("operations", "0005_rule_safeguards"),
        ("operations", "0006_undo_of_many_and_marks"),
        ("operations", "0007_hand_off"),
    ]

    initial = True

    dependencies = [
        ("operators", "0001_squashed"),
        ("organizations", "0001_squashed"),
        ("users", "0001_squashed"),
    ]

    operations = [
        migrations.CreateModel(
            name="BrakeState",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("organization",), name="brake_state_once")],
            },
        ),
        migrations.CreateModel(
            name="Operation",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                ("number", models.PositiveIntegerField()),
                ("uuid", models.UUIDField(default=uuid.uuid4, unique=True)),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("scheduled_cleanup", "Scheduled Cleanup"),
                            ("automation_rule", "Automation Rule"),
                            ("manual_operation", "Manual Operation"),
                            ("user_import", "User Import"),
                            ("bulk_csv_action", "Bulk CSV Action"),
                            ("activation", "Activation"),
                        ],
                        max_length=30,
                    ),
                ),
                ("mode", models.CharField(choices=[("safe", "Safe mode"), ("live", "Live mode")], max_length=10)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("planning", "Planning"),
                            ("held", "Held"),
                            ("queued", "Queued"),
                            ("running", "In progress"),
                            ("waiting", "Waiting"),
                            ("paused", "Paused"),
                            ("previewed", "Previewed"),
                            ("succeeded", "Success"),
                            ("partial_failure", "Partial failure"),
                            ("failed", "Failed"),
                            ("no_effect", "No effect"),
                            ("cancelled", "Cancelled"),
                            ("rejected", "Rejected"),
                            ("expired", "Expired"),
                            ("superseded", "Superseded"),
                        ],
                        default="planning",
                        max_length=20,
                    ),
                ),
                (
                    "initiator",
                    models.CharField(choices=[("manual", "Manual"), ("automated", "Automated")], max_length=20),
                ),
                (
                    "actor",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("actor_text", models.CharField(max_length=254)),
                ("actor_ip", models.GenericIPAddressField(blank=True, null=True)),
                ("is_by_token", models.BooleanField(default=False)),
                ("name", models.CharField(max_length=200)),
                ("action", models.CharField(max_length=300)),
                ("reason", models.TextField(blank=True)),
                ("rule_id", models.BigIntegerField(blank=True, null=True)),
                ("rule_version", models.PositiveIntegerField(blank=True, null=True)),
                ("frozen", models.JSONField(default=dict)),
                ("sentence", models.TextField(blank=True)),
                ("request", models.JSONField(default=dict)),
                ("plan_hash", models.CharField(blank=True, max_length=64)),
                ("planned_count", models.PositiveIntegerField(default=0)),
                ("people_count", models.PositiveIntegerField(default=0)),
                ("licensed_count", models.PositiveIntegerField(default=0)),
                ("left_out", models.JSONField(default=dict)),
                ("outcomes", models.JSONField(default=dict)),
                ("seats", models.JSONField(blank=True, null=True)),
                ("verification", models.JSONField(blank=True, null=True)),
                ("progress_done", models.PositiveIntegerField(default=0)),
                ("progress_total", models.PositiveIntegerField(default=0)),
                ("held_reasons", models.JSONField(default=list)),
                ("is_approved", models.BooleanField(default=False)),
                ("status_detail", models.TextField(blank=True)),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
                (
                    "applies",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.RESTRICT,
                        related_name="applied_by",
                        to="operations.operation",
                    ),
                ),
                (
                    "undo_of",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.RESTRICT,
                        related_name="undone_by",
                        to="operations.operation",
                    ),
                ),
                (
                    "retry_of",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.RESTRICT,
                        related_name="retried_by",
                        to="operations.operation",
                    ),
                ),
                ("sync_run_id", models.BigIntegerField(blank=True, null=True)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("planned_at", models.DateTimeField(blank=True, null=True)),
                ("started_at", models.DateTimeField(blank=True, null=True)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                ("waiting_until", models.DateTimeField(blank=True, null=True)),
                ("first_write_at", models.DateTimeField(blank=True, null=True)),
                ("driven_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [
                    models.Index(fields=["organization", "-id"], name="operation_latest"),
                    models.Index(fields=["status"], name="operation_status"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("organization", "number"), name="operation_number_once"),
                    models.UniqueConstraint(
                        condition=models.Q(
                            ("status__in", ["planning", "held", "queued", "running", "waiting", "paused"]),
                            ("rule_id__isnull", False),
                        ),
                        fields=("rule_id",),
                        name="operation_one_open_per_rule",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(
                            ("status__in", ["cancelled", "rejected", "expired", "superseded"]), _negated=True
                        ),
                        fields=("applies",),
                        name="operation_applied_once",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="SafeguardChange",
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
                            ("settings", "Settings"),
                            ("unprotect_group", "End of a group's protection"),
                            ("licence_only", "Group marked licence-only"),
                            ("release_kind", "Account treated like a person"),
                            ("rule", "Safeguards of a rule"),
                        ],
                        max_length=20,
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("pending", "Waits for approval"),
                            ("approved", "Approved"),
                            ("applied", "In force"),
                            ("rejected", "Rejected"),
                            ("withdrawn", "Withdrawn"),
                            ("superseded", "Superseded"),
                            ("void", "No longer possible"),
                        ],
                        default="pending",
                        max_length=10,
                    ),
                ),
                ("changes", models.JSONField(blank=True, default=dict)),
                (
                    "group",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="users.group",
                    ),
                ),
                (
                    "account",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="users.account",
                    ),
                ),
                ("rule_id", models.BigIntegerField(blank=True, null=True)),
                ("rule_name", models.CharField(blank=True, db_default="", default="", max_length=120)),
                ("reason", models.TextField()),
                (
                    "proposed_by",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("proposed_by_text", models.CharField(max_length=254)),
                ("proposed_at", models.DateTimeField()),
                (
                    "approved_by",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("approved_by_text", models.CharField(blank=True, max_length=254)),
                ("approved_at", models.DateTimeField(blank=True, null=True)),
                ("is_one_operator", models.BooleanField(default=False)),
                ("effective_at", models.DateTimeField(blank=True, null=True)),
                ("applied_at", models.DateTimeField(blank=True, null=True)),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                ("ended_by_text", models.CharField(blank=True, max_length=254)),
                ("ending_reason", models.TextField(blank=True)),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("status__in", ["pending", "approved"])),
                        fields=["organization", "id"],
                        name="safeguard_open",
                    )
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("account__isnull", True), ("group__isnull", True), ("kind__in", ["settings", "rule"])
                            ),
                            models.Q(
                                ("account__isnull", True),
                                ("group__isnull", False),
                                ("kind__in", ["unprotect_group", "licence_only"]),
                            ),
                            models.Q(("account__isnull", False), ("group__isnull", True), ("kind", "release_kind")),
                            _connector="OR",
                        ),
                        name="safeguard_is_about_one_thing",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("kind", "rule"), ("rule_id__isnull", False)),
                            models.Q(models.Q(("kind", "rule"), _negated=True), ("rule_id__isnull", True)),
                            _connector="OR",
                        ),
                        name="safeguard_rule_iff_rule",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("is_one_operator", True),
                            models.Q(("approved_by", models.F("proposed_by")), _negated=True),
                            _connector="OR",
                        ),
                        name="safeguard_approved_by_another",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("status__in", ["approved", "applied"]), _negated=True),
                            (
                                "effective_at__gte",
                                django.db.models.expressions.CombinedExpression(
                                    models.F("approved_at"), "+", models.Value(datetime.timedelta(seconds=3600))
                                ),
                            ),
                            _connector="OR",
                        ),
                        name="safeguard_waits_an_hour",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("applied_at__gte", models.F("effective_at")), ("status", "applied")),
                            models.Q(models.Q(("status", "applied"), _negated=True), ("applied_at__isnull", True)),
                            _connector="OR",
                        ),
                        name="safeguard_applied_when_due",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Approval",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                (
                    "operation",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="approvals", to="operations.operation"
                    ),
                ),
                ("plan_hash", models.CharField(max_length=64)),
                (
                    "decision",
                    models.CharField(choices=[("approved", "Approved"), ("rejected", "Rejected")], max_length=10),
                ),
                (
                    "decided_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("decided_by_text", models.CharField(max_length=254)),
                ("decided_at", models.DateTimeField()),
                ("reason", models.TextField(blank=True)),
                ("count", models.PositiveIntegerField()),
                ("is_one_operator", models.BooleanField(default=False)),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="HandOff",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                (
                    "operation",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="hand_offs", to="operations.operation"
                    ),
                ),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="users.account"
                    ),
                ),
                ("action", models.CharField(max_length=40)),
                ("target", models.CharField(blank=True, db_default="", max_length=400)),
                ("target_name", models.CharField(blank=True, db_default="", max_length=300)),
                ("detail", models.TextField(blank=True, db_default="")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("open", "Open"),
                            ("done", "Done"),
                            ("came_back", "Came back"),
                            ("closed", "Closed by hand"),
                        ],
                        default="open",
                        max_length=10,
                    ),
                ),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("changed_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("changed_by", models.CharField(blank=True, db_default="", max_length=254)),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("state__in", ["open", "came_back"])),
                        fields=["account", "action"],
                        name="hand_off_open",
                    ),
                    models.Index(fields=["organization", "state", "-id"], name="hand_off_state"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("operation", "account", "action", "target"), name="hand_off_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="LeftOut",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                (
                    "operation",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="left_out_rows",
                        to="operations.operation",
                    ),
                ),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="users.account"
                    ),
                ),
                ("reason", models.CharField(max_length=40)),
                ("detail", models.TextField(blank=True, db_default="")),
            ],
            options={
                "indexes": [models.Index(fields=["operation", "reason", "id"], name="left_out_reason")],
                "constraints": [models.UniqueConstraint(fields=("operation", "account"), name="left_out_once")],
            },
        ),
        migrations.CreateModel(
            name="OperationItem",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                (
                    "operation",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="items", to="operations.operation"
                    ),
                ),
                (
                    "account",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.RESTRICT,
                        related_name="+",
                        to="users.account",
                    ),
                ),
                ("subject", models.CharField(max_length=320)),
                ("action", models.CharField(max_length=40)),
                ("target", models.CharField(blank=True, default="", max_length=400)),
                ("rank", models.PositiveSmallIntegerField(default=0)),
                ("parameters", models.JSONField(default=dict)),
                ("reason", models.JSONField(default=dict)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("pending", "To go"),
                            ("claimed", "Working"),
                            ("in_doubt", "Being confirmed"),
                            ("finished", "Finished"),
                        ],
                        default="pending",
                        max_length=10,
                    ),
                ),
                (
                    "outcome",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("done", "Done"),
                            ("already_so", "Already so"),
                            ("skipped_protected", "Skipped: protected"),
                            ("skipped_exempt", "Skipped: exempt"),
                            ("skipped_active_again", "Skipped: active again"),
                            ("skipped_not_managed", "Skipped: not managed"),
                            ("skipped_notice_missing", "Skipped: notice missing"),
                            ("skipped_shared_group", "Skipped: shared group"),
                            ("skipped_conflict", "Skipped: changed since"),
                            ("skipped_gone", "Skipped: gone"),
                            ("skipped_held_row", "Skipped: held back"),
                            ("no_effect_seat_kept", "No effect: seat kept"),
                            ("handed_off", "Handed off"),
                            ("unresolved", "Unresolved"),
                            ("failed", "Failed"),
                            ("failed_licence_limit", "Failed: no free licence"),
                            ("cancelled", "Cancelled"),
                            ("not_attempted", "Not attempted"),
                        ],
                        default="",
                        max_length=30,
                    ),
                ),
                ("detail", models.TextField(blank=True, default="")),
                ("before", models.JSONField(blank=True, null=True)),
                ("after", models.JSONField(blank=True, null=True)),
                ("lease_token", models.UUIDField(blank=True, null=True)),
                ("lease_until", models.DateTimeField(blank=True, null=True)),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                ("written_at", models.DateTimeField(blank=True, null=True)),
                ("is_answered", models.BooleanField(default=False)),
                ("doubt_reads", models.PositiveSmallIntegerField(default=0)),
                ("next_read_at", models.DateTimeField(blank=True, null=True)),
                ("atlassian_request_id", models.CharField(blank=True, default="", max_length=128)),
                ("call_id", models.CharField(blank=True, default="", max_length=64)),
                ("claimed_at", models.DateTimeField(blank=True, null=True)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("status", "pending")),
                        fields=["operation", "rank", "id"],
                        name="item_pending",
                    ),
                    models.Index(
                        condition=models.Q(("status__in", ["claimed", "in_doubt"])),
                        fields=["status", "lease_until"],
                        name="item_open",
                    ),
                    models.Index(fields=["operation", "outcome", "id"], name="item_outcome"),
                    models.Index(
                        condition=models.Q(("written_at__isnull", False)),
                        fields=["organization", "written_at"],
                        name="item_written",
                    ),
                    models.Index(fields=["account", "-id"], name="item_account"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("operation", "subject", "action", "target"), name="item_once"),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("finished_at__isnull", False),
                                ("status", "finished"),
                                models.Q(("outcome", ""), _negated=True),
                            ),
                            models.Q(models.Q(("status", "finished"), _negated=True), ("outcome", "")),
                            _connector="OR",
                        ),
                        name="item_outcome_iff_finished",
                    ),
                ],
            },
        ),
    ]
