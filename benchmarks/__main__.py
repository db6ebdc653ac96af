"""`script/bench`: runs benchmarks, each at each size in a process of its own, and writes the table and the curve."""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

from benchmarks import common, report


def main() -> int:
    known = common.benchmarks()
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(known)}; all when none is given")
    parser.add_argument("--size", type=int, action="append", help="10000, 100000, 1000000; may be given repeatedly")
    parser.add_argument("--rounds", type=int, help="5 or more for figures that count")
    parser.add_argument("--seed", type=int, default=7, help="of the order and of the data")
    parser.add_argument("--report", action="store_true", help="only write docs/performance.md from the results")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(known))
    if unknown:
        parser.error(f"no benchmark named {', '.join(unknown)}; there are {', '.join(known)}")
    if given.report:
        report.write()
        return 0
    chosen = [known[name] for name in given.names or known]
    if given.here:
        common.execute(chosen[0], size=given.size[0], rounds=given.rounds, seed=given.seed)
        return 0
    failed = []
    with servers() as environ:
        for benchmark in chosen:
            for size in given.size or [benchmark.default_size]:
                # A process each: memory that one took would hide what the next one takes.
                command = [sys.executable, "-m", "benchmarks", benchmark.name, "--here", "--size", str(size)]
                command += ["--seed", str(given.seed), *(["--rounds", str(given.rounds)] if given.rounds else [])]
                if subprocess.run(command, cwd=common.ROOT, env=environ, check=False).returncode:
                    failed.append(f"{benchmark.name} at {size:,}")
    report.write()
    if failed:
        print(f"\nFailed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


@contextlib.contextmanager
def servers() -> Iterator[dict[str, str]]:
    """The environment of the benchmarks: DATABASE_URL and REDIS_URL as given, or throwaway servers, migrated once."""
    if os.environ.get("DATABASE_URL") and os.environ.get("REDIS_URL"):
        yield dict(os.environ)
        return
    from tests.runtime_servers import postgres, valkey

    with postgres(**common.POSTGRES) as database_url, valkey() as redis_url:
        environ = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "aum.settings_test",
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "AUM_TEST_TEMPLATE": database_url.rpartition("/")[2],
        }
        migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
        subprocess.run(migrate, cwd=common.ROOT, env=environ, check=True)
        # Copies are made of a database that nobody is connected to.
        yield {**environ, "DATABASE_URL": urlunsplit(urlsplit(database_url)._replace(path="/postgres"))}


if __name__ == "__main__":
    sys.exit(main())
