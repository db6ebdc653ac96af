"""Dumps of the embedded database: one each night, and a way back.

script/aum backup            write a dump now
script/aum restore FILE      load one into an empty data folder
"""

import contextlib
import os
import subprocess
import sys
import time
import uuid
from datetime import datetime, timedelta
from pathlib import Path

import psycopg

from aum.runtime.embedded import postgres_program
from aum.runtime.environment import InstallationError, Layout, write_private

KEEP = 14
_NIGHTLY_HOUR = 2


def dumps(layout: Layout) -> list[Path]:
    """The dumps of this installation, oldest first."""
    return sorted(layout.backups_dir.glob("aum-*.dump"))


def is_due(*, now: datetime, newest_at: datetime) -> bool:
    """Whether a dump is missing for the night before `now`: the newest one is older than the last 02:00 (local time).

    A machine that was off at two makes its dump when it is on again.
    """
    last_slot = now.replace(hour=_NIGHTLY_HOUR, minute=0, second=0, microsecond=0)
    if last_slot > now:
        last_slot -= timedelta(days=1)
    return newest_at < last_slot


def newest_at(layout: Layout) -> datetime:
    """When the newest dump was made; without any, when the database was (local time, naive)."""
    found = dumps(layout)
    path = found[-1] if found else layout.postgres_dir / "PG_VERSION"
    return datetime.fromtimestamp(path.stat().st_mtime)


def dump(layout: Layout, database_url: str) -> Path:
    """Write a dump (pg_dump's custom format), drop the oldest beyond KEEP, and return its path.

    Raises InstallationError when pg_dump fails; the file is then not there.
    """
    path = layout.backups_dir / f"aum-{time.strftime('%Y%m%d-%H%M%S')}.dump"
    building = path.with_suffix(".part")
    building.touch(mode=0o600)
    result = subprocess.run(
        [str(postgres_program("pg_dump")), "--format=custom", "--no-owner", f"--file={building}"],
        env=_client_environment(database_url),
        capture_output=True,
        check=False,
        text=True,
    )
    if result.returncode != 0:
        building.unlink(missing_ok=True)
        raise InstallationError(f"pg_dump failed: {result.stderr.strip()}")
    building.replace(path)
    for old in dumps(layout)[:-KEEP]:
        old.unlink()
    return path


def restore(layout: Layout, database_url: str, path: Path) -> None:
    """Load the dump `path` into the empty database at `database_url`, and give this installation a new instance id.

    The new id makes AUM treat what it finds as a copy: nothing runs before an owner confirms (DESIGN.md §2). Raises
    InstallationError when the database is not empty or pg_restore fails.
    """
    with psycopg.connect(database_url) as connection:
        table = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' LIMIT 1").fetchone()
    if table:
        raise InstallationError(
            f"The database in {layout.postgres_dir} is not empty. A dump is loaded into a new one only: stop the "
            f"server, move {layout.postgres_dir} away, and run this again. Nothing was changed."
        )
    result = subprocess.run(
        [
            *(str(postgres_program("pg_restore")), "--no-owner", "--exit-on-error", "--single-transaction"),
            *("--dbname=", str(path)),
        ],
        env=_client_environment(database_url),
        capture_output=True,
        check=False,
        text=True,
    )
    if result.returncode != 0:
        raise InstallationError(f"pg_restore failed, the database is still empty: {result.stderr.strip()}")
    write_private(layout.secrets_dir / "aum_instance_id", str(uuid.uuid4()))


def _client_environment(database_url: str) -> dict[str, str]:
    """The variables that PostgreSQL's programs read, so that the password is on no command line."""
    info = psycopg.conninfo.conninfo_to_dict(database_url)
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
    values = {variable: str(info[name]) for name, variable in names.items() if info.get(name)}
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", **values}


def main() -> int:
    """Write a dump of the database that DATABASE_URL names, for the supervisor's own use."""
    layout = Layout.from_environ(os.environ)
    # An earlier dump that was cut off.
    for part in layout.backups_dir.glob("aum-*.part"):
        with contextlib.suppress(OSError):
            part.unlink()
    try:
        path = dump(layout, os.environ["DATABASE_URL"])
    except InstallationError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"wrote {path} ({path.stat().st_size // 1024} KiB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
