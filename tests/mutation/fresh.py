"""One mutant from the very import on: python -m tests.mutation.fresh pytest NODEID... | COMMAND of manage.py ...

AUM_MUTANT_FILE names the module, AUM_MUTANT_SOURCE a file that holds what is to be compiled in its place.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

import pytest


def replace_module(path: str, source: bytes) -> None:
    """From now on, whoever imports the file at `path` gets `source`."""
    usual = SourceFileLoader.get_code

    def get_code(self: SourceFileLoader, fullname: str) -> CodeType | None:
        if self.path == path:
            return compile(source, path, "exec", dont_inherit=True)
        return usual(self, fullname)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign]


class TellFirstFailure:
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            print(f"\nFAILED-TEST {report.nodeid}", flush=True)


def main(arguments: list[str]) -> int:
    replace_module(os.environ["AUM_MUTANT_FILE"], Path(os.environ["AUM_MUTANT_SOURCE"]).read_bytes())
    if arguments[0] == "pytest":
        options = ["-x", "-q", "--reuse-db", "-p", "no:cacheprovider", "-p", "no:xdist"]
        return pytest.main([*options, *arguments[1:]], plugins=[TellFirstFailure()])
    from django.core.management import execute_from_command_line

    execute_from_command_line(["manage.py", *arguments])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
