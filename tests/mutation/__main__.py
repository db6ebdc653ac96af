"""Does a test notice when the code is broken? Mutants of apps/operations and apps/rules, drawn by seed.

    script/mutate                        300 of all mutants; goes on where it was interrupted
    script/mutate --sample 800           the same 300 and 500 more
    script/mutate --again --limit 600    the survivors again, with more time for each
    script/mutate --report               the score by module and the survivors, without running anything
    script/mutate --promises             takes out each line that keeps P1 to P15, and runs the test that has to notice

First each test is traced once, so that a mutant meets only tests that run its line, the quickest and narrowest first.
A mutant inside a function is put into a fork of the process that has everything imported; one that works at import
time gets a fresh process. A kill counts when the same test passes without the mutant. See docs/mutation.md.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest

from tests.mutation.mutants import Mutant, mutants_of
from tests.mutation.promises import run_guards
from tests.mutation.tracing import ROOT, Map, Tracer, rows
from tests.mutation.trials import Trials
from tests.runtime_servers import postgres, valkey

APPS = ("apps/operations", "apps/rules")
LEFT_OUT = {"migrations", "admin.py", "apps.py"}
# The folders whose tests get a chance; what survives here may still die in a browser.
TESTS = ("tests/operations", "tests/rules", "tests/api", "tests/notifications", "tests/autoactivate")
FOLDER = ROOT / "var" / "mutation"
KILLED = ("killed", "timeout", "died")


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/mutate", description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", type=int, default=300, help="how many mutants (0: all)")
    parser.add_argument("--seed", default="1", help="which ones")
    parser.add_argument("--limit", type=float, default=60, help="seconds of tests for each mutant")
    parser.add_argument("--only", default="", help="only files whose path contains this")
    parser.add_argument("--part", default="1/1", help="2/3: the second third, for several machines or databases")
    parser.add_argument("--again", action="store_true", help="run the survivors again")
    parser.add_argument("--known", action="store_true", help="only with the tests that are traced already")
    parser.add_argument("--promises", action="store_true", help="take out the lines that keep P1 to P15 instead")
    parser.add_argument("--report", action="store_true", help="only print what is known")
    parser.add_argument("--minutes", type=float, default=0, help="stop after so long")
    parser.add_argument("tests", nargs="*", default=TESTS, help="folders or files of tests")
    options = parser.parse_args()

    if options.promises:
        with servers():
            return int(run_guards() > 0)
    sources = {name: (ROOT / name).read_bytes() for name in modules()}
    sample, total = sampled(sources, options.seed, options.sample)
    results = known_results()
    if not options.report:
        todo = [
            mutant
            for mutant in sample
            if options.only in mutant.path and is_due(results.get(mutant.key), mutant, options.again)
        ]
        part, parts = map(int, options.part.split("/"))
        todo = todo[part - 1 :: parts]
        print(f"{len(sample)} of {total} mutants (seed {options.seed}); {len(todo)} to run", flush=True)
        if todo and run(todo, sources, options):
            return 1
        results = known_results()
    print_report(sample, results, total, options.seed)
    return 0


@contextlib.contextmanager
def servers() -> Iterator[None]:
    """The environment of the tests; servers are started unless it names some."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "aum.settings_test"
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(FOLDER / "hypothesis")
    with contextlib.ExitStack() as stack:
        if "DATABASE_URL" not in os.environ:
            os.environ["DATABASE_URL"] = stack.enter_context(postgres())
            os.environ["REDIS_URL"] = stack.enter_context(valkey())
        yield


def run(todo: list[Mutant], sources: dict[str, bytes], options: argparse.Namespace) -> int:
    """Trace what is to be traced, then try the mutants."""
    with servers():
        if not options.known and (code := trace(options.tests, sources)):
            return code
        trials = Trials(Map(FOLDER / "tests.jsonl"), sources, todo, options.limit, options.minutes * 60)
        return int(pytest.main([*arguments(options.tests), "--reuse-db", "-qq"], plugins=[trials]))


def modules() -> list[str]:
    """The files that are broken, relative to the root."""
    return [
        str(path.relative_to(ROOT))
        for app in APPS
        for path in sorted((ROOT / app).rglob("*.py"))
        if not LEFT_OUT.intersection(path.parts)
    ]


def sampled(sources: dict[str, bytes], seed: str, size: int) -> tuple[list[Mutant], int]:
    """(the mutants to try, how many there are), found once for these sources: that takes seconds of work."""
    whole = hashlib.sha256(f"{seed} {size}".encode())
    for name in ("tests/mutation/mutants.py", *sources):
        whole.update((ROOT / name).read_bytes())
    kept = FOLDER / f"sample-{whole.hexdigest()[:16]}.json"
    if kept.is_file():
        data = json.loads(kept.read_text())
        return [Mutant(**{**row, "names": tuple(row["names"])}) for row in data["mutants"]], data["of"]
    everything = [mutant for name, source in sources.items() for mutant in mutants_of(name, source)]
    sample = drawn(everything, seed, size, sources)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps({"of": len(everything), "mutants": [asdict(mutant) for mutant in sample]}))
    return sample, len(everything)


def drawn(mutants: list[Mutant], seed: str, size: int, sources: dict[str, bytes]) -> list[Mutant]:
    """`size` of them in an order that depends on the seed only, so that a larger sample holds the smaller one."""
    ordered = sorted(mutants, key=lambda mutant: hashlib.sha256(f"{seed}{mutant.key}".encode()).digest())
    found: list[Mutant] = []
    for mutant in ordered:
        if size and len(found) == size:
            break
        if compiles(mutant, sources[mutant.path]):
            found.append(mutant)
    return found


def compiles(mutant: Mutant, source: bytes) -> bool:
    try:
        compile(mutant.apply(source), mutant.path, "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


def arguments(tests: list[str]) -> list[str]:
    return [*tests, "-q", "-m", "not slow and not browser", "-p", "no:cacheprovider", "-p", "no:xdist"]


def trace(tests: list[str], sources: dict[str, bytes]) -> int:
    """Trace the tests that are not known, in a process of their own: what they leave behind is not inherited."""
    child = os.fork()
    if child == 0:
        tracer = Tracer(Map(FOLDER / "tests.jsonl"), sources)
        code = pytest.main([*arguments(tests), "--create-db"], plugins=[tracer])
        os._exit(
            0 if code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED) else 1
        )
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def known_results() -> dict[str, dict[str, Any]]:
    return {row["key"]: row for row in rows(FOLDER / "results.jsonl")}


def is_due(result: dict[str, Any] | None, mutant: Mutant, again: bool) -> bool:
    if result is None or result["digest"] != mutant.digest:
        return True
    return again and result["status"] not in KILLED


@dataclass
class Count:
    run: int = 0
    killed: int = 0
    survivors: list[Mutant] = field(default_factory=list)


def print_report(sample: list[Mutant], results: dict[str, dict[str, Any]], of: int, seed: str) -> None:
    counts: dict[str, Count] = defaultdict(Count)
    lasting: list[tuple[Mutant, dict[str, Any]]] = []
    for mutant in sample:
        result = results.get(mutant.key)
        if result is None or result["digest"] != mutant.digest:
            continue
        app = next(app for app in APPS if mutant.path.startswith(app))
        for name in (mutant.path, app, "both apps"):
            counts[name].run += 1
            counts[name].killed += result["status"] in KILLED
        if result["status"] not in KILLED:
            lasting.append((mutant, result))
    print(f"\n{'module':<48} {'mutants':>7} {'killed':>7} {'score':>6}")
    for name in sorted(counts, key=lambda name: (name not in (*APPS, "both apps"), name)):
        count = counts[name]
        print(f"{name:<48} {count.run:>7} {count.killed:>7} {100 * count.killed / count.run:>5.0f} %")
    if lasting:
        print("\nsurvivors")
    for mutant, result in sorted(lasting, key=lambda pair: (pair[0].path, pair[0].line)):
        print(f"  {mutant}  [{mutant.scope}] {result['status']}, {result['ran']} of {result['of']} tests")
    seconds = sum(results[m.key]["seconds"] for m in sample if m.key in results)
    total = counts["both apps"]
    print(f"\n{total.killed} of {total.run} killed; {total.run} of {of} tried, seed {seed}; {seconds / 60:.0f} min")


if __name__ == "__main__":
    sys.exit(main())
