"""A data migration can have a row for each organisation; the rows go with it, whoever deletes it."""

import django.db.models.deletion
from django.db import migrations, models

# The end of a demo deletes organisations by SQL of its own, which knows nothing of these tables.
CASCADE = """
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT conname, conrelid::regclass AS owner, confrelid::regclass AS target, attname
        FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
        WHERE contype = 'f' AND conrelid IN
            ('migrations_mgmt_backfill'::regclass, 'migrations_mgmt_backfillbatch'::regclass)
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', found.owner, found.conname);
        EXECUTE format(
            'ALTER TABLE %s ADD CONSTRAINT %I FOREIGN KEY (%I) REFERENCES %s (id) ON DELETE CASCADE'
            ' DEFERRABLE INITIALLY DEFERRED', found.owner, found.conname, found.attname, found.target);
    END LOOP;
END $$;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('migrations_mgmt', '0001_initial'),
        ('organizations', '0001_initial'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='backfill',
            name='backfill_version_once',
        ),
        migrations.AddField(
            model_name='backfill',
            name='organization',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='organizations.organization'),
        ),
        migrations.AddConstraint(
            model_name='backfill',
            constraint=models.UniqueConstraint(condition=models.Q(('organization__isnull', True)), fields=('name', 'version'), name='backfill_installation_once'),
        ),
        migrations.AddConstraint(
            model_name='backfill',
            constraint=models.UniqueConstraint(fields=('organization', 'name', 'version'), name='backfill_organization_once'),
        ),
        migrations.RunSQL("SET CONSTRAINTS ALL IMMEDIATE", migrations.RunSQL.noop),
        migrations.RunSQL(CASCADE, migrations.RunSQL.noop),
    ]
