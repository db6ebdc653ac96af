"""Rows of a database, kept and put back: what every test of a folder begins with is made once for each process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.db import connection

# Made anew by each test, or the same for all of them.
_LEFT_ALONE = ("django_content_type", "auth_permission", "django_migrations", "organizations_installation")


@dataclass(frozen=True)
class Snapshot:
    """Table → its rows, as COPY writes them, with the address of the sandbox that they came from."""

    rows: dict[str, bytes]
    url: str


_KEPT: dict[object, Snapshot] = {}


def _tables() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') "
            "AND NOT relispartition AND relname <> ALL(%s)",
            [list(_LEFT_ALONE)],
        )
        names = [str(name) for (name,) in cursor.fetchall()]
        cursor.execute(" UNION ALL ".join(f"SELECT '{name}' WHERE EXISTS (SELECT 1 FROM \"{name}\")" for name in names))
        return [str(name) for (name,) in cursor.fetchall()]


def take(url: str) -> Snapshot:
    """Everything that stands in the database now; `url` is where the organisation was read from."""
    rows = {}
    with connection.cursor() as cursor:
        for name in _tables():
            with cursor.cursor.copy(f'COPY (SELECT * FROM "{name}") TO STDOUT') as copy:
                rows[name] = b"".join(bytes(part) for part in copy)
    return Snapshot(rows, url)


def put_back(snapshot: Snapshot, organization: int, url: str) -> None:
    """The rows of `snapshot` in an empty database, as those of an organisation with the key `organization` at `url`.

    A key of its own: what Valkey holds for organisations of other tests does not reach this one.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = 'replica'")
        for name, rows in snapshot.rows.items():
            with cursor.cursor.copy(f'COPY "{name}" FROM STDIN') as copy:
                copy.write(rows.replace(snapshot.url.encode(), url.encode()))
        cursor.execute(
            "SELECT table_name FROM information_schema.columns WHERE table_schema = 'public' "
            "AND column_name = 'organization_id' AND table_name = ANY(%s)",
            [list(snapshot.rows)],
        )
        for (name,) in cursor.fetchall():
            cursor.execute(f'UPDATE "{name}" SET organization_id = %s', [organization])
        cursor.execute("UPDATE organizations_organization SET id = %s", [organization])
        cursor.execute("SET session_replication_role = 'origin'")


def once(key: object, make: Callable[[], object], *, url: str) -> None:
    """Put back what `make` made under `key`, or make it and keep it. Needs an empty database with real commits.

    `url`: the sandbox of this test, which gives what the first one gave.
    """
    if key in _KEPT:
        with connection.cursor() as cursor:
            cursor.execute("SELECT nextval(pg_get_serial_sequence('organizations_organization', 'id'))")
            put_back(_KEPT[key], cursor.fetchone()[0], url)
    else:
        make()
        _KEPT[key] = take(url)
