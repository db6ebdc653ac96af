"""Migrations run while the version before is at work, which has to be able to go on (docs/deploy.md)."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.apps import apps
from django.conf import settings
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django_migration_linter import MigrationLinter
from django_migration_linter.sql_analyser import analyse_sql_statements

# What a fresh installation runs on empty tables, besides the migrations that were put into one.
FIRST = {
    ("audit", "0001_initial"),
    ("audit", "0002_records"),
    ("audit", "0003_identity_text"),
    ("dashboard", "0001_support_contact"),
    ("migrations_mgmt", "0001_initial"),
    ("migrations_mgmt", "0002_organizations"),
    ("savings", "0001_ledger"),
}
# What the version before cannot live with: writes fail on a column it does not know, reads on one that went.
BREAKING = ("NOT_NULL", "DROP_COLUMN", "DROP_TABLE", "RENAME_COLUMN", "RENAME_TABLE")
# Judged: until the new version runs, sealing fails and is made up for a minute later.
JUDGED = {("audit", "0004_search_moment")}


@pytest.mark.django_db(transaction=True)  # an index that is made concurrently is not even shown inside one
def test_a_new_migration_leaves_the_version_before_able_to_read_and_write() -> None:
    linter = MigrationLinter(str(Path(settings.BASE_DIR)), no_cache=True)
    migrations = MigrationLoader(connection, replace_migrations=False).disk_migrations
    first = (FIRST | JUDGED).union(*(migration.replaces for migration in migrations.values()))
    ours = {config.label for config in apps.get_app_configs() if config.name.startswith("apps.")}
    new = [
        migration
        for key, migration in migrations.items()
        if key[0] in ours and key not in first and not migration.replaces
    ]

    found = []
    for migration in new:
        sql = linter.get_sql(migration.app_label, migration.name)
        errors, _ignored, _warnings = analyse_sql_statements(linter.sql_analyser_class, sql, [])
        found += [f"{migration}: {one.message}" for one in errors if one.code in BREAKING]
    assert found == []
