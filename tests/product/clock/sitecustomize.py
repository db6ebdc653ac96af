"""A clock that a trial moves: every process of a product whose PYTHONPATH starts with this folder imports it first.

AUM_TRIAL_CLOCK names a file of JSON, kind of process → seconds that its clock is ahead (behind, where negative); `*` is
every kind. The file is looked at ten times a second. Monotonic time, PostgreSQL and Valkey stay as they are.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

_NAMES = {"gunicorn": "web", "worker@%h": "worker", "runner@%h": "runner", "beat": "beat"}


# How the clock stands now; a forked child goes on from there.
_now: dict[str, Any] = {"travel": None, "shift": 0.0, "seen": 0}


def _watch(path: str, kind: str) -> None:
    while True:
        try:
            changed = os.stat(path).st_mtime_ns
            if changed != _now["seen"]:
                with open(path, encoding="utf-8") as stream:
                    wanted = json.load(stream)
                _now["seen"] = changed
                _move(float(wanted.get(kind, wanted.get("*", 0.0))))
        except (OSError, ValueError):
            pass
        time.sleep(0.1)


def _move(shift: float) -> None:
    import time_machine

    if shift == _now["shift"]:
        return
    if _now["travel"] is not None:
        _now["travel"].stop()
        _now["travel"] = None
    if shift:
        _now["travel"] = time_machine.travel(time.time() + shift)
        _now["travel"].start()
    _now["shift"] = shift


def _start() -> None:
    path = os.environ.get("AUM_TRIAL_CLOCK")
    kind = next((kind for word, kind in _NAMES.items() if word in sys.orig_argv), "")
    if path and kind:
        threading.Thread(target=_watch, args=(path, kind), name="trial-clock", daemon=True).start()


_start()
os.register_at_fork(after_in_child=_start)
