"""Secrets, the lock of the data folder, dumps, and `script/aum` around them."""

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import psycopg
import pytest

from aum.runtime import backup
from aum.runtime.embedded import EmbeddedPostgres
from aum.runtime.environment import (
    AlreadyRunningError,
    DataDirLock,
    InstallationError,
    Layout,
    secret_variables,
)
from aum.runtime.installation import given, open_installation
from tests.runtime.conftest import ROOT, wait_for


@pytest.fixture
def layout(open_dir: Path) -> Layout:
    layout = Layout(open_dir / "var")
    layout.create()
    return layout


def test_secrets_are_made_once_and_for_their_owner_only(layout: Layout) -> None:
    first = secret_variables(layout, {})

    contents = {name: Path(path).read_text() for name, path in first.items()}
    assert set(first) == {
        "AUM_SECRET_KEY_FILE",
        "AUM_ENCRYPTION_KEYS_FILE",
        "AUM_AUDIT_SIGNING_KEY_FILE",
        "AUM_INSTANCE_ID_FILE",
    }
    assert all(Path(path).stat().st_mode & 0o077 == 0 for path in first.values())
    assert len(bytes.fromhex(contents["AUM_AUDIT_SIGNING_KEY_FILE"])) == 32
    again = secret_variables(layout, {})
    assert {name: Path(path).read_text() for name, path in again.items()} == contents


def test_a_secret_that_is_given_is_not_made(layout: Layout) -> None:
    variables = secret_variables(layout, {"AUM_SECRET_KEY": "mine", "AUM_INSTANCE_ID_FILE": "/some/file"})

    assert "AUM_SECRET_KEY_FILE" not in variables
    assert "AUM_INSTANCE_ID_FILE" not in variables


def test_missing_keys_of_an_existing_database_are_not_replaced(layout: Layout) -> None:
    layout.postgres_dir.mkdir()
    (layout.postgres_dir / "PG_VERSION").write_text("18\n")

    with pytest.raises(InstallationError, match=r"(?s)aum_secret_key is missing.*Bring back the folder"):
        secret_variables(layout, {})

    assert list(layout.secrets_dir.iterdir()) == []


def test_addresses_that_are_given_replace_the_embedded_servers(layout: Layout) -> None:
    environ = {"DATABASE_URL": "postgres://there/aum", "REDIS_URL": "redis://there/0"}

    installation = open_installation(layout, environ)

    assert installation.postgres is None
    assert installation.valkey is None
    assert "AUM_EMBEDDED" not in installation.variables


def test_a_variable_may_name_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgres://there/aum\n")

    assert given({"DATABASE_URL_FILE": str(tmp_path / "url")}, "DATABASE_URL") == "postgres://there/aum"
    with pytest.raises(InstallationError, match="DATABASE_URL_FILE"):
        given({"DATABASE_URL_FILE": str(tmp_path / "none")}, "DATABASE_URL")


def test_a_second_run_on_the_same_folder_is_told_where_the_first_one_is(layout: Layout) -> None:
    first = DataDirLock(layout, command="script/server")
    first.acquire()
    first.describe(address="http://localhost:8123")

    with pytest.raises(AlreadyRunningError, match=r"script/server .* already running at http://localhost:8123"):
        DataDirLock(layout, command="script/server").acquire()

    first.release()
    DataDirLock(layout, command="script/server").acquire()


def test_a_killed_run_leaves_no_lock(layout: Layout) -> None:
    code = (
        "import pathlib, sys, time\n"
        "from aum.runtime.environment import DataDirLock, Layout\n"
        "DataDirLock(Layout(pathlib.Path(sys.argv[1])), command='script/server').acquire()\n"
        "time.sleep(600)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(layout.data_dir)], cwd=ROOT)
    path = layout.run_dir / "holder.json"
    assert wait_for(lambda: path.exists() and json.loads(path.read_text())["pid"] == holder.pid)

    holder.kill()
    holder.wait()

    DataDirLock(layout, command="script/server").acquire()


@pytest.mark.parametrize(
    ("now", "newest", "due"),
    [
        ("2026-03-05 01:59", "2026-03-04 02:00", False),
        ("2026-03-05 02:00", "2026-03-04 02:00", True),
        ("2026-03-05 12:00", "2026-03-05 02:01", False),
        ("2026-03-05 12:00", "2026-03-01 02:00", True),
    ],
)
def test_a_dump_is_due_once_a_night(now: str, newest: str, due: bool) -> None:
    assert backup.is_due(now=datetime.fromisoformat(now), newest_at=datetime.fromisoformat(newest)) is due


def test_a_dump_is_restored_into_an_empty_database_as_a_copy(layout: Layout) -> None:
    variables = secret_variables(layout, {})
    first = EmbeddedPostgres(layout.postgres_dir, password="secret", durable=False)
    first.start()
    with psycopg.connect(first.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 10) AS n")
    path = backup.dump(layout, first.url)
    with pytest.raises(InstallationError, match="not empty"):
        backup.restore(layout, first.url, path)
    first.stop()
    layout.postgres_dir.rename(layout.data_dir / "postgres-old")
    instance_before = Path(variables["AUM_INSTANCE_ID_FILE"]).read_text()

    second = EmbeddedPostgres(layout.postgres_dir, password="secret", durable=False)
    second.start()
    backup.restore(layout, second.url, path)

    with psycopg.connect(second.url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (10,)
    assert Path(variables["AUM_INSTANCE_ID_FILE"]).read_text() != instance_before
    assert path.stat().st_mode & 0o077 == 0
    second.stop()


def test_only_the_newest_dumps_are_kept(layout: Layout) -> None:
    for number in range(backup.KEEP + 3):
        (layout.backups_dir / f"aum-20260101-0000{number:02}.dump").touch()
    server = EmbeddedPostgres(layout.postgres_dir, password="secret", durable=False)
    server.start()

    newest = backup.dump(layout, server.url)

    assert len(backup.dumps(layout)) == backup.KEEP
    assert backup.dumps(layout)[-1] == newest
    server.stop()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    with pytest.raises(InstallationError, match="Cannot write in the data folder"):
        Layout(tmp_path / "var").create()

    tmp_path.chmod(0o700)
