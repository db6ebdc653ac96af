"""`manage.py aum …`, which `script/aum …` runs: the command line of docs/cli.md."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import connections

from apps.dashboard.cli.main import run


class Command(BaseCommand):
    help = "The command line of AUM; `aum help` lists its commands."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("arguments", nargs=argparse.REMAINDER)

    def run_from_argv(self, argv: list[str]) -> None:
        """Everything after `aum` is ours: options, help and exit codes."""
        try:
            code = run(argv[2:], stdin=sys.stdin, stdout=sys.stdout, stderr=sys.stderr)
        finally:
            connections.close_all()
        sys.exit(code)

    def handle(self, *args: Any, **options: Any) -> None:
        out, err = options.get("stdout") or sys.stdout, options.get("stderr") or sys.stderr
        code = run(options["arguments"], stdin=sys.stdin, stdout=out, stderr=err)
        if code:
            sys.exit(code)
