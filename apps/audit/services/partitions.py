"""Monthly partitions of the events, made ahead; rows of a month without one wait in the DEFAULT partition."""

from __future__ import annotations

import logging
from datetime import datetime

from django.db import connection, transaction

from apps.audit.guards import guards_lifted
from apps.audit.locks import PARTITIONS, lock_key

logger = logging.getLogger(__name__)
TABLE = "audit_auditevent"


def ensure_partitions(months_ahead: int = 3) -> list[str]:
    """Make the partitions of this month and the next `months_ahead` where they are missing; returns the new names.

    Rows of a missing month that already lie in the DEFAULT partition are moved. Harmless to repeat and to run twice at
    once.
    """
    with transaction.atomic():
        if not _missing(months_ahead):
            return []
        _run("SELECT pg_advisory_xact_lock(%s, %s)", lock_key(PARTITIONS))
        # ATTACH needs the DEFAULT partition for itself: give up after a while instead of holding writers back.
        _run("SET LOCAL lock_timeout = '5s'")
        months = _missing(months_ahead)
        for name, starts_at, ends_at in months:
            _create(name, starts_at, ends_at)
        _run("SET LOCAL lock_timeout TO DEFAULT")
    created = [name for name, _, _ in months]
    logger.info("audit.partitions_made", extra={"partitions": created})
    return created


def _missing(months_ahead: int) -> list[tuple[str, datetime, datetime]]:
    """Name, start and end of each missing month, by the database's clock, which also dates the events."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT name, starts_at, ends_at FROM (
                SELECT %s || to_char(month, '"_y"YYYY"m"MM') AS name,
                       month AT TIME ZONE 'UTC' AS starts_at,
                       (month + interval '1 month') AT TIME ZONE 'UTC' AS ends_at
                FROM date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC') AS today,
                     generate_series(today, today + make_interval(months => %s), interval '1 month') AS month
            ) AS wanted
            -- Not to_regclass(name): it may answer from a cache that is older than the lock.
            WHERE NOT EXISTS (
                SELECT FROM pg_inherits JOIN pg_class partition ON partition.oid = inhrelid
                WHERE inhparent = to_regclass(%s) AND relname = name
            )
            -- The table itself is missing while the migrations are being undone.
            AND to_regclass(%s) IS NOT NULL
            ORDER BY starts_at
            """,
            [TABLE, months_ahead, TABLE, TABLE],
        )
        return list(cursor.fetchall())


def _create(name: str, starts_at: datetime, ends_at: datetime) -> None:
    """Make one partition beside the table, move what belongs to it, then attach it, which locks readers of nothing."""
    default = f"{TABLE}_default"
    _run(f"CREATE TABLE {name} (LIKE {TABLE} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
    _run(f"LOCK TABLE {default} IN ACCESS EXCLUSIVE MODE")
    with guards_lifted():
        _run(
            f"WITH moved AS (DELETE FROM {default} WHERE at >= %s AND at < %s RETURNING *)"
            f" INSERT INTO {name} SELECT * FROM moved",
            (starts_at, ends_at),
        )
    _run(
        f"ALTER TABLE {TABLE} ATTACH PARTITION {name}"
        f" FOR VALUES FROM ('{starts_at.isoformat()}') TO ('{ends_at.isoformat()}')"
    )
    _run(
        f"CREATE TRIGGER audit_guard_truncate BEFORE TRUNCATE ON {name}"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_guard_truncate()"
    )


def _run(sql: str, parameters: tuple[int | str | datetime, ...] | None = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
