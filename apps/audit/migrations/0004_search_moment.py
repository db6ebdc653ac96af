"""Words to search by know the moment of their event, so that the newest matches are found without the events.

The table is derived: it is emptied, and the data migration `audit.search` writes it anew. Until then searches walk.
"""

import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("audit", "0003_identity_text")]

    operations = [
        migrations.RunSQL("TRUNCATE audit_auditsearch", migrations.RunSQL.noop),
        migrations.AddField(
            model_name="auditsearch",
            name="at",
            field=models.DateTimeField(default=django.utils.timezone.now),
            preserve_default=False,
        ),
        migrations.RemoveIndex(model_name="auditsearch", name="audit_search_event"),
        migrations.AddIndex(
            model_name="auditsearch",
            index=models.Index(fields=["organization", "-at", "-event_id"], name="audit_search_latest"),
        ),
    ]
