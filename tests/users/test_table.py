"""The rows of the users list: every column, every mark, and nothing from outside that is not escaped."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html import escape
from html.parser import HTMLParser
from typing import Any

import pytest
from django.utils.safestring import mark_safe

from apps.users.selectors import AccountRow
from apps.users.selectors.columns import COLUMNS
from apps.users.selectors.explorer import GroupTag, ProductUse
from apps.users.views.table import CELLS, account_badge, membership_badge, table_row

KEYS = [column.key for column in COLUMNS]
BAD = "\"><script>'&</script>"


def use(**fields: Any) -> ProductUse:
    """A product that somebody used three days ago, changed by `fields`."""
    known: dict[str, Any] = {
        "product": "jira",
        "label": "Jira",
        "short_label": "Jira",
        "site": "acme",
        "resource": "ari:1",
        "activity": "known",
        "last_active_at": datetime(2026, 11, 20, tzinfo=UTC),
        "age": "3 d",
        "date": "20 Nov 2026",
        "is_stale": False,
        "via": (),
        "direct": "",
    }
    return ProductUse(**(known | fields))


def person(**fields: Any) -> AccountRow:
    """An ordinary person, changed by `fields`."""
    known: dict[str, Any] = {
        "pk": 7,
        "account_id": "5b1",
        "name": "Ada Lovelace",
        "email": "ada@acme.example",
        "initials": "AL",
        "account_status": "active",
        "account_status_label": "Active",
        "membership_status": "active",
        "membership_status_label": "Active",
        "claim_status": "managed",
        "is_external": False,
        "claim_status_label": "Managed",
        "is_synced": False,
        "source": "local",
        "source_label": "By hand",
        "kind": "person",
        "kind_label": "Person",
        "groups": (),
        "products": (),
        "logins": (),
        "activity": "known",
        "last_active_at": None,
        "last_active": "3 d",
        "added_to_org_at": None,
        "added": "1 Jan 2026",
        "is_protected": False,
        "is_admin": False,
        "exempt_until": None,
        "is_exempt": False,
        "exempt": "",
    }
    return AccountRow(**(known | fields))


def written(row: AccountRow, **options: Any) -> str:
    known: dict[str, Any] = {
        "number": 0,
        "columns": KEYS,
        "menu": mark_safe("<i>menu</i>"),
        "link": "?a=1&user=7",
        "may_select": True,
        "is_picked": False,
    }
    return str(table_row(row, **(known | options)))


class _Tags(HTMLParser):
    """Which elements there are, and whether each is closed in its turn."""

    EMPTY = ("input", "path", "circle", "rect", "line")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self.open.pop() == tag


def tags_of(text: str) -> _Tags:
    parser = _Tags()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


def words_of(text: str) -> str:
    return re.sub(r"<[^>]*>", " ", text)


def test_every_column_has_a_cell_and_no_cell_is_without_a_column() -> None:
    assert set(CELLS) == set(KEYS)


GROUPS = tuple(GroupTag(n, f"g{n}", f"a-group-of-a-long-name-{n}", is_administrative=n == 3) for n in range(4))


@pytest.mark.parametrize(
    ("key", "fields", "shown"),
    [
        ("account_status", {"account_status": "deactivated", "account_status_label": "Deactivated"}, "Deactivated"),
        ("membership_status", {"membership_status": "suspended"}, "Suspended"),
        ("claim_status", {"claim_status_label": "Not managed"}, "Not managed"),
        ("kind", {"kind": "bot", "kind_label": "Bot"}, "Bot"),
        ("source", {"source_label": "Identity provider"}, "Identity provider"),
        ("groups", {}, "none"),
        ("groups", {"groups": GROUPS[:2]}, "a-group-of-a-l…"),
        ("groups", {"groups": GROUPS}, "+2"),
        ("added", {"added": ""}, "not known"),
        ("last_login", {}, "no product"),
        ("last_login", {"logins": (use(),)}, "Jira 3 d"),
        ("sites", {}, "no product"),
        ("sites", {"products": (use(site=""),)}, "Jira ari:1 3 d"),
        ("protected", {"is_protected": True}, "Yes"),
        ("protected", {}, "no"),
        ("exempt", {"exempt": "31 Dec 2026"}, "31 Dec 2026"),
        ("account_id", {}, "5b1"),
    ],
)
def test_a_cell_says_what_the_row_holds(key: str, fields: dict[str, Any], shown: str) -> None:
    cell = CELLS[key](person(**fields))
    tags_of(cell)
    assert cell.startswith("<td")
    assert cell.endswith("</td>")
    assert shown in " ".join(words_of(cell).split())


def test_groups_beyond_two_are_folded_and_admin_groups_are_marked() -> None:
    cell = CELLS["groups"](person(groups=GROUPS))
    shown, _, folded = cell.partition("</summary>")
    assert shown.count('class="tag') == 2
    assert folded.count('class="tag') == 2
    assert "grants administration" in folded
    assert "grants administration" not in shown


@pytest.mark.parametrize(
    ("fields", "css"),
    [
        ({}, 'class="prod p1"'),
        ({"is_stale": True}, 'class="prod p1 old"'),
        ({"activity": "never", "is_stale": True}, 'class="prod p1 never"'),
        ({"activity": "unknown"}, 'class="prod p1 never"'),
        ({"product": "compass"}, 'class="prod "'),
    ],
)
def test_a_login_is_coloured_by_product_and_age(fields: dict[str, Any], css: str) -> None:
    assert css in CELLS["last_login"](person(logins=(use(**fields),)))


def test_what_somebody_outside_wrote_is_escaped_everywhere() -> None:
    group = GroupTag(1, BAD, BAD, is_administrative=True)
    text = written(
        person(
            name=BAD,
            email=BAD,
            account_id=BAD,
            initials=BAD,
            kind=BAD,
            kind_label=BAD,
            account_status=BAD,
            account_status_label=BAD,
            membership_status=BAD,
            membership_status_label=BAD,
            claim_status_label=BAD,
            source_label=BAD,
            groups=(group, group, group),
            products=(use(site=BAD, short_label=BAD, age=BAD, date=BAD),),
            logins=(use(product=BAD, short_label=BAD, age=BAD, date=BAD),),
            added=BAD,
            exempt=BAD,
        ),
        link=f"?search={BAD}",
    )
    assert "script" not in tags_of(text).seen
    assert "<script" not in text
    assert escape(BAD) in text


@pytest.mark.parametrize(
    ("fields", "mark"),
    [
        ({"is_external": True}, "External"),
        ({"kind": "service", "kind_label": "Service account"}, "Service account"),
        ({"is_protected": True}, "Protected"),
        ({"is_exempt": True}, "Exempt"),
    ],
)
def test_marks_stand_behind_the_name(fields: dict[str, Any], mark: str) -> None:
    plain, marked = written(person(), columns=()), written(person(**fields), columns=())
    assert f"{mark}</span>" in marked
    assert f"{mark}</span>" not in plain


def test_the_row_names_the_person_to_screen_readers_and_cuts_what_is_too_long() -> None:
    name = "A name of twenty-three l"
    text = written(person(name=name, email=None))
    assert f'aria-label="Select {name}"' in text
    assert f'aria-label="Actions for {name}"' in text
    assert f'title="{name}"' in text
    assert f">{name[:21]}…<" in text
    assert "e-mail hidden by Atlassian" in text
    assert 'title="Ada' not in written(person())


def test_only_who_may_act_or_export_gets_a_check_box() -> None:
    assert "<input" not in written(person(), may_select=False)
    assert " checked" not in written(person())
    assert " checked" in written(person(), is_picked=True)


def test_columns_keep_the_order_they_are_given_in() -> None:
    text = written(person(), columns=("account_id", "claim_status"))
    assert text.index("Account id") < text.index("Claim") < text.index("<i>menu</i>")
    assert text.count("<td") == 4


@pytest.mark.parametrize(
    ("made", "css", "word"),
    [
        (account_badge("active", "Active"), "badge ok", "Active"),
        (account_badge("unknown", "Not known"), '"badge"', "Not known"),
        (account_badge("deactivated", "Deactivated"), "badge danger", "Deactivated"),
        (membership_badge("active", "Active"), "badge ok", "Active"),
        (membership_badge("suspended", "whatever"), "badge warn", "Suspended"),
        (membership_badge("no_membership", "No membership"), '"badge"', "No membership"),
    ],
)
def test_a_status_is_shown_by_colour_and_word(made: str, css: str, word: str) -> None:
    assert css in made
    assert word in made
