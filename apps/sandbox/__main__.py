"""`python -m apps.sandbox`: serves the pretend organisation until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import sys
import threading
from typing import Any

from apps.sandbox.generate import MAX_PEOPLE, MIN_PEOPLE
from apps.sandbox.ledger import StateDirError
from apps.sandbox.server import Sandbox


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m apps.sandbox", description=__doc__)
    parser.add_argument("--port", type=int, default=8090, help="0 picks a free one (default: %(default)s)")
    parser.add_argument("--people", type=int, help=f"size, {MIN_PEOPLE} to {MAX_PEOPLE} (default: 1248)")
    parser.add_argument("--seed", type=int, help="the same seed gives the same organisation (default: 7)")
    parser.add_argument("--state-dir", help="folder that keeps the organisation; without it, memory only")
    parser.add_argument("--latency-ms", type=int, default=0, help="time added to every answer")
    parser.add_argument("--lag-ms", type=int, default=0, help="time until reads see a write")
    parser.add_argument("--quota", metavar="N/SECONDS", help="calls per window and endpoint family, with 429 beyond")
    parser.add_argument("--fault", action="append", default=[], metavar="JSON", help="a fault as for /_control/faults")
    return parser.parse_args(given)


def _faults(options: argparse.Namespace) -> list[dict[str, Any]]:
    faults: list[dict[str, Any]] = [json.loads(text) for text in options.fault]
    if options.latency_ms:
        faults.append({"kind": "latency", "ms": options.latency_ms})
    if options.lag_ms:
        faults.append({"kind": "lag", "ms": options.lag_ms})
    if options.quota:
        limit, _, seconds = options.quota.partition("/")
        faults.append({"kind": "quota", "limit": int(limit), "window_ms": int(float(seconds or 60) * 1000)})
    return faults


def main(given: list[str] | None = None) -> int:
    options = _arguments(given)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # A large organisation is millions of objects that live as long as the process: the collector need not look at them.
    gc.disable()
    try:
        sandbox = Sandbox(
            people=options.people,
            seed=options.seed,
            port=options.port,
            state_dir=options.state_dir,
            faults=_faults(options),
        )
    except (StateDirError, ValueError, OSError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 2
    gc.freeze()
    gc.enable()
    print(f"sandbox ready on {sandbox.url} org={sandbox.credentials.org_id}", flush=True)
    stop.wait()
    sandbox.close()
    # Connection threads may be inside a long fault; what they would answer no longer matters.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
