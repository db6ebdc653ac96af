"""`script/chaos`: see the package."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.product import chaos
from tests.product.chaos import guards
from tests.product.harness import ROOT

REPORT = ROOT / "var" / "chaos" / "report.jsonl"


def done_before(report: Path) -> dict[int, dict[str, Any]]:
    """Seed → its last line of the report; a line cut short by a kill counts as not run."""
    found = {}
    if report.exists():
        for line in report.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                one = json.loads(line)
                found[int(one["seed"])] = one
    return found


def told(trial: chaos.Trial) -> str:
    """One trial for people."""
    lines = [
        f"{'BROKEN' if trial.broken else 'held  '} seed {trial.seed}, {trial.seconds} s: {', '.join(trial.work)}; "
        f"{', '.join(trial.strikes)}; {'; '.join(trial.atlassian) or 'Atlassian well'}; "
        f"{trial.told_by_reading} told by reading, {trial.repeats} repeats",
        *trial.broken,
    ]
    return "\n       ".join(lines)


def summary(report: Path) -> str:
    """All trials of the report: how many ran, what was found, what they met."""
    trials = list(done_before(report).values())
    kinds = Counter(line.partition(":")[0] for trial in trials for line in trial["broken"])
    bad = sum(bool(trial["broken"]) for trial in trials)
    seconds = sorted(trial["seconds"] for trial in trials) or [0.0]
    outcomes = Counter[str]()
    for trial in trials:
        outcomes.update(trial["outcomes"])
    strikes = Counter(strike.partition(":")[0] for trial in trials for strike in trial["strikes"])
    return (
        f"{len(trials)} trials in the report, {bad} broken ({dict(kinds)}); median {seconds[len(seconds) // 2]} s; "
        f"items by outcome {dict(outcomes)}; {sum(t['told_by_reading'] for t in trials)} told by reading, "
        f"{sum(t['repeats'] for t in trials)} repeats; strikes {dict(strikes)}"
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="script/chaos", description=(chaos.__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=3, help="how many seeds, from 0 on (default 3)")
    parser.add_argument("--minutes", type=float, default=0, help="stop after so long, between two trials")
    parser.add_argument("--seed", type=int, action="append", help="run this trial, also again")
    parser.add_argument("--report", type=Path, default=REPORT, help="where each trial is a line (default: var/chaos)")
    parser.add_argument("--keep", type=Path, help="folder of an installation that later calls go on with")
    parser.add_argument("--summary", action="store_true", help="only sum up the report")
    parser.add_argument("--choice", type=json.loads, help="JSON of a trial that is written down, see menu.Choice")
    parser.add_argument(
        "--guards", action="append", nargs="?", const="", help="take out each protection whose name holds this"
    )
    options = parser.parse_args(arguments)
    if options.guards is not None:
        return guards.main([word for word in options.guards if word])
    if options.summary:
        print(summary(options.report))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    seeds = options.seed or sorted(set(range(options.trials)) - set(done_before(options.report)))
    until = time.monotonic() + options.minutes * 60 if options.minutes else float("inf")
    options.report.parent.mkdir(parents=True, exist_ok=True)
    ran = bad = 0
    for trial in chaos.trials(seeds, until=until, data_dir=options.keep, written=options.choice):
        ran, bad = ran + 1, bad + bool(trial.broken)
        with options.report.open("a", encoding="utf-8") as report:
            report.write(trial.as_json() + "\n")
        print(told(trial), flush=True)
    print(f"{ran} trials run now, {bad} broken.\n{summary(options.report)}")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
