"""Names and e-mails of actors and targets found by any part of them."""

import django.contrib.postgres.indexes
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("audit", "0002_records")]

    operations = [
        AddIndexConcurrently(
            model_name="auditidentity",
            index=django.contrib.postgres.indexes.GinIndex(
                django.contrib.postgres.indexes.OpClass("name", name="gin_trgm_ops"),
                django.contrib.postgres.indexes.OpClass("email", name="gin_trgm_ops"),
                name="audit_identity_text",
            ),
        ),
    ]
