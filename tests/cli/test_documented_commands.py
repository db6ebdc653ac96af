"""Commands of README and docs/: those of `script/aum` are understood by its parser, and links lead somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from apps.dashboard.cli.main import parser
from apps.operations.models import Operation
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.sandbox.server import Sandbox
from apps.users.services import request_sync, run_sync
from tests.cli.test_journey import RULES, effective_writes

ROOT = Path(settings.BASE_DIR)
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
# Handled before the application starts (`aum.runtime.command`).
OUTSIDE = ("backup", "restore", "help")
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#[^)\s]*)?\)")


def commands() -> list[tuple[str, list[str]]]:
    """(page, words) of each `script/aum` in a code block or between backticks."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = re.findall(r"^ {4,}script/aum ([^\n]+)$", text, re.MULTILINE)
        lines += re.findall(r"`script/aum ([^`\n]+)`", text)
        for line in lines:
            words = shlex.split(line.partition(" > ")[0], comments=True)
            if words and words[0] not in OUTSIDE and "…" not in words and "COMMAND" not in words:
                found.append((page.name, words))
    return found


COMMANDS = commands()


def test_there_are_documented_commands() -> None:
    assert len(COMMANDS) > 12


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=[" ".join(words) for _page, words in COMMANDS])
def test_the_command_line_understands_what_is_documented(page: str, words: list[str]) -> None:
    ended = 0
    try:
        parser().parse_args(words)
    except SystemExit as end:
        ended = int(end.code or 0)

    assert ended == 0, f"{page}: script/aum {' '.join(words)}"


@pytest.mark.django_db(transaction=True)
def test_what_is_documented_is_done(
    aum: Callable[..., Any],
    sandbox: Sandbox,
    connect: Callable[..., Organization],
    operators: Callable[..., Operator],
    tmp_path: Path,
) -> None:
    """Every documented command, from the first line to the last, with the files and people that the pages speak of."""
    organization = connect(sandbox, activity_margin_hours=0)
    run = request_sync(organization=organization, actor=Actor.system())
    run_sync(run.pk, budget_seconds=None, wait_here=True)
    operators(organization, "ann@example.com", "admin")
    operators(organization, "bob@example.com", "approver")
    operators(organization, "you@example.com", "owner")
    (tmp_path / "rules.yaml").write_text(RULES.format(mode="safe"))
    start = sandbox.control.get("state")
    # The number of an operation that a page names → which one that is here, counted from the newest.
    numbers = {"12": 0, "13": 0, "1904": -1}
    said = dict(re.findall(r"^ {4}script/aum (.+?) +# exit (\d)", (ROOT / "docs/cli.md").read_text(), re.MULTILINE))
    # The story of docs/cli.md first: what others speak of comes out of it.
    for _page, words in sorted(COMMANDS, key=lambda command: command[0] != "cli.md"):
        made = list(Operation.objects.order_by("number").values_list("number", flat=True))
        sent = []
        for word in words:
            if word in numbers:
                word = str(made[numbers[word] - 1] if word != "1904" else made[0] + 1)
            sent.append(str(tmp_path / word) if word in ("rules.yaml", "run.zip") else word)
        result = aum(*sent, code=None)
        assert result.code == int(said.get(shlex.join(words).replace("'", '"'), 0)), f"{words}: {result}"
    assert (tmp_path / "run.zip").stat().st_size > 1000
    assert len(effective_writes(sandbox)) > 10
    assert sandbox.control.get("state") == start


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [target for target in LINK.findall(text) if target]

    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_scripts_that_are_named_are_there() -> None:
    named = {name for page in PAGES for name in re.findall(r"script/([a-z][a-z-]*)", page.read_text(encoding="utf-8"))}

    assert {name for name in named if not (ROOT / "script" / name).exists()} == set()
