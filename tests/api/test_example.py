"""The client that docs/api.md shows, as its own process against a real server."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from apps.operations.models import Operation
from apps.operators.models import Operator
from apps.organizations.models import Organization
from tests.api.conftest import finish_work


def test_the_example_previews_then_suspends_exactly_those(
    live_server: Any, tmp_path: Path, organization: Organization, owner: Operator, token: Callable[..., str]
) -> None:
    environment = {
        **os.environ,
        "AUM_URL": live_server.url,
        "AUM_ORGANIZATION": organization.slug,
        "AUM_TOKEN": token(owner, "read", "preview", "run"),
    }
    command = [sys.executable, str(settings.BASE_DIR / "docs" / "examples" / "bulk_suspend.py")]
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.2):
            finish_work()
        connection.close()

    worker = threading.Thread(target=work)
    worker.start()

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *words], env=environment, capture_output=True, text=True, check=False, timeout=90
        )

    try:
        wrong = run("inactive_dais=60")
        found = run("inactive_days=400", "membership_status=active", "claim_status=managed")
        people = {line.split("\t")[0] for line in found.stdout.splitlines()}
        leavers = tmp_path / "leavers.csv"
        leavers.write_text("name,account_id\n" + "".join(f"x,{person}\n" for person in sorted(people)[:3]))
        applied = run(str(leavers), "--apply")
    finally:
        stop.set()
        worker.join()

    assert (wrong.returncode, "inactive_dais" in wrong.stderr) == (1, True)
    assert found.returncode == 0, found.stderr
    assert len(people) > 3
    live = Operation.objects.get(mode="live")
    assert set(live.items.values_list("subject", flat=True)) == set(sorted(people)[:3])
    assert applied.returncode == (3 if live.status == "held" else 0), applied.stderr
