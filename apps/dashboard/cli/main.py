"""Parsing and exit codes: 0 done, 1 failed, 2 usage, 3 held by a brake or waiting for approval, 4 partial failure."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from typing import TextIO

from apps.dashboard.cli import audit, doctor, keys, operations, operators, organizations, rules, sync
from apps.dashboard.cli.shared import DONE, FAILED, USAGE, Cli, UsageError
from aum.atlassian.errors import AtlassianError
from aum.common.errors import DomainError

GROUPS = (operators, organizations, sync, rules, operations, audit, keys, doctor)
EPILOG = (
    "Exit codes: 0 done, 1 failed, 2 usage, 3 held by a brake or waiting for approval, 4 partial failure. "
    "Secrets are read from files, or from standard input with “-”."
)


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    root = argparse.ArgumentParser(prog="script/aum", description="Automated User Management", epilog=EPILOG)
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in GROUPS:
        module.add(commands)
    return root


def run(argv: Sequence[str], *, stdin: TextIO, stdout: TextIO, stderr: TextIO) -> int:
    """One command; returns its exit code."""
    arguments = list(argv)
    if arguments[:1] in ([], ["help"]):
        parser().print_help(stdout)
        return DONE
    try:
        parsed = parser().parse_args(arguments)
    except SystemExit as stop:  # argparse has said why on its own
        return int(stop.code or 0)
    # What services log is for the server's log; the command tells what matters itself.
    logging.getLogger().setLevel(logging.ERROR)
    cli = Cli(parsed, stdin, stdout, stderr)
    try:
        return int(parsed.handler(cli))
    except UsageError as error:
        cli.tell(str(error))
        return USAGE
    except DomainError as error:
        cli.refuse(error)
        return FAILED
    except AtlassianError as error:
        cli.tell(f"{error}. {error.advice}")
        return FAILED
    except BrokenPipeError:
        return FAILED
    except KeyboardInterrupt:
        cli.tell("Stopped waiting. What was started goes on in the workers.")
        return 130
