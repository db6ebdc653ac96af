"""The schema of a new installation in one step; older ones went through the migrations that this replaces."""

import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.db.models.deletion
import django.db.models.functions.datetime
import django.db.models.functions.text
from django.conf import settings
from django.contrib.postgres.operations import TrigramExtension
from django.db import migrations, models

import apps.users.expressions


class Migration(migrations.Migration):
    replaces = [
        ("users", "0001_initial"),
        ("users", "0002_imports"),
        ("users", "0003_explorer"),
        ("users", "0004_import_faults"),
        ("users", "0005_import_products"),
        ("users", "0006_exempt_sets"),
    ]

    initial = True

    dependencies = [
        ("operators", "0001_squashed"),
        ("organizations", "0001_squashed"),
    ]

    operations = [
        TrigramExtension(),
        migrations.CreateModel(
            name="Account",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="organizations.organization",
                    ),
                ),
                ("account_id", models.CharField(max_length=128)),
                ("name", models.CharField(max_length=500)),
                ("sort_name", models.CharField(db_collation="C", max_length=500)),
                ("email", models.CharField(blank=True, max_length=320, null=True)),
                (
                    "account_status",
                    models.SmallIntegerField(
                        choices=[(0, "Not known"), (1, "Active"), (2, "Deactivated"), (3, "Deleted")]
                    ),
                ),
                (
                    "membership_status",
                    models.SmallIntegerField(
                        choices=[(0, "Not known"), (1, "Active"), (2, "Suspended"), (3, "No membership")]
                    ),
                ),
                ("claim_status", models.SmallIntegerField(choices=[(0, "Not known"), (1, "Managed"), (2, "External")])),
                (
                    "management_source",
                    models.SmallIntegerField(
                        choices=[(0, "Not known"), (1, "Invited"), (2, "Identity provider")], default=0
                    ),
                ),
                ("is_for_deletion", models.BooleanField(default=False)),
                (
                    "kind",
                    models.SmallIntegerField(
                        choices=[(1, "Person"), (2, "Service"), (3, "App"), (4, "Bot")], default=1
                    ),
                ),
                ("is_kind_released", models.BooleanField(default=False)),
                ("added_to_org_at", models.DateTimeField(blank=True, null=True)),
                ("products", models.IntegerField(default=0)),
                ("last_active_at", models.DateTimeField(blank=True, null=True)),
                ("has_unknown_activity", models.BooleanField(default=False)),
                ("is_activity_read", models.BooleanField(default=False)),
                (
                    "jira_activity",
                    models.SmallIntegerField(
                        choices=[(0, "Not applicable"), (1, "Not known"), (2, "Never"), (3, "Known")], default=0
                    ),
                ),
                ("jira_last_active_at", models.DateTimeField(blank=True, null=True)),
                ("jira_granted_seen_at", models.DateTimeField(blank=True, null=True)),
                (
                    "confluence_activity",
                    models.SmallIntegerField(
                        choices=[(0, "Not applicable"), (1, "Not known"), (2, "Never"), (3, "Known")], default=0
                    ),
                ),
                ("confluence_last_active_at", models.DateTimeField(blank=True, null=True)),
                ("confluence_granted_seen_at", models.DateTimeField(blank=True, null=True)),
                (
                    "jsm_activity",
                    models.SmallIntegerField(
                        choices=[(0, "Not applicable"), (1, "Not known"), (2, "Never"), (3, "Known")], default=0
                    ),
                ),
                ("jsm_last_active_at", models.DateTimeField(blank=True, null=True)),
                ("jsm_granted_seen_at", models.DateTimeField(blank=True, null=True)),
                (
                    "bitbucket_activity",
                    models.SmallIntegerField(
                        choices=[(0, "Not applicable"), (1, "Not known"), (2, "Never"), (3, "Known")], default=0
                    ),
                ),
                ("bitbucket_last_active_at", models.DateTimeField(blank=True, null=True)),
                ("bitbucket_granted_seen_at", models.DateTimeField(blank=True, null=True)),
                (
                    "group_ids",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(), default=list, size=None
                    ),
                ),
                ("is_org_admin", models.BooleanField(default=False)),
                ("is_site_admin", models.BooleanField(default=False)),
                ("is_connection_owner", models.BooleanField(default=False)),
                ("status_changed_at", models.DateTimeField(blank=True, null=True)),
                ("idle_floor_at", models.DateTimeField(blank=True, null=True)),
                ("exempt_until", models.DateTimeField(blank=True, null=True)),
                ("pending_until", models.DateTimeField(blank=True, null=True)),
                ("vanished_at", models.DateTimeField(blank=True, null=True)),
                ("vanished_in_run", models.BigIntegerField(blank=True, null=True)),
                ("activity_lost_in_run", models.BigIntegerField(blank=True, null=True)),
                ("first_seen_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("synced_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["organization", "sort_name", "id"], name="account_sort"),
                    models.Index(
                        fields=[
                            "organization",
                            "account_status",
                            "membership_status",
                            "claim_status",
                            "sort_name",
                            "id",
                        ],
                        name="account_status_sort",
                    ),
                    models.Index(
                        models.F("organization"),
                        apps.users.expressions.SortInstant("last_active_at"),
                        models.F("id"),
                        name="account_last_active",
                    ),
                    models.Index(
                        models.F("organization"),
                        apps.users.expressions.SortInstant("added_to_org_at"),
                        models.F("id"),
                        name="account_added",
                    ),
                    models.Index(
                        models.F("organization"),
                        apps.users.expressions.SortInstant("jira_last_active_at"),
                        models.F("id"),
                        name="account_jira_active",
                    ),
                    models.Index(
                        models.F("organization"),
                        apps.users.expressions.SortInstant("confluence_last_active_at"),
                        models.F("id"),
                        name="account_confluence_active",
                    ),
                    models.Index(
                        models.F("organization"),
                        apps.users.expressions.SortInstant("jsm_last_active_at"),
                        models.F("id"),
                        name="account_jsm_active",
                    ),
                    models.Index(
                        models.F("organization"),
                        apps.users.expressions.SortInstant("bitbucket_last_active_at"),
                        models.F("id"),
                        name="account_bitbucket_active",
                    ),
                    models.Index(
                        models.F("organization"),
                        django.contrib.postgres.indexes.OpClass(
                            django.db.models.functions.text.Lower("email"), name="text_pattern_ops"
                        ),
                        name="account_email_prefix",
                    ),
                    models.Index(
                        condition=models.Q(("pending_until__isnull", False)),
                        fields=["organization", "pending_until"],
                        name="account_pending",
                    ),
                    django.contrib.postgres.indexes.GinIndex(fields=["group_ids"], name="account_groups"),
                    django.contrib.postgres.indexes.GinIndex(
                        fields=["sort_name", "email"], name="account_text", opclasses=["gin_trgm_ops", "gin_trgm_ops"]
                    ),
                ],
                "constraints": [models.UniqueConstraint(fields=("organization", "account_id"), name="account_id_once")],
            },
        ),
        migrations.CreateModel(
            name="ColumnChoice",
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
                    "columns",
                    django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=40), size=None),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("operator", "organization"), name="column_choice_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="ExportJob",
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
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("requested_by", models.CharField(max_length=254)),
                (
                    "format",
                    models.CharField(
                        choices=[("csv", "CSV"), ("xlsx", "Excel workbook")], default="csv", max_length=10
                    ),
                ),
                ("query", models.TextField(blank=True)),
                (
                    "account_pks",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(), blank=True, null=True, size=None
                    ),
                ),
                ("ordering", models.CharField(default="name", max_length=40)),
                (
                    "columns",
                    django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=40), size=None),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("queued", "Queued"),
                            ("running", "In progress"),
                            ("succeeded", "Success"),
                            ("failed", "Failed"),
                            ("cancelled", "Cancelled"),
                            ("expired", "Expired"),
                        ],
                        default="queued",
                        max_length=12,
                    ),
                ),
                ("rows_total", models.IntegerField(default=0)),
                ("rows_done", models.IntegerField(default=0)),
                ("file_name", models.CharField(blank=True, max_length=120)),
                ("size_bytes", models.BigIntegerField(default=0)),
                ("error", models.CharField(blank=True, max_length=500)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("started_at", models.DateTimeField(blank=True, null=True)),
                ("alive_at", models.DateTimeField(blank=True, null=True)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("status__in", ["queued", "running"])),
                        fields=["status"],
                        name="export_job_open",
                    ),
                    models.Index(
                        condition=models.Q(("status", "succeeded")), fields=["expires_at"], name="export_job_expires"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Group",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                (
                    "directory",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="groups", to="organizations.directory"
                    ),
                ),
                ("group_id", models.CharField(max_length=128)),
                ("name", models.CharField(max_length=255)),
                ("description", models.TextField(blank=True)),
                ("is_synced", models.BooleanField(default=False)),
                ("managed_by", models.CharField(blank=True, max_length=40)),
                ("grants", models.JSONField(default=list)),
                ("are_grants_known", models.BooleanField(default=False)),
                ("granted_products", models.IntegerField(default=0)),
                ("is_administrative", models.BooleanField(default=False)),
                ("is_licence_only", models.BooleanField(default=False)),
                ("member_count", models.IntegerField(default=0)),
                ("vanished_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ["name"],
                "indexes": [models.Index(fields=["organization", "name"], name="group_name")],
                "constraints": [models.UniqueConstraint(fields=("directory", "group_id"), name="group_id_once")],
            },
        ),
        migrations.CreateModel(
            name="ImportFile",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                ("name", models.CharField(max_length=200)),
                ("size_bytes", models.IntegerField()),
                ("content", models.BinaryField(null=True)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("reading", "Being read"),
                            ("read", "To be checked"),
                            ("checked", "Checked"),
                            ("failed", "Cannot be read"),
                        ],
                        default="reading",
                        max_length=20,
                    ),
                ),
                ("error", models.CharField(blank=True, max_length=500)),
                ("layout", models.CharField(blank=True, max_length=40)),
                ("headers", models.JSONField(default=list)),
                ("mapping", models.JSONField(default=dict)),
                ("lines", models.IntegerField(default=0)),
                ("rows_total", models.IntegerField(blank=True, null=True)),
                ("rows_stored", models.IntegerField(default=0)),
                ("counts", models.JSONField(default=dict)),
                ("uploaded_by", models.CharField(max_length=254)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("checked_at", models.DateTimeField(blank=True, null=True)),
                ("activity_used_at", models.DateTimeField(blank=True, null=True)),
                ("activity_used_by", models.CharField(blank=True, db_default="", max_length=254)),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="SavedView",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                ("name", models.CharField(max_length=80)),
                (
                    "owner",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("owner_text", models.CharField(max_length=254)),
                ("is_shared", models.BooleanField(default=False)),
                ("params", models.JSONField(default=dict)),
                ("ordering", models.CharField(default="name", max_length=40)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("changed_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "ordering": ["name", "id"],
                "constraints": [
                    models.UniqueConstraint(
                        models.F("organization"),
                        django.db.models.functions.text.Lower("name"),
                        condition=models.Q(("is_shared", True)),
                        name="shared_view_name_once",
                    ),
                    models.UniqueConstraint(
                        models.F("organization"),
                        models.F("owner"),
                        django.db.models.functions.text.Lower("name"),
                        condition=models.Q(("is_shared", False)),
                        name="private_view_name_once",
                    ),
                    models.CheckConstraint(condition=models.Q(("name", ""), _negated=True), name="saved_view_has_name"),
                ],
            },
        ),
        migrations.CreateModel(
            name="SyncRun",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("queued", "Queued"),
                            ("running", "In progress"),
                            ("succeeded", "Success"),
                            ("partial", "Partial"),
                            ("failed", "Failed"),
                            ("cancelled", "Cancelled"),
                        ],
                        default="queued",
                        max_length=20,
                    ),
                ),
                ("initiator", models.CharField(default="manual", max_length=20)),
                ("started_by", models.CharField(blank=True, max_length=254)),
                ("phase", models.CharField(default="queued", max_length=40)),
                ("cursor", models.JSONField(default=dict)),
                ("found", models.JSONField(default=dict)),
                ("people_seen", models.IntegerField(default=0)),
                ("people_total", models.IntegerField(blank=True, null=True)),
                ("groups_seen", models.IntegerField(default=0)),
                ("people_added", models.IntegerField(default=0)),
                ("people_changed", models.IntegerField(default=0)),
                ("people_vanished", models.IntegerField(default=0)),
                ("trust", models.JSONField(default=dict)),
                ("is_trusted", models.BooleanField(blank=True, null=True)),
                ("distrust_reasons", models.JSONField(default=list)),
                ("baseline_accepted_by", models.CharField(blank=True, max_length=254)),
                ("baseline_accepted_at", models.DateTimeField(blank=True, null=True)),
                ("baseline_reason", models.CharField(blank=True, max_length=500)),
                ("error_code", models.CharField(blank=True, max_length=60)),
                ("error_detail", models.TextField(blank=True)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("started_at", models.DateTimeField(blank=True, null=True)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                ("lease_token", models.UUIDField(blank=True, null=True)),
                ("lease_until", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ["-id"],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("status__in", ["queued", "running"])),
                        fields=("organization",),
                        name="sync_one_open",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="DirectoryMembership",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="organizations.organization",
                    ),
                ),
                (
                    "account",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="directory_memberships",
                        to="users.account",
                    ),
                ),
                (
                    "directory",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="memberships",
                        to="organizations.directory",
                    ),
                ),
                (
                    "status",
                    models.SmallIntegerField(
                        choices=[(0, "Not known"), (1, "Active"), (2, "Suspended"), (3, "No membership")]
                    ),
                ),
                (
                    "management_source",
                    models.SmallIntegerField(
                        choices=[(0, "Not known"), (1, "Invited"), (2, "Identity provider")], default=0
                    ),
                ),
                ("added_at", models.DateTimeField(blank=True, null=True)),
                ("digest", models.UUIDField(blank=True, null=True)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("account", "directory"), name="directory_membership_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="Exemption",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                (
                    "account",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="exemptions",
                        to="users.account",
                    ),
                ),
                (
                    "group",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="exemptions",
                        to="users.group",
                    ),
                ),
                ("domain", models.CharField(blank=True, db_default="", max_length=253)),
                (
                    "account_kind",
                    models.SmallIntegerField(
                        blank=True, choices=[(1, "Person"), (2, "Service"), (3, "App"), (4, "Bot")], null=True
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("exemption", "Exemption"), ("snooze", "Snooze")], default="exemption", max_length=20
                    ),
                ),
                ("reason", models.CharField(max_length=500)),
                ("starts_at", models.DateTimeField()),
                ("until", models.DateTimeField(blank=True, null=True)),
                ("set_by", models.CharField(max_length=254)),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                ("reminded_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ["-starts_at"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("reason", ""), _negated=True), name="exemption_has_reason"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("account__isnull", False),
                                ("account_kind__isnull", True),
                                ("domain", ""),
                                ("group__isnull", True),
                            ),
                            models.Q(
                                ("account__isnull", True),
                                ("account_kind__isnull", True),
                                ("domain", ""),
                                ("group__isnull", False),
                            ),
                            models.Q(
                                ("account__isnull", True),
                                ("account_kind__isnull", True),
                                ("group__isnull", True),
                                models.Q(("domain", ""), _negated=True),
                            ),
                            models.Q(
                                ("account__isnull", True),
                                ("account_kind__isnull", False),
                                ("domain", ""),
                                ("group__isnull", True),
                            ),
                            _connector="OR",
                        ),
                        name="exemption_of_one_thing",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="GroupMembership",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="organizations.organization",
                    ),
                ),
                (
                    "account",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="group_memberships",
                        to="users.account",
                    ),
                ),
                (
                    "group",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="memberships",
                        to="users.group",
                    ),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("account", "group"), name="group_membership_once")],
            },
        ),
        migrations.CreateModel(
            name="ImportRow",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="organizations.organization",
                    ),
                ),
                (
                    "import_file",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="rows",
                        to="users.importfile",
                    ),
                ),
                ("line", models.IntegerField()),
                ("cells", models.JSONField()),
                ("last_seen", models.JSONField(default=dict)),
                ("is_ragged", models.BooleanField(default=False)),
                ("fault", models.TextField(blank=True, db_default="")),
                ("notes", models.TextField(blank=True, db_default="")),
                ("holds", models.JSONField(db_default=models.Value({}, models.JSONField()), default=dict)),
                ("sightings", models.JSONField(db_default=models.Value([], models.JSONField()), default=list)),
                ("is_never", models.BooleanField(db_default=False, default=False)),
                ("account_id_text", models.TextField(blank=True)),
                ("email", models.TextField(blank=True)),
                (
                    "code",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("ragged", "More cells than headings: a comma in a cell needs quotation marks"),
                            ("empty", "Neither account id nor e-mail"),
                            ("malformed", "Not an e-mail address"),
                            ("unknown", "No such user in the directory"),
                            ("ambiguous", "More than one user has this e-mail; give the account id"),
                            ("duplicate", "The same user as an earlier line"),
                        ],
                        max_length=20,
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
                ("disagrees", models.SmallIntegerField(default=0)),
            ],
            options={
                "indexes": [models.Index(fields=["import_file", "code", "line"], name="import_row_code")],
                "constraints": [models.UniqueConstraint(fields=("import_file", "line"), name="import_line_once")],
            },
        ),
        migrations.CreateModel(
            name="ProductAccess",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="organizations.organization",
                    ),
                ),
                (
                    "account",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="product_access",
                        to="users.account",
                    ),
                ),
                ("product", models.CharField(max_length=60)),
                ("resource", models.CharField(max_length=300, verbose_name="resource ARI")),
                ("site", models.CharField(blank=True, max_length=300, verbose_name="site address or name")),
                (
                    "activity",
                    models.SmallIntegerField(
                        choices=[(0, "Not applicable"), (1, "Not known"), (2, "Never"), (3, "Known")]
                    ),
                ),
                ("last_active_at", models.DateTimeField(blank=True, null=True)),
                ("source", models.CharField(default="api", max_length=20)),
                ("source_at", models.DateTimeField(blank=True, null=True)),
                ("granted_seen_at", models.DateTimeField(blank=True, null=True)),
                (
                    "group_ids",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(), default=list, size=None
                    ),
                ),
                ("direct", models.SmallIntegerField(choices=[(0, "Not read"), (1, "No"), (2, "Yes")], default=0)),
            ],
            options={
                "verbose_name_plural": "product access",
                "indexes": [models.Index(fields=["organization", "product"], name="product_access_product")],
                "constraints": [
                    models.UniqueConstraint(fields=("account", "product", "resource"), name="product_access_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="ProtectedGroup",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
                    ),
                ),
                (
                    "group",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT, related_name="protection", to="users.group"
                    ),
                ),
                ("added_at", models.DateTimeField()),
                ("added_by", models.CharField(max_length=254)),
            ],
            options={
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="SyncedPerson",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "sync_run",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="users.syncrun",
                    ),
                ),
                ("directory", models.BigIntegerField()),
                ("page", models.IntegerField()),
                ("account_id", models.CharField(max_length=128)),
                ("name", models.CharField(max_length=500)),
                ("sort_name", models.CharField(max_length=500)),
                ("email", models.CharField(max_length=320, null=True)),
                ("account_status", models.SmallIntegerField()),
                ("membership_status", models.SmallIntegerField()),
                ("claim_status", models.SmallIntegerField()),
                ("management_source", models.SmallIntegerField()),
                ("is_for_deletion", models.BooleanField()),
                ("kind", models.SmallIntegerField()),
                ("added_to_org_at", models.DateTimeField(null=True)),
                ("is_org_admin", models.BooleanField(null=True)),
                ("is_site_admin", models.BooleanField(null=True)),
                (
                    "products",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=60), null=True, size=None
                    ),
                ),
                (
                    "resources",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=300), null=True, size=None
                    ),
                ),
                (
                    "last_active",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.DateTimeField(null=True), null=True, size=None
                    ),
                ),
                (
                    "groups",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(), null=True, size=None
                    ),
                ),
                ("digest", models.UUIDField()),
            ],
            options={
                "indexes": [models.Index(fields=["sync_run", "account_id"], name="synced_person_run")],
            },
        ),
        # Staging is thrown away after each sync, so it need not be in the write-ahead log.
        migrations.RunSQL("ALTER TABLE users_syncedperson SET UNLOGGED", "ALTER TABLE users_syncedperson SET LOGGED"),
    ]
