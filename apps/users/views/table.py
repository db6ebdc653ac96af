"""The rows of the users list, written by functions: Django's templates take three times as long for the same markup.

`docs/decisions/0012-rows-by-functions.md` says why only these. Whatever comes from outside goes through `format_html`;
what is made of our own words only, and comes again in most rows, is made once and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from apps.users.selectors import AccountRow
from apps.users.selectors.explorer import GroupTag, ProductUse
from aum.common.templatetags.aum import badge, cut, group_tag, icon

NAME_LETTERS, EMAIL_LETTERS, GROUP_LETTERS, SITE_LETTERS = 22, 60, 15, 32
GROUPS_SHOWN = 2
PRODUCT_COLOURS = {"jira": "p1", "jsm": "p2", "confluence": "p3", "bitbucket": "p4"}


def table_row(
    row: AccountRow,
    *,
    number: int,
    columns: Sequence[str],
    menu: SafeString,
    link: str,
    may_select: bool,
    is_picked: bool,
) -> SafeString:
    """The `<tr>` of one person: check box, person, the cells of `columns` (their keys), menu.

    `number` counts the rows of the page, from 0; `link` is the page's address with this person's panel open.
    """
    return format_html(
        '<tr><td class="cell-check">{}</td>{}{}<td class="cell-act"><details class="menu" name="row">'
        '<summary class="btn ghost icon" aria-label="Actions for {}">{}</summary><div>{}</div></details></td></tr>',
        _check(row, is_picked) if may_select else "",
        _person(row, number, link),
        mark_safe("".join(CELLS[key](row) for key in columns)),
        row.name,
        icon("more"),
        menu,
    )


def _check(row: AccountRow, is_picked: bool) -> SafeString:
    return format_html(
        '<input type="checkbox" name="accounts" value="{}" aria-label="Select {}" autocomplete="off"{}>',
        row.pk,
        row.name,
        mark_safe(" checked") if is_picked else "",
    )


def _person(row: AccountRow, number: int, link: str) -> SafeString:
    return format_html(
        '<th scope="row"><div class="who"><span class="avatar a{}" aria-hidden="true">{}</span><span>'
        '<a id="user-{}" href="{}" hx-get="{}" hx-target="#panel" hx-push-url="true"{}>{}{}</a>'
        "<small>{}</small></span></div></th>",
        number % 2 + 1,
        row.initials,
        row.pk,
        link,
        link,
        format_html(' title="{}"', row.name) if len(row.name) > NAME_LETTERS else "",
        cut(row.name, NAME_LETTERS),
        _marks(row.is_external, row.kind, row.kind_label, row.is_protected, row.is_exempt),
        cut(row.email or "e-mail hidden by Atlassian", EMAIL_LETTERS),
    )


@lru_cache(maxsize=256)
def _marks(is_external: bool, kind: str, kind_label: str, is_protected: bool, is_exempt: bool) -> SafeString:
    """The badges behind the name, each after a space."""
    marks = (
        (is_external, "line", "External", ""),
        (kind != "person", "line", kind_label, ""),
        (is_protected, "accent", "Protected", "lock"),
        (is_exempt, "accent", "Exempt", "shield"),
    )
    return format_html_join(
        "", " {}", ((_plain_badge(css, text, name),) for is_shown, css, text, name in marks if is_shown)
    )


def _plain_badge(css: str, text: str, icon_name: str) -> SafeString:
    return format_html('<span class="badge {}">{}{}</span>', css, icon(icon_name) if icon_name else "", text)


@lru_cache(maxsize=64)
def account_badge(status: str, label: str) -> SafeString:
    """An account status as icon and word. A status that Atlassian invents is shown like those that mean no access."""
    if status == "active":
        return badge("ok", label, "check")
    return badge("plain", label) if status == "unknown" else badge("danger", label, "ban")


@lru_cache(maxsize=64)
def membership_badge(status: str, label: str) -> SafeString:
    """A membership status as icon and word."""
    if status == "active":
        return badge("ok", label, "check")
    return badge("suspended") if status == "suspended" else badge("plain", label)


@cache
def _muted(text: str) -> SafeString:
    return format_html('<span class="muted">{}</span>', text)


def _cell(label: str, content: SafeString | str, css: str = "full") -> SafeString:
    return format_html('<td class="{}" data-label="{}">{}</td>', css, label, content)


def _words(label: str, content: SafeString | str, css: str = "full") -> SafeString:
    return _cell(label, format_html("<span>{}</span>", content), css)


@lru_cache(maxsize=64)
def _account_status(status: str, label: str) -> SafeString:
    return _cell("Account", account_badge(status, label))


@lru_cache(maxsize=64)
def _membership_status(status: str, label: str) -> SafeString:
    return _cell("Membership", membership_badge(status, label))


def _groups(row: AccountRow) -> SafeString:
    if not row.groups:
        return _cell("Groups", _muted("none"))
    shown, hidden = _tags(row.groups[:GROUPS_SHOWN]), row.groups[GROUPS_SHOWN:]
    if not hidden:
        return _cell("Groups", format_html('<span class="row wrap gap1">{}</span>', shown))
    return _cell(
        "Groups",
        format_html(
            '<details class="groups"><summary class="row wrap gap1">{}'
            '<span class="more" aria-label="and {} more groups">+{}</span></summary>'
            '<span class="row wrap gap1">{}</span></details>',
            shown,
            len(hidden),
            len(hidden),
            _tags(hidden),
        ),
    )


def _tags(groups: Sequence[GroupTag]) -> SafeString:
    return mark_safe("".join(_tag(group) for group in groups))


@lru_cache(maxsize=4096)
def _tag(group: GroupTag) -> SafeString:
    return group_tag(group, GROUP_LETTERS)


def _last_login(row: AccountRow) -> SafeString:
    if not row.logins:
        return _cell("Last login", _muted("no product"))
    uses = "".join(
        _login(use.product, use.short_label, use.age, use.date, use.activity, use.is_stale) for use in row.logins
    )
    return _cell("Last login", format_html('<span class="logins">{}</span>', mark_safe(uses)))


@lru_cache(maxsize=4096)
def _login(product: str, label: str, age: str, date: str, activity: str, is_stale: bool) -> SafeString:
    state = " never" if activity in {"never", "unknown"} else " old" if is_stale else ""
    return format_html(
        '<span class="prod {}{}"{}><i></i>{} <b>{}</b></span>',
        PRODUCT_COLOURS.get(product, ""),
        state,
        format_html(' title="{}"', date) if date else "",
        label,
        age,
    )


def _sites(row: AccountRow) -> SafeString:
    uses = mark_safe("".join(map(_site, row.products))) if row.products else _muted("no product")
    return _cell("By site", format_html('<span class="stack stack-1 small">{}</span>', uses))


def _site(use: ProductUse) -> SafeString:
    return format_html(
        '<span{}>{} <span class="muted">{}</span> {}</span>',
        format_html(' title="{}"', use.date) if use.date else "",
        use.short_label,
        cut(use.site or use.resource, SITE_LETTERS),
        use.age,
    )


CELLS: dict[str, Callable[[AccountRow], SafeString]] = {
    "account_status": lambda row: _account_status(row.account_status, row.account_status_label),
    "membership_status": lambda row: _membership_status(row.membership_status, row.membership_status_label),
    "claim_status": lambda row: _words("Claim", row.claim_status_label),
    "kind": lambda row: _words("Kind", row.kind_label),
    "source": lambda row: _words("Synced by", row.source_label),
    "groups": _groups,
    "added": lambda row: format_html('<td class="nowrap hide-l">{}</td>', row.added or "not known"),
    "last_login": _last_login,
    "sites": _sites,
    "protected": lambda row: _words("Protected", "Yes" if row.is_protected else _muted("no")),
    "exempt": lambda row: _words("Exempt", row.exempt or _muted("no"), "full nowrap"),
    "account_id": lambda row: _cell("Account id", format_html('<span class="mono small">{}</span>', row.account_id)),
}
