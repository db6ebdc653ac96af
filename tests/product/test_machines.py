"""Workers on several machines against one PostgreSQL and Redis: joining, leaving, and a restored copy that waits."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.product import harness
from tests.product.harness import FAST, ROOT, Product, SandboxProcess, environment, wait_for
from tests.product.test_kills import Size, assert_nothing_was_lost_or_done_twice, finished, status

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds its processes in /proc"),
]
SIZE = Size(people=1500, least=300, latency_ms=150, calls_in_flight=4, rounds=2)
FINAL = ("succeeded", "partial_failure", "failed", "no_effect")


@pytest.fixture(autouse=True)
def _patient_with_a_loaded_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "START_SECONDS", 300.0)


class Machine:
    """A worker with a home and a data folder of its own, which shares nothing with the product but the two servers."""

    def __init__(self, name: str, home: Path, product: Product) -> None:
        self.name = f"{name}@{name}"
        self.home = home / name
        self.home.mkdir()
        own = ("AUM_DATA_DIR", "HOME", "PORT")
        variables = {name: value for name, value in product.shared().items() if name not in own}
        variables |= environment(self.home / "var", ATLASSIAN_SITE_ALLOWLIST="127.0.0.1", **FAST)
        variables["DJANGO_SETTINGS_MODULE"] = "aum.settings"
        options = ["--queues=operations,sync", "--concurrency=2", "--loglevel=WARNING", "-n", self.name]
        with (self.home / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", "--app=aum", "worker", *options],
                cwd=ROOT,
                env=variables,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def die(self) -> None:
        """The whole machine goes at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def active(product: Product) -> dict[str, list[dict[str, Any]]]:
    """Worker → the tasks that it has in hand."""
    result = subprocess.run(
        [sys.executable, "-m", "celery", "--app=aum", "inspect", "active", "--json", "--timeout=2"],
        cwd=ROOT,
        env=environment(product.data_dir) | product.shared(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
    found: dict[str, list[dict[str, Any]]] = json.loads(lines[0]) if lines else {}
    return found


def driver(product: Product) -> str:
    """Which worker drives the run now; empty when none does."""
    return next(
        (name for name, tasks in active(product).items() if any(t["name"] == "operations.execute" for t in tasks)), ""
    )


def test_machines_share_the_work_join_and_leave_in_the_middle(tmp_path: Path) -> None:
    with (
        SandboxProcess(people=SIZE.people, seed=3) as sandbox,
        Product(ATLASSIAN_SITE_ALLOWLIST="127.0.0.1") as product,
    ):
        limits = dict.fromkeys(("max_count", "max_per_day"), SIZE.people - 50)
        product.arrange(
            "connect",
            url=sandbox.url,
            slug="kills",
            settings={**limits, "max_share_percent": 95, "calls_in_flight": SIZE.calls_in_flight},
        )
        machines = {machine.name: machine for machine in [Machine("b", tmp_path, product)]}
        try:
            wait_for(lambda: "b@b" in active(product), seconds=60, what="machine b")
            sandbox.control.post("faults", {"kind": "latency", "ms": SIZE.latency_ms, "path": "/suspend|users/search"})
            before: dict[str, Any] = sandbox.control.get("state")
            operation = product.arrange("start", slug="kills", inactive_days=45)["operation"]
            wait_for(lambda: finished(product, operation) > 5, seconds=90, what="the run begins")
            planned = product.query(
                "SELECT subject, target FROM operations_operationitem WHERE operation_id = %s", operation
            )
            assert len({subject for subject, _target in planned}) >= SIZE.least

            # Both work on it at the same time, and together make no more calls at once than they may.
            def at_work() -> list[tuple[str, int]]:
                rows = product.query("SELECT name, slots FROM operations_rundriver WHERE slots > 0")
                assert sum(slots for _name, slots in rows) <= SIZE.calls_in_flight, rows
                return rows

            shared = wait_for(lambda: (rows := at_work()) and len(rows) > 1 and rows, seconds=60, what="it is shared")
            assert len({name for name, _slots in shared}) > 1

            # A third joins in the middle; then whoever has the run dies, twice, and another goes on with it.
            machines["c@c"] = Machine("c", tmp_path, product)
            drivers = []
            for _death in range(2):
                name = wait_for(lambda: driver(product), seconds=40, what="somebody drives the run")
                drivers.append(name)
                if name in machines:
                    machines.pop(name).die()
                else:
                    product.kill("runner")
                at = finished(product, operation)
                wait_for(
                    lambda at=at: finished(product, operation) > at + 5 or status(product, operation) in FINAL,
                    seconds=60,
                    what=f"the run goes on after {drivers}",
                )
            wait_for(lambda: status(product, operation) in FINAL, seconds=150, what=f"the end after {drivers}")
            assert_nothing_was_lost_or_done_twice(product, sandbox, operation, planned, before, SIZE)
            assert product.query("SELECT count(*) FROM operations_rundriver") == [(0,)]
            print(f"{len(planned)} items; shared by {shared}, led by {drivers}")
        finally:
            for machine in machines.values():
                machine.die()


def command(data_dir: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`script/aum WORDS` over a data folder whose server does not run, or beside it."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "aum.runtime.command", *words],
        cwd=ROOT,
        env=environment(data_dir, ATLASSIAN_SITE_ALLOWLIST="127.0.0.1", **FAST),
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )


def test_backup_destroy_restore_and_nothing_happens_before_an_owner_confirms_and_then_it_goes_on(
    tmp_path: Path,
) -> None:
    tmp_path.chmod(0o755)
    for folder in list(tmp_path.parents)[:3]:
        folder.chmod(folder.stat().st_mode | 0o055)
    data_dir = tmp_path / "var"
    with SandboxProcess(people=300, seed=3) as sandbox:
        product = Product(data_dir, ATLASSIAN_SITE_ALLOWLIST="127.0.0.1")
        try:
            product.start()
            limits = dict.fromkeys(("max_count", "max_per_day"), 250)
            product.arrange("connect", url=sandbox.url, slug="kept", settings={**limits, "max_share_percent": 95})
            first = product.arrange("start", slug="kept", inactive_days=200)["operation"]
            wait_for(lambda: status(product, first) in FINAL, seconds=90, what="the first run")
            wait_for(
                lambda: command(data_dir, "audit", "verify", "--organization", "kept").returncode == 0,
                seconds=90,
                what="a sealed chain",
                every=2,
            )
            # A run stands half done in the dump: slow writes, then the power goes.
            sandbox.control.post("faults", {"kind": "latency", "ms": 800, "path": "/suspend"})
            second = product.arrange("start", slug="kept", inactive_days=60)["operation"]
            wait_for(lambda: finished(product, second) > 0, seconds=60, what="the second run begins")
            saved = command(data_dir, "backup")
            assert saved.returncode == 0, saved.stderr
            known = product.query("SELECT count(*) FROM users_account")
            items = product.query("SELECT count(*) FROM operations_operationitem")
            product.stop(signal.SIGKILL)
        finally:
            product._end()
        (dump,) = (data_dir / "backups").glob("aum-*.dump")
        shutil.rmtree(data_dir / "postgres")
        shutil.rmtree(data_dir / "valkey")
        restored = command(data_dir, "restore", str(dump))
        assert restored.returncode == 0, restored.stderr
        sandbox.control.post("faults", {"clear": True})
        writes = len(sandbox.control.get("ledger")["entries"])

        with Product(data_dir, ATLASSIAN_SITE_ALLOWLIST="127.0.0.1") as product:
            assert product.query("SELECT count(*) FROM users_account") == known
            assert product.query("SELECT count(*) FROM operations_operationitem") == items
            assert product.query("SELECT bool_and(kill_switch_at IS NOT NULL) FROM organizations_organization") == [
                (True,)
            ]
            verified = command(data_dir, "audit", "verify", "--organization", "kept")
            assert verified.returncode == 0, verified.stdout + verified.stderr
            # Sweeps run every 3 seconds here: longer than any of them needs.
            wait_for(lambda: product.status("/healthz") == 200, seconds=20, what="it answers")
            time.sleep(15)
            assert len(sandbox.control.get("ledger")["entries"]) == writes
            assert status(product, second) not in FINAL

            # Only an owner says that this copy may act; then the run that stood half done goes on to a true end.
            confirm = (
                "kill-switch",
                "off",
                "--organization",
                "kept",
                "--reason",
                "Restored",
                "--as",
                "kept@aum.example",
            )
            refused = command(data_dir, *confirm)
            assert refused.returncode != 0, refused.stdout
            assert len(sandbox.control.get("ledger")["entries"]) == writes
            assert product.change("UPDATE operators_grant SET role = 'owner'") == 1
            confirmed = command(data_dir, *confirm)
            assert confirmed.returncode == 0, confirmed.stdout + confirmed.stderr
            wait_for(lambda: status(product, second) in FINAL, seconds=150, what="the run goes on")
            assert status(product, second) == "succeeded"
            items = product.query(
                "SELECT subject, outcome FROM operations_operationitem WHERE operation_id = %s", second
            )
            assert {outcome for _subject, outcome in items} <= {"done", "already_so"}
            after = sandbox.control.get("state")
            assert all("active" not in after[subject]["directories"].values() for subject, _outcome in items)
            effects = [
                (entry["account"], entry["path"])
                for entry in sandbox.control.get("ledger")["entries"]
                if entry["effect"] == "changed" and "/_control/" not in entry["path"]
            ]
            assert len(effects) == len(set(effects)), "a second effective write"
            verified = command(data_dir, "audit", "verify", "--organization", "kept")
            assert verified.returncode == 0, verified.stdout + verified.stderr
