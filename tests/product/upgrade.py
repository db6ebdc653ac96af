"""An upgrade under load: from a commit of some days ago to this tree, without stopping what runs.

    python -m tests.product.upgrade --from REVISION --people 100000

Starts PostgreSQL and Valkey, and the older version's worker, runner and web server over a database with many people,
changes and audit rows. While short reads and writes go on, the new version migrates with a limit of three seconds for
every wait for a lock. Then workers of both versions share the queues, and live runs, an undo and a sync are made.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from base64 import urlsafe_b64encode
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import requests

from aum.runtime.embedded import free_port
from tests.product.chaos import checker
from tests.product.harness import FAST, ROOT, Assistant, Reads, SandboxProcess, wait_for
from tests.runtime_servers import postgres, valkey

SLUG = "upgrade"
LOCK_SECONDS = 3
FINAL = ("succeeded", "partial_failure", "failed", "no_effect", "held")
# Tables that are big in a big installation, with what makes a copied row unique.
COPIED = {
    "operations_operationitem": "subject",
    "audit_auditevent": "target_ref",
}


class Version:
    """A tree with the processes that were started from it."""

    def __init__(self, name: str, tree: Path, environ: dict[str, str], logs: Path) -> None:
        self.name, self.tree, self.logs = name, tree, logs
        self.environ = environ | {"PYTHONPATH": str(tree)}
        self.processes: list[subprocess.Popen[bytes]] = []

    def command(self, *arguments: str) -> float:
        """Run manage.py to its end; seconds. AssertionError with its output when it fails."""
        began = time.monotonic()
        result = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=self.tree,
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
        return time.monotonic() - began

    def start(self) -> None:
        """Worker, runner and beat, as `script/server` starts them."""
        celery = ["-m", "celery", "--quiet", "-A", "aum"]
        flags = ["--loglevel", "WARNING", "--without-gossip", "--without-mingle"]
        for name, queues in (("worker", "default,mail"), ("runner", "operations,sync")):
            place = f"{name}-{self.name}@%h"
            self._spawn(name, [*celery, "worker", "-n", place, "-Q", queues, "-c", "2", *flags])

    def serve(self, port: int) -> None:
        """The web server."""
        self.environ["PORT"] = str(port)
        self._spawn("web", ["-m", "gunicorn", "-c", "python:aum.runtime.gunicorn_conf"])

    def schedule(self) -> None:
        """Beat."""
        self._spawn("beat", ["-m", "celery", "--quiet", "-A", "aum", "beat", "--pidfile", "", "--loglevel", "WARNING"])

    def _spawn(self, name: str, arguments: list[str]) -> None:
        with (self.logs / f"{self.name}-{name}.log").open("wb") as log:
            self.processes.append(
                subprocess.Popen([sys.executable, *arguments], cwd=self.tree, env=self.environ, stdout=log, stderr=log)
            )

    def end(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()

    def log(self) -> str:
        return "".join(path.read_text(errors="replace") for path in sorted(self.logs.glob(f"{self.name}-*.log")))


def arrange_old(version: Version, what: str, **values: Any) -> Any:
    """Ask the older tree, whose assistant takes its question from the command line."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.product.arrange", what, json.dumps(values)],
        cwd=version.tree,
        env=version.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return json.loads(result.stdout.splitlines()[-1])


def grow(database: psycopg.Connection[Any], people: int) -> dict[str, int]:
    """Copy the small organisation's rows into a big one of the same database; rows of each table."""
    database.execute(
        "CREATE TEMP TABLE big AS SELECT o.* FROM organizations_organization o LIMIT 1; "
        "UPDATE big SET id = nextval(pg_get_serial_sequence('organizations_organization', 'id')), "
        "slug = 'big', org_id = 'big', name = 'Big'; INSERT INTO organizations_organization SELECT * FROM big"
    )
    have = database.execute("SELECT count(*) FROM users_account").fetchone()
    assert have is not None
    times = max(1, people // have[0])
    database.execute(
        f"CREATE TEMP TABLE copies AS SELECT a.id AS old, n, "
        f"nextval(pg_get_serial_sequence('users_account', 'id')) AS new FROM users_account a, "
        f"generate_series(1, {times}) n"
    )
    _copy(database, "users_account", {"id": "c.new", "account_id": "t.account_id || '-' || c.n"}, "c.old = t.id")
    for table in ("users_directorymembership", "users_groupmembership", "users_productaccess"):
        _copy(database, table, {"account_id": "c.new"}, "c.old = t.account_id")
    for table, unique in COPIED.items():
        many = max(1, people // max(1, _count(database, table)))
        extra = {unique: f"t.{unique} || '-' || c.n"}
        _copy(database, table, extra, "true", source=f"(SELECT n FROM generate_series(1, {many}) n)")
    database.execute("ANALYZE")
    return {table: _count(database, table) for table in ("users_account", "users_productaccess", *COPIED)}


def _copy(
    database: psycopg.Connection[Any], table: str, values: dict[str, str], on: str, *, source: str = "copies"
) -> None:
    rows = database.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_name = %s AND is_generated = 'NEVER' "
        "ORDER BY ordinal_position",
        [table],
    ).fetchall()
    names = [row[0] for row in rows if row[0] != "id" or "id" in values]
    given = values if table == "operations_operationitem" else values | {"organization_id": "(SELECT id FROM big)"}
    wanted = ", ".join(given.get(name, f"t.{name}") for name in names)
    quoted = ", ".join(f'"{name}"' for name in names)
    database.execute(f"INSERT INTO {table} ({quoted}) SELECT {wanted} FROM {table} t JOIN {source} c ON {on}".encode())


def _count(database: psycopg.Connection[Any], table: str) -> int:
    row = database.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    assert row is not None
    return int(row[0])


class Traffic:
    """Short reads and writes of the big tables by several clients, each timed."""

    READS = (
        "SELECT name FROM users_account WHERE id = %s",
        "SELECT count(*) FROM users_productaccess WHERE account_id = %s",
        "SELECT outcome FROM operations_operationitem WHERE account_id = %s LIMIT 5",
        "SELECT name FROM organizations_organization WHERE slug = 'big' AND id <> -%s",
    )
    WRITES = (
        "UPDATE users_account SET synced_at = now() WHERE id = %s",
        "UPDATE operations_operation SET driven_at = driven_at WHERE id = (SELECT min(id) FROM operations_operation "
        "WHERE id <> -%s)",
        "UPDATE organizations_organization SET name = name WHERE slug = 'big' AND id <> -%s",
    )

    def __init__(self, url: str, ids: list[int]) -> None:
        self.url, self.ids = url, ids
        self.stop = threading.Event()
        self.longest: dict[str, float] = {"read": 0.0, "write": 0.0}
        self.made: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.threads = [threading.Thread(target=self._go, args=(n,), daemon=True) for n in range(4)]

    def _go(self, number: int) -> None:
        rng = random.Random(number)
        with psycopg.connect(self.url, autocommit=True, prepare_threshold=None) as connection:
            while not self.stop.is_set():
                kind = "write" if rng.random() < 0.3 else "read"
                statement = rng.choice(self.WRITES if kind == "write" else self.READS)
                began = time.monotonic()
                try:
                    connection.execute(statement.encode(), [rng.choice(self.ids)])
                except psycopg.Error as error:
                    self.errors[type(error).__name__] += 1
                self.longest[kind] = max(self.longest[kind], time.monotonic() - began)
                self.made[kind] += 1
                time.sleep(0.01)

    def __enter__(self) -> Traffic:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(30)


def statuses(reads: Reads, operations: list[int]) -> list[str]:
    rows = reads.query("SELECT status FROM operations_operation WHERE id = ANY(%s)", operations)
    return [row[0] for row in rows]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The whole upgrade; what was seen."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aum-upgrade-")))
        tree = folder / "before"
        tree.mkdir()
        archive = subprocess.run(["git", "archive", options.revision], cwd=ROOT, capture_output=True, check=True)
        subprocess.run(["tar", "-x", "-C", str(tree)], input=archive.stdout, check=True)
        database_url = stack.enter_context(postgres())
        redis_url = stack.enter_context(valkey())
        sandbox = stack.enter_context(SandboxProcess(people=400, seed=31))
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "DJANGO_SETTINGS_MODULE": "aum.settings",
            "AUM_SECRET_KEY": secrets.token_urlsafe(50),
            "AUM_ENCRYPTION_KEYS": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "AUM_AUDIT_SIGNING_KEY": secrets.token_hex(32),
            "AUM_INSTANCE_ID": "upgrade",
            "AUM_DATA_DIR": str(folder / "var"),
            "ATLASSIAN_SITE_ALLOWLIST": "127.0.0.1",
            **FAST,
        }
        old, new = Version("old", tree, environ, folder), Version("new", ROOT, environ, folder)
        stack.callback(new.end)
        stack.callback(old.end)
        found: dict[str, Any] = vars(options) | {"old_migrate_seconds": round(old.command("migrate", "-v0"), 1)}
        old.start()
        old.schedule()
        port = free_port()
        old.serve(port)
        limits = {"max_count": 390, "max_share_percent": 95, "max_per_day": 100_000, "max_group_share_percent": 100}
        arrange_old(old, "connect", url=sandbox.url, slug=SLUG, settings=limits)
        database = stack.enter_context(psycopg.connect(database_url, autocommit=True))
        reads = Reads(database)
        first = arrange_old(old, "start", slug=SLUG, inactive_days=200)["operation"]
        wait_for(lambda: statuses(reads, [first])[0] in FINAL, seconds=300, what="the first run")
        found["first_run"] = statuses(reads, [first])[0]
        found["rows"] = grow(database, options.people)
        print(json.dumps(found), flush=True)

        _migrate(found, new, database, database_url, port)
        _both(found, old, new, reads, sandbox)
        found["old_page_after"] = requests.get(f"http://127.0.0.1:{port}/login/", timeout=30).status_code
        for version in (old, new):
            text = version.log()
            found[f"{version.name}_errors"] = dict(
                Counter(re.findall(r"(?:ERROR|CRITICAL) \S+: .{0,80}|^\w+(?:\.\w+)+Error: .{0,80}", text, re.M))
            )
            found[f"{version.name}_runs_finished"] = len(re.findall(r"operation\.finished", text))
        return found


def _migrate(
    found: dict[str, Any], new: Version, database: psycopg.Connection[Any], database_url: str, port: int
) -> None:
    """Migrate while others read and write, and nobody may wait for a lock longer than three seconds."""
    ids = [row[0] for row in database.execute("SELECT id FROM users_account ORDER BY random() LIMIT 2000").fetchall()]
    database.execute(f"ALTER ROLE CURRENT_USER SET lock_timeout = '{LOCK_SECONDS}s'".encode())
    with Traffic(database_url, ids) as traffic:
        time.sleep(5)
        calm = dict(traffic.longest)
        traffic.longest.update(read=0.0, write=0.0)
        found["migrate_seconds"] = round(new.command("migrate", "-v0"), 1)
        # The limit is for migrations: whoever connects from now on waits as always.
        database.execute("ALTER ROLE CURRENT_USER RESET lock_timeout")
        found["old_page_between"] = requests.get(f"http://127.0.0.1:{port}/login/", timeout=30).status_code
    found["longest_ms_before"] = {kind: round(seconds * 1000) for kind, seconds in calm.items()}
    found["longest_ms_while_migrating"] = {kind: round(s * 1000) for kind, s in traffic.longest.items()}
    found["statements"], found["statement_errors"] = dict(traffic.made), dict(traffic.errors)
    print(json.dumps(found), flush=True)


def _both(found: dict[str, Any], old: Version, new: Version, reads: Reads, sandbox: SandboxProcess) -> None:
    """Workers of both versions take turns over runs, an undo and a sync; the checker looks at all of it."""
    new.start()
    assistant = Assistant(new.environ)
    try:
        organization = reads.query("SELECT id FROM organizations_organization WHERE slug = %s", SLUG)[0][0]
        before = sandbox.control.get("state")
        ledger = len(sandbox.control.get("ledger")["entries"])
        operations: list[int] = []
        for number in range(8):
            action = ("suspend", "add_to_group", "deactivate", "remove_product_access")[number % 4]
            products = ["jira"] if action == "remove_product_access" else []
            runs = [{"action": action, "products": products, "people": 12}]
            operations += assistant.ask("begin", slug=SLUG, seed=number, runs=runs)["operations"]
            time.sleep(1)
        wait_for(lambda: all(s in FINAL for s in statuses(reads, operations)), seconds=300, what="the runs")
        undo = assistant.ask("undo", operation=operations[0])["operation"]
        wait_for(lambda: statuses(reads, [undo])[0] in FINAL, seconds=120, what="the undo")
        assistant.ask("sync", slug=SLUG)
        found["runs"] = dict(Counter(statuses(reads, [*operations, undo])))
        report = checker.Report()
        planned = [
            tuple(row)
            for row in reads.query(
                "SELECT operation_id, subject, action, target FROM operations_operationitem "
                "WHERE operation_id = ANY(%s)",
                operations,
            )
        ]
        entries = sandbox.control.get("ledger")["entries"][ledger:]
        checker.check_runs(
            report, _Only(reads, [*operations, undo]), organization, planned, before, _state(sandbox), entries
        )
        found["outcomes"], found["broken"] = report.outcomes, report.broken
    finally:
        assistant.close()


def _state(sandbox: SandboxProcess) -> dict[str, Any]:
    state: dict[str, Any] = sandbox.control.get("state")
    return state


class _Only:
    """Reads of some operations alone: the copied rows of the older ones were never sent to Atlassian."""

    def __init__(self, reads: Reads, operations: list[int]) -> None:
        self._reads, self._operations = reads, operations

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        narrowed = statement.replace("organization_id = %s", "organization_id = %s AND operation_id = ANY(%s)")
        return self._reads.query(narrowed, *values, self._operations)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--from", dest="revision", required=True, help="commit of the older version")
    parser.add_argument("--people", type=int, default=100_000, help="(default: %(default)s)")
    found = measure(parser.parse_args(arguments))
    print(json.dumps(found, indent=2))
    return int(bool(found["broken"] or found["statement_errors"] or found["old_errors"] or found["new_errors"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
