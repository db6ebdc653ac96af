"""Words to search by, imports of other logs, retention, clearances and verifications, beside the chain.

The index on actors is declared on the parent only and built at once where a partition is small; the backfill
`audit.partitions` builds the rest one partition at a time, because a month of millions of rows would hold up writers.
"""

import django.contrib.postgres.indexes
import django.contrib.postgres.search
import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
from django.contrib.postgres.operations import TrigramExtension
from django.db import migrations, models

ACTOR_INDEX = """
CREATE INDEX audit_event_actor ON ONLY audit_auditevent (actor_id, at DESC, id DESC);
DO $$
DECLARE
    part record;
BEGIN
    FOR part IN
        SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'audit_auditevent'::regclass AND pg_relation_size(inhrelid) < 64 * 1024 * 1024
        ORDER BY relname
    LOOP
        EXECUTE format('CREATE INDEX %I ON %I (actor_id, at DESC, id DESC)', part.relname || '_actor', part.relname);
        EXECUTE format('ALTER INDEX audit_event_actor ATTACH PARTITION %I', part.relname || '_actor');
    END LOOP;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("audit", "0001_initial"),
        ("organizations", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="ArchivePart",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.PositiveIntegerField()),
                ("data", models.BinaryField()),
            ],
            options={
                "ordering": ["number"],
            },
        ),
        migrations.CreateModel(
            name="AuditSearch",
            fields=[
                ("event_id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("words", django.contrib.postgres.search.SearchVectorField()),
            ],
            options={
                "verbose_name_plural": "audit search",
            },
        ),
        migrations.CreateModel(
            name="ImportedEvent",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("line", models.PositiveIntegerField()),
                ("at", models.DateTimeField()),
                ("operation", models.CharField(blank=True, max_length=300)),
                ("rule_name", models.CharField(blank=True, max_length=200)),
                ("performed_by", models.CharField(blank=True, max_length=320)),
                ("status", models.CharField(blank=True, max_length=60)),
                ("user_email", models.CharField(blank=True, max_length=320)),
                ("user_action", models.CharField(blank=True, max_length=300)),
                ("group_name", models.CharField(blank=True, max_length=300)),
                ("kind", models.CharField(blank=True, max_length=30)),
                ("outcome", models.CharField(blank=True, max_length=10)),
                ("digest", models.BinaryField(max_length=32)),
                ("erased_at", models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name="LogClearance",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("archiving", "Archiving"),
                            ("removing", "Removing"),
                            ("finished", "Cleared"),
                            ("failed", "Hidden, not removed"),
                        ],
                        default="archiving",
                        max_length=10,
                    ),
                ),
                ("requested_by", models.CharField(max_length=254)),
                ("requested_at", models.DateTimeField()),
                ("reason", models.CharField(blank=True, max_length=500)),
                ("through_event_id", models.BigIntegerField()),
                ("events", models.BigIntegerField(default=0)),
                ("removed", models.BigIntegerField(default=0)),
                ("operations", models.PositiveIntegerField(default=0)),
                ("detail", models.TextField(blank=True)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                ("sha256", models.CharField(blank=True, max_length=64)),
                ("size_bytes", models.BigIntegerField(default=0)),
                ("archive_removed_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="LogImport",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=200)),
                (
                    "status",
                    models.CharField(
                        choices=[("running", "In progress"), ("finished", "Completed"), ("failed", "Failed")],
                        default="running",
                        max_length=10,
                    ),
                ),
                ("content", models.BinaryField(null=True)),
                ("sha256", models.CharField(max_length=64)),
                ("size_bytes", models.PositiveIntegerField()),
                ("lines", models.PositiveIntegerField(default=0)),
                ("done", models.PositiveIntegerField(default=0)),
                ("added", models.PositiveIntegerField(default=0)),
                ("refused", models.PositiveIntegerField(default=0)),
                ("errors", models.JSONField(default=list)),
                ("detail", models.TextField(blank=True)),
                ("imported_by", models.CharField(max_length=254)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="RetentionPolicy",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("kind", models.CharField(max_length=30)),
                (
                    "days",
                    models.PositiveIntegerField(
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(3650),
                        ]
                    ),
                ),
                ("set_by", models.CharField(max_length=254)),
                ("set_at", models.DateTimeField()),
                ("last_run_at", models.DateTimeField(blank=True, null=True)),
                ("last_removed", models.BigIntegerField(default=0)),
            ],
            options={
                "verbose_name_plural": "retention policies",
            },
        ),
        migrations.CreateModel(
            name="Verification",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "status",
                    models.CharField(
                        choices=[("running", "In progress"), ("finished", "Finished"), ("failed", "Failed")],
                        default="running",
                        max_length=10,
                    ),
                ),
                ("requested_by", models.CharField(max_length=254)),
                ("started_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                ("segments_done", models.PositiveIntegerField(default=0)),
                ("segments_total", models.PositiveIntegerField(default=0)),
                ("alive_at", models.DateTimeField()),
                ("ok", models.BooleanField(blank=True, null=True)),
                ("report", models.JSONField(default=dict)),
                ("detail", models.TextField(blank=True)),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        TrigramExtension(),
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(ACTOR_INDEX, "DROP INDEX audit_event_actor")],
            state_operations=[
                migrations.AddIndex(
                    model_name="auditevent",
                    index=models.Index(fields=["actor", "-at", "-id"], name="audit_event_actor"),
                )
            ],
        ),
        migrations.AddField(
            model_name="archivepart",
            name="organization",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
            ),
        ),
        migrations.AddField(
            model_name="auditsearch",
            name="organization",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="organizations.organization",
            ),
        ),
        migrations.AddField(
            model_name="importedevent",
            name="organization",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="organizations.organization",
            ),
        ),
        migrations.AddField(
            model_name="logclearance",
            name="organization",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
            ),
        ),
        migrations.AddField(
            model_name="archivepart",
            name="clearance",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="parts", to="audit.logclearance"
            ),
        ),
        migrations.AddField(
            model_name="logimport",
            name="organization",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
            ),
        ),
        migrations.AddField(
            model_name="importedevent",
            name="log_import",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="events", to="audit.logimport"
            ),
        ),
        migrations.AddField(
            model_name="retentionpolicy",
            name="organization",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
            ),
        ),
        migrations.AddField(
            model_name="verification",
            name="organization",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
            ),
        ),
        migrations.AddIndex(
            model_name="auditsearch",
            index=models.Index(fields=["organization", "event_id"], name="audit_search_event"),
        ),
        migrations.AddIndex(
            model_name="auditsearch",
            index=django.contrib.postgres.indexes.GinIndex(fields=["words"], name="audit_search_words"),
        ),
        migrations.AddIndex(
            model_name="logclearance",
            index=models.Index(fields=["organization", "-through_event_id"], name="log_clearance_through"),
        ),
        migrations.AddConstraint(
            model_name="archivepart",
            constraint=models.UniqueConstraint(fields=("clearance", "number"), name="archive_part_once"),
        ),
        migrations.AddConstraint(
            model_name="logimport",
            constraint=models.UniqueConstraint(fields=("organization", "sha256"), name="log_import_file_once"),
        ),
        migrations.AddIndex(
            model_name="importedevent",
            index=models.Index(fields=["organization", "-at", "-id"], name="imported_event_latest"),
        ),
        migrations.AddIndex(
            model_name="importedevent",
            index=django.contrib.postgres.indexes.GinIndex(
                django.contrib.postgres.indexes.OpClass("performed_by", name="gin_trgm_ops"),
                django.contrib.postgres.indexes.OpClass("user_email", name="gin_trgm_ops"),
                name="imported_event_people",
            ),
        ),
        migrations.AddConstraint(
            model_name="importedevent",
            constraint=models.UniqueConstraint(fields=("organization", "digest"), name="imported_event_once"),
        ),
        migrations.AddConstraint(
            model_name="retentionpolicy",
            constraint=models.UniqueConstraint(fields=("organization", "kind"), name="retention_kind_once"),
        ),
        migrations.AddConstraint(
            model_name="retentionpolicy",
            constraint=models.CheckConstraint(condition=models.Q(("days__gte", 1)), name="retention_days_positive"),
        ),
        migrations.AddConstraint(
            model_name="verification",
            constraint=models.UniqueConstraint(
                condition=models.Q(("status", "running")), fields=("organization",), name="verification_one_running"
            ),
        ),
    ]
