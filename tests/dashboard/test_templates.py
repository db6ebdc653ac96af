from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from django.conf import settings
from django.template import engines
from django.test import RequestFactory

from apps.users.selectors.explorer import GroupTag
from aum.common.templatetags import aum as tags
from aum.common.templatetags.icons import ICONS

TEMPLATES = sorted((settings.BASE_DIR / "templates").rglob("*.html"))
FORBIDDEN = {
    "a style attribute": r"\sstyle=",
    # A block of data is no script: the policy lets it be, and the browser does not run it.
    "an inline script": r"<script(?![^>]*(?:\bsrc=|type=\"application/json\"))",
    "an inline stylesheet": r"<style\b",
    "an event attribute": r"\son[a-z]+=",
    "hx-on": r"\bhx-on",
    "a js: value": r"js:",
    "an address elsewhere": r"(?:src|href)=\"https?:",
}


def _name(path: Path) -> str:
    return str(path.relative_to(settings.BASE_DIR / "templates"))


@pytest.mark.parametrize("path", TEMPLATES, ids=_name)
def test_templates_hold_nothing_that_the_policy_forbids(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert [what for what, pattern in FORBIDDEN.items() if re.search(pattern, text)] == []


@pytest.mark.parametrize("path", TEMPLATES, ids=_name)
def test_templates_compile_and_name_icons_that_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    engines["django"].from_string(text)

    assert set(re.findall(r'\{% icon "([^"]+)"', text)) <= set(ICONS)
    assert set(re.findall(r'\{% badge "([^"]+)"', text)) <= set(tags.BADGES)


def _render(source: str, **context: object) -> str:
    return engines["django"].from_string(source).render(context, RequestFactory().get("/?b=2&a=1&page=3"))


AT = datetime(2026, 11, 24, 11, 50, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ at|utc }}", '<time datetime="2026-11-24T11:50:07Z" title="2 h ago">24 Nov 2026, 11:50 UTC</time>'),
        ('{{ at|utc:"seconds" }}', "24 Nov 2026, 11:50:07<"),
        ('{{ at|utc:"clock" }}', 'title="24 Nov 2026, 11:50:07 UTC">11:50:07<'),
        ("{{ nothing|utc }}", ""),
        ("{{ 1248|num }}", "1,248"),
        ("{{ None|num }}", "–"),
        ("{{ 1|percent:1000 }}", "&lt;1%"),
        ("{{ 1|percent:0 }}", "0%"),
        ("{{ 68|duration }}", "1 min 08 s"),
        ("{{ long|duration }}", "2 h 05 min"),
        ("{{ 'juniper.testcase@x.example'|initials }}", "JT"),
        ("{{ '<b>'|initials }}", "?"),
        ('{% qs page=None a="x y" %}', "?b=2&amp;a=x+y"),
        ('{% badge "ok" name %}', "&lt;i&gt;</span>"),
    ],
)
def test_tags_and_filters(source: str, expected: str) -> None:
    with time_machine.travel(AT + timedelta(hours=2), tick=False):
        shown = _render(source, at=AT, nothing=None, long=timedelta(hours=2, minutes=5), name="<i>")

    assert expected in shown
    assert shown or not expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (5, "just now"),
        (60, "1 min ago"),
        (7200, "2 h ago"),
        (3 * 86400, "3 d ago"),
        (-90, "in 1 min"),
        (-5, "in a moment"),
    ],
)
def test_relative_times(seconds: int, expected: str) -> None:
    with time_machine.travel(AT, tick=False):
        assert tags.ago(AT - timedelta(seconds=seconds)) == expected


def test_groups_that_grant_administration_are_marked_in_words_too() -> None:
    plain, admins = GroupTag(1, "g1", "<i>-developers"), GroupTag(2, "g2", "site-admins", is_administrative=True)

    assert _render("{% group_tag group 8 %}", group=plain) == (
        '<span class="tag" title="&lt;i&gt;-developers">&lt;i&gt;-dev…</span>'
    )
    shown = _render("{% group_tag group %}", group=admins)
    assert 'title="site-admins, grants administration"' in shown
    assert shown.endswith('site-admins<span class="vh">, grants administration</span></span>')
    assert "<svg" in shown
