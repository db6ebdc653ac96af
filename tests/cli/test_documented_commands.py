"""Commands of README and docs/: those of `script/aum` are understood by its parser, and links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from django.conf import settings

from apps.dashboard.cli.main import parser

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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [target for target in LINK.findall(text) if target]

    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_scripts_that_are_named_are_there() -> None:
    named = {name for page in PAGES for name in re.findall(r"script/([a-z][a-z-]*)", page.read_text(encoding="utf-8"))}

    assert {name for name in named if not (ROOT / "script" / name).exists()} == set()
