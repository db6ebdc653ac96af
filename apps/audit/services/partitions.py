"""Monthly partitions of the events, made ahead; rows of a month without one wait in the DEFAULT partition."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from django.db import connection, transaction

from apps.audit.guards import guards_lifted
from apps.audit.locks import PARTITIONS, lock_key

logger = logging.getLogger(__name__)
TABLE = "audit_auditevent"
ACTOR_INDEX = "audit_event_actor"


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


def months_in_default() -> list[int]:
    """Months of which entries wait in the DEFAULT partition, as YYYYMM, oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT to_char(at AT TIME ZONE 'UTC', 'YYYYMM')::int AS month"
            f" FROM {TABLE}_default ORDER BY month"
        )
        return [row[0] for row in cursor.fetchall()]


def adopt_month(month: int) -> int:
    """Give the month YYYYMM a partition of its own and move what waits in the DEFAULT one; returns how many entries.

    Entries are moved byte for byte: the chain stays valid. Harmless to repeat. In the caller's transaction.
    """
    name = f"{TABLE}_y{month // 100:04}m{month % 100:02}"
    starts_at = datetime(month // 100, month % 100, 1, tzinfo=UTC)
    ends_at = datetime(month // 100 + month % 100 // 12, month % 100 % 12 + 1, 1, tzinfo=UTC)
    _run("SELECT pg_advisory_xact_lock(%s, %s)", lock_key(PARTITIONS))
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [name])
        if cursor.fetchone()[0]:
            return 0
        cursor.execute(f"SELECT count(*) FROM {TABLE}_default WHERE at >= %s AND at < %s", [starts_at, ends_at])
        rows = int(cursor.fetchone()[0])
    _run("SET LOCAL lock_timeout = '5s'")
    _create(name, starts_at, ends_at)
    _run("SET LOCAL lock_timeout TO DEFAULT")
    logger.info("audit.month_moved", extra={"partition": name, "events": rows})
    return rows


def partitions_without_index(index: str = ACTOR_INDEX) -> list[int]:
    """Ids (oid) of partitions that lack their part of an index which is declared on the table only."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT part.inhrelid::bigint FROM pg_inherits part
            WHERE part.inhparent = to_regclass(%s) AND NOT EXISTS (
                SELECT FROM pg_inherits child JOIN pg_index ON pg_index.indexrelid = child.inhrelid
                WHERE child.inhparent = to_regclass(%s) AND pg_index.indrelid = part.inhrelid
            ) ORDER BY 1
            """,
            [TABLE, index],
        )
        return [row[0] for row in cursor.fetchall()]


def build_index(partition_oid: int) -> None:
    """Build the index on actors of one partition, which locks its writers meanwhile: old months have none."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE oid = %s", [partition_oid])
        found = cursor.fetchone()
        if found is None or partition_oid not in partitions_without_index():
            return
        quoted = connection.ops.quote_name
        cursor.execute(
            f"CREATE INDEX IF NOT EXISTS {quoted(found[0] + '_actor')} ON {quoted(found[0])}"
            " (actor_id, at DESC, id DESC)"
        )
        cursor.execute(f"ALTER INDEX {ACTOR_INDEX} ATTACH PARTITION {quoted(found[0] + '_actor')}")


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
