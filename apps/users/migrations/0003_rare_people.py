"""Indexes of rare people, made while others read and write (docs/deploy.md, update)."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("organizations", "0002_from_file"),
        ("users", "0002_look_first"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="account",
            index=models.Index(
                condition=models.Q(("kind", 1), _negated=True),
                fields=["organization", "sort_name", "id"],
                name="account_no_person",
            ),
        ),
        AddIndexConcurrently(
            model_name="account",
            index=models.Index(
                condition=models.Q(("has_unknown_activity", True)),
                fields=["organization", "sort_name", "id"],
                name="account_unknown_activity",
            ),
        ),
        AddIndexConcurrently(
            model_name="productaccess",
            index=models.Index(
                condition=models.Q(("direct", 0), ("group_ids", [])),
                fields=["account"],
                name="product_access_unseen",
            ),
        ),
    ]
