"""Each protection taken out once, in a copy of the tree, to see that the checker then finds what it protects from.

    script/chaos --guards                       all of them, one after the other
    script/chaos --guards leases --guards pauses

A guard is a text of the product and what stands there without it, with a trial that needs it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.product.chaos.menu import WRITES
from tests.product.harness import ROOT

SUSPEND = [{"action": "suspend", "products": [], "people": 35}]
RECOVERY_SECONDS = "45"


@dataclass(frozen=True)
class Guard:
    """`text` of `path` becomes `without`; then `trial` has to find one of the kinds of `found`."""

    name: str
    path: str
    text: str
    without: str
    found: tuple[str, ...]
    trial: dict[str, Any] = field(default_factory=dict)


GUARDS = (
    Guard(
        "people of a dead worker are taken up",
        "apps/operations/services/claims.py",
        "    now = database_now()\n    expired = ",
        "    return\n    expired = ",
        ("lost", "stuck"),
        {"runs": SUSPEND, "strikes": [["runner", "writing"], ["runner", "writing"]]},
    ),
    Guard(
        "a lost run is found by the sweep",
        "apps/operations/services/execution.py",
        'enqueue_again("operations.execute", operation_id=pk)\n    for',
        "pass\n    for",
        ("lost", "stuck"),
        {"runs": SUSPEND, "strikes": [["queue", "lost"], ["runner", "main"]], "is_early": True},
    ),
    Guard(
        "a lost answer is read before anything is repeated",
        "apps/operations/services/execution.py",
        "            result = read_back(item, reading)\n            if result is not None:\n                final",
        "            result = None\n            if result is not None:\n                final",
        ("double",),
        {"runs": SUSPEND, "faults": [{"kind": "lost_answer", "how": "close", "path": WRITES, "count": 8}]},
    ),
    Guard(
        "a lost answer is no success",
        "apps/operations/services/execution.py",
        "    if isinstance(error, LostAnswer):\n        return Written(item, is_answered=False, ids=ids)\n    if",
        "    if isinstance(error, LostAnswer):\n"
        "        return Written(item, result=Result(Outcome.DONE), ids=ids)\n    if",
        ("untrue",),
        {"runs": SUSPEND, "faults": [{"kind": "reset", "path": WRITES, "count": 8}]},
    ),
    Guard(
        "what is in doubt is found out",
        "apps/operations/services/execution.py",
        "    if isinstance(error, LostAnswer):\n        return Written(item, is_answered=False, ids=ids)\n    if",
        "    if isinstance(error, LostAnswer):\n"
        "        return Written(item, result=Result(Outcome.UNRESOLVED), ids=ids)\n    if",
        ("unexplained",),
        {"runs": SUSPEND, "faults": [{"kind": "lost_answer", "how": "close", "path": WRITES, "count": 8}]},
    ),
    Guard(
        "leases are counted by the clock of the database",
        "aum/common/clock.py",
        "    assert row is not None\n    instant: datetime = row[0]\n",
        "    assert row is not None\n    from django.utils import timezone\n\n    instant: datetime = timezone.now()\n",
        ("double",),
        {
            "runs": SUSPEND,
            "strikes": [["clock", "everywhere ahead"]],
            "faults": [{"kind": "latency", "ms": 4000, "path": WRITES, "count": 12}],
        },
    ),
    Guard(
        "a clock that is put back does not silence beat",
        "apps/rules/scheduler.py",
        "        self._forget_the_future()\n",
        "",
        ("stuck", "lost"),
        {"runs": SUSPEND, "strikes": [["clock", "everywhere ahead"], ["clock", "right again"], ["runner", "main"]]},
    ),
    Guard(
        "a plan is carried out as it was frozen",
        "apps/operations/services/execution.py",
        "    if planning.freeze(operation)[0] != operation.plan_hash:",
        "    if False:",
        ("outside",),
        {"runs": SUSPEND, "is_tampered": True},
    ),
    Guard(
        "who is told to wait waits",
        "aum/atlassian/transport.py",
        "        self._limiter.pause(reach, wait + _WAIT_MARGIN_SECONDS)\n",
        "",
        ("told to wait",),
        {
            "runs": SUSPEND,
            "faults": [{"kind": "rate_limit", "style": "retry_after", "seconds": 2, "path": WRITES, "count": 3}],
        },
    ),
    Guard(
        "each outcome has its audit row",
        "apps/operations/services/outcomes.py",
        "for item, result in finished],\n    )",
        "for item, result in finished[1:]],\n    )",
        ("audit",),
        {"runs": SUSPEND},
    ),
    Guard(
        "a partial reading makes nobody vanish",
        "apps/users/services/sync_reading.py",
        "mark_vanished=not gaps)",
        "mark_vanished=True)",
        ("mirror",),
        {"runs": SUSPEND, "has_sync": True, "faults": [{"kind": "drop_people", "percent": 20}]},
    ),
    Guard(
        "a ticket that comes twice is one event",
        "apps/autoactivate/services/receiving.py",
        "dedup_key=received.dedup_key[:200],",
        "dedup_key=f\"{received.dedup_key[:100]}{__import__('uuid').uuid4()}\",",
        ("double",),
        {"runs": SUSPEND, "tickets": 6},
    ),
    Guard(
        "an event of a dead worker is taken up",
        "apps/autoactivate/services/processing.py",
        '        enqueue_again("autoactivate.process", event_id=pk)\n    overdue',
        "        pass\n    overdue",
        ("lost", "stuck"),
        {"runs": SUSPEND, "tickets": 9, "strikes": [["queue", "lost"], ["worker", "main"], ["queue", "lost"]]},
    ),
    Guard(
        "a mail that was handed over is not sent again",
        "apps/notifications/services/sending.py",
        '        doubt(row, "The process that sent this mail ended before the mail server answered.")\n',
        "        Delivery.objects.filter(pk=row.pk).update(status=Status.QUEUED, lease_token=None)\n",
        ("double",),
        {"runs": SUSPEND, "has_notices": True, "strikes": [["worker", "mailing"]], "is_early": True},
    ),
    Guard(
        "connections of a restarted PostgreSQL are not used",
        "aum/settings.py",
        '"CONN_HEALTH_CHECKS": True',
        '"CONN_HEALTH_CHECKS": False',
        ("stuck",),
        {"runs": SUSPEND, "strikes": [["postgres", "main"]]},
    ),
)


def copy_without(guard: Guard, folder: Path) -> None:
    """The tree in `folder`, without the guard. Raises AssertionError when its text is not there exactly once."""
    for name in ("apps", "aum", "tests", "templates", "static"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "manage.py", folder)
    path = folder / guard.path
    text = path.read_text(encoding="utf-8")
    assert text.count(guard.text) == 1, f"{guard.name}: its text stands {text.count(guard.text)} times in {guard.path}"
    path.write_text(text.replace(guard.text, guard.without), encoding="utf-8")


def kinds_found(guard: Guard, number: int) -> set[str]:
    """The kinds of findings of the guard's trial, without the guard."""
    with tempfile.TemporaryDirectory(prefix="aum-guard-") as temporary:
        folder = Path(temporary)
        # Root's PostgreSQL is nobody and has to pass through.
        folder.chmod(0o755)
        copy_without(guard, folder)
        report = folder / "report.jsonl"
        command = [sys.executable, "-m", "tests.product.chaos", "--choice", json.dumps(guard.trial)]
        subprocess.run(
            [*command, "--seed", str(10_000 + number), "--report", str(report)],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(folder), "AUM_TRIAL_RECOVERY_SECONDS": RECOVERY_SECONDS},
            check=False,
        )
        lines = report.read_text(encoding="utf-8").splitlines() if report.exists() else []
        return {line.partition(":")[0] for text in lines for line in json.loads(text)["broken"]}


def main(wanted: list[str]) -> int:
    """Run the guards whose names hold one of `wanted` (all of them where it is empty); 0 when each was caught."""
    missed = 0
    for number, guard in enumerate(GUARDS):
        if wanted and not any(word in guard.name for word in wanted):
            continue
        found = kinds_found(guard, number)
        is_caught = bool(found & set(guard.found))
        missed += not is_caught
        print(
            f"{'CAUGHT' if is_caught else 'MISSED'} | {guard.name} | {', '.join(sorted(found)) or 'nothing'}",
            flush=True,
        )
    return int(bool(missed))
