"""Tables of the audit log: events partitioned by month, identities, segments, checkpoints, and the guards on all four.

The events' table is SQL, because Django knows no partitions. Only the DEFAULT partition is made here; the months follow
after each `migrate` and daily (`apps.audit.services.ensure_partitions`).
"""

import django.db.models.deletion
from django.db import migrations, models

import apps.audit.models

EVENTS = """
CREATE SEQUENCE audit_auditevent_id_seq AS bigint;
CREATE TABLE audit_auditevent (
    id bigint NOT NULL DEFAULT nextval('audit_auditevent_id_seq'),
    organization_id bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor_kind varchar(30) NOT NULL,
    actor_id bigint NOT NULL,
    action varchar(60) NOT NULL,
    outcome varchar(10) NOT NULL CHECK (outcome IN ('success', 'failed', 'warning', 'skipped', 'info')),
    target_kind varchar(30) NOT NULL,
    target_id bigint,
    target_ref varchar(200) NOT NULL,
    operation_id bigint,
    operation_number integer,
    rule_id bigint,
    rule_name varchar(200) NOT NULL,
    rule_version integer,
    group_name varchar(300) NOT NULL,
    reason text NOT NULL,
    before jsonb,
    after jsonb,
    correlation_id uuid,
    request_id varchar(200) NOT NULL,
    call_id varchar(64) NOT NULL,
    http_request_id varchar(64) NOT NULL,
    ip_address inet,
    schema_version smallint NOT NULL,
    -- The sealer walks one organisation by id; the partition key has to be part of the primary key.
    PRIMARY KEY (organization_id, id, at)
) PARTITION BY RANGE (at);
ALTER SEQUENCE audit_auditevent_id_seq OWNED BY audit_auditevent.id;

CREATE INDEX audit_event_latest ON audit_auditevent (organization_id, at DESC, id DESC);
CREATE INDEX audit_event_failed ON audit_auditevent (organization_id, at DESC, id DESC) WHERE outcome = 'failed';
CREATE INDEX audit_event_correlation ON audit_auditevent (correlation_id) WHERE correlation_id IS NOT NULL;
CREATE INDEX audit_event_operation ON audit_auditevent (operation_id, id) WHERE operation_id IS NOT NULL;
CREATE INDEX audit_event_target ON audit_auditevent (target_id, at) WHERE target_id IS NOT NULL;
"""

# The guards stop mistakes and make an attack leave traces; the chain is what proves. A superuser can disable them.
GUARDS = """
CREATE FUNCTION audit_guard_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('aum.audit_purge', true) = 'on' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'Audit events are appended, never changed: % refused.', TG_OP
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER audit_guard_event BEFORE UPDATE OR DELETE ON audit_auditevent
    FOR EACH ROW EXECUTE FUNCTION audit_guard_event();

-- Statement triggers do not pass on to partitions, so each partition gets this one too. An installation that never
-- sealed has nothing to lose yet: a set-up that failed may be cleared.
CREATE FUNCTION audit_guard_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('aum.audit_purge', true) IS DISTINCT FROM 'on' AND EXISTS (SELECT FROM audit_auditsegment) THEN
        RAISE EXCEPTION 'Audit tables are never emptied: TRUNCATE refused.'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit_guard_truncate BEFORE TRUNCATE ON audit_auditevent
    FOR EACH STATEMENT EXECUTE FUNCTION audit_guard_truncate();
CREATE TABLE audit_auditevent_default PARTITION OF audit_auditevent DEFAULT;
CREATE TRIGGER audit_guard_truncate BEFORE TRUNCATE ON audit_auditevent_default
    FOR EACH STATEMENT EXECUTE FUNCTION audit_guard_truncate();

-- An identity may only be erased: texts and salt go, what events were hashed with stays.
CREATE FUNCTION audit_guard_identity() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF current_setting('aum.audit_purge', true) = 'on' THEN
            RETURN OLD;
        END IF;
    ELSIF NEW.erased_at IS NOT NULL AND NEW.name = '' AND NEW.email = '' AND NEW.salt = ''
        AND (NEW.id, NEW.organization_id, NEW.kind, NEW.key, NEW.commitment)
          = (OLD.id, OLD.organization_id, OLD.kind, OLD.key, OLD.commitment) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'Audit identities can only be erased: % refused.', TG_OP
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER audit_guard_identity BEFORE UPDATE OR DELETE ON audit_auditidentity
    FOR EACH ROW EXECUTE FUNCTION audit_guard_identity();

-- Of a segment only the note that its head was anchored changes; the purge also empties it.
CREATE FUNCTION audit_guard_chain() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    same record;
BEGIN
    IF current_setting('aum.audit_purge', true) = 'on' THEN
        RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    IF TG_OP = 'UPDATE' AND TG_TABLE_NAME = 'audit_auditsegment' THEN
        same := NEW;
        same.anchored_at := OLD.anchored_at;
        IF same IS NOT DISTINCT FROM OLD THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'The audit chain is appended, never changed: % refused.', TG_OP
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER audit_guard_chain BEFORE UPDATE OR DELETE ON audit_auditsegment
    FOR EACH ROW EXECUTE FUNCTION audit_guard_chain();
CREATE TRIGGER audit_guard_chain BEFORE UPDATE OR DELETE ON audit_auditcheckpoint
    FOR EACH ROW EXECUTE FUNCTION audit_guard_chain();
CREATE TRIGGER audit_guard_truncate BEFORE TRUNCATE ON audit_auditidentity
    FOR EACH STATEMENT EXECUTE FUNCTION audit_guard_truncate();
CREATE TRIGGER audit_guard_truncate BEFORE TRUNCATE ON audit_auditsegment
    FOR EACH STATEMENT EXECUTE FUNCTION audit_guard_truncate();
CREATE TRIGGER audit_guard_truncate BEFORE TRUNCATE ON audit_auditcheckpoint
    FOR EACH STATEMENT EXECUTE FUNCTION audit_guard_truncate();
"""

UNDO_GUARDS = """
DROP FUNCTION audit_guard_event() CASCADE;
DROP FUNCTION audit_guard_truncate() CASCADE;
DROP FUNCTION audit_guard_identity() CASCADE;
DROP FUNCTION audit_guard_chain() CASCADE;
"""


def organization():
    return models.ForeignKey(
        db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="organizations.organization"
    )


def event_key(to, **options):
    return models.ForeignKey(
        db_constraint=False,
        db_index=False,
        on_delete=django.db.models.deletion.PROTECT,
        related_name="+",
        to=to,
        **options,
    )


class Migration(migrations.Migration):
    initial = True
    dependencies = [("organizations", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="AuditIdentity",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("kind", models.CharField(max_length=30)),
                ("key", models.CharField(blank=True, max_length=200)),
                ("name", models.CharField(blank=True, max_length=300)),
                ("email", models.CharField(blank=True, max_length=320)),
                ("salt", models.BinaryField(blank=True, max_length=16)),
                ("commitment", models.BinaryField(max_length=32)),
                ("fingerprint", models.BinaryField(max_length=32)),
                ("erased_at", models.DateTimeField(blank=True, null=True)),
                ("organization", organization()),
            ],
            options={
                "verbose_name_plural": "audit identities",
                "indexes": [models.Index(fields=["organization", "kind", "key"], name="audit_identity_key")],
                "constraints": [
                    models.UniqueConstraint(fields=("organization", "fingerprint"), name="audit_identity_content_once")
                ],
            },
        ),
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(EVENTS, "DROP TABLE audit_auditevent")],
            state_operations=[
                migrations.CreateModel(
                    name="AuditEvent",
                    fields=[
                        ("id", models.BigAutoField(primary_key=True, serialize=False)),
                        ("at", models.DateTimeField(db_default=apps.audit.models.ClockTimestamp())),
                        ("actor_kind", models.CharField(max_length=30)),
                        ("action", models.CharField(max_length=60)),
                        (
                            "outcome",
                            models.CharField(
                                choices=[
                                    ("success", "Success"),
                                    ("failed", "Failed"),
                                    ("warning", "Warning"),
                                    ("skipped", "Skipped"),
                                    ("info", "Information"),
                                ],
                                default="success",
                                max_length=10,
                            ),
                        ),
                        ("target_kind", models.CharField(blank=True, max_length=30)),
                        ("target_ref", models.CharField(blank=True, max_length=200)),
                        ("operation_id", models.BigIntegerField(blank=True, null=True)),
                        ("operation_number", models.IntegerField(blank=True, null=True)),
                        ("rule_id", models.BigIntegerField(blank=True, null=True)),
                        ("rule_name", models.CharField(blank=True, max_length=200)),
                        ("rule_version", models.IntegerField(blank=True, null=True)),
                        ("group_name", models.CharField(blank=True, max_length=300)),
                        ("reason", models.TextField(blank=True)),
                        ("before", models.JSONField(blank=True, null=True)),
                        ("after", models.JSONField(blank=True, null=True)),
                        ("correlation_id", models.UUIDField(blank=True, null=True)),
                        ("request_id", models.CharField(blank=True, max_length=200)),
                        ("call_id", models.CharField(blank=True, max_length=64)),
                        ("http_request_id", models.CharField(blank=True, max_length=64)),
                        ("ip_address", models.GenericIPAddressField(blank=True, null=True)),
                        ("schema_version", models.SmallIntegerField(default=1)),
                        ("organization", event_key("organizations.organization")),
                        ("actor", event_key("audit.auditidentity")),
                        ("target", event_key("audit.auditidentity", blank=True, null=True)),
                    ],
                    options={
                        "indexes": [
                            models.Index(fields=["organization", "-at", "-id"], name="audit_event_latest"),
                            models.Index(
                                condition=models.Q(("outcome", "failed")),
                                fields=["organization", "-at", "-id"],
                                name="audit_event_failed",
                            ),
                            models.Index(
                                condition=models.Q(("correlation_id__isnull", False)),
                                fields=["correlation_id"],
                                name="audit_event_correlation",
                            ),
                            models.Index(
                                condition=models.Q(("operation_id__isnull", False)),
                                fields=["operation_id", "id"],
                                name="audit_event_operation",
                            ),
                            models.Index(
                                condition=models.Q(("target__isnull", False)),
                                fields=["target", "at"],
                                name="audit_event_target",
                            ),
                        ],
                    },
                ),
            ],
        ),
        migrations.CreateModel(
            name="AuditSegment",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.PositiveIntegerField()),
                ("first_id", models.BigIntegerField()),
                ("last_id", models.BigIntegerField()),
                ("count", models.PositiveIntegerField()),
                ("digests", models.BinaryField()),
                ("root", models.BinaryField(max_length=32)),
                ("previous_head", models.BinaryField(max_length=32)),
                ("head", models.BinaryField(max_length=32)),
                ("signature", models.BinaryField(max_length=64)),
                ("key_id", models.CharField(max_length=16)),
                ("sealed_at", models.DateTimeField()),
                ("purged_at", models.DateTimeField(blank=True, null=True)),
                ("anchored_at", models.DateTimeField(blank=True, null=True)),
                ("organization", organization()),
            ],
            options={
                "ordering": ["number"],
                "constraints": [
                    models.UniqueConstraint(fields=("organization", "number"), name="audit_segment_number_once"),
                    models.CheckConstraint(condition=models.Q(("count__gt", 0)), name="audit_segment_not_empty"),
                ],
            },
        ),
        migrations.CreateModel(
            name="AuditCheckpoint",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.PositiveIntegerField()),
                ("last_id", models.BigIntegerField()),
                ("head", models.BinaryField(max_length=32)),
                ("rows", models.BigIntegerField()),
                ("purged_at", models.DateTimeField()),
                ("signature", models.BinaryField(max_length=64)),
                ("key_id", models.CharField(max_length=16)),
                ("organization", organization()),
            ],
            options={
                "ordering": ["number"],
                "constraints": [
                    models.UniqueConstraint(fields=("organization", "number"), name="audit_checkpoint_once")
                ],
            },
        ),
        migrations.RunSQL(GUARDS, UNDO_GUARDS),
    ]
