"""The paginator against lists that repeat, circle, stop short or point elsewhere."""

from collections.abc import Callable

import pytest

from aum.atlassian import paging
from aum.atlassian.errors import UnexpectedAnswer
from aum.atlassian.schemas import Page

BASE = "https://api.atlassian.com"


def listing(*script: Page[str]) -> Callable[[str | None], Page[str]]:
    """A fetch that gives these pages in order, whatever the cursor."""
    pages = iter(script)
    return lambda cursor: next(pages)


def test_all_pages_come_until_there_is_no_cursor() -> None:
    fetch = listing(Page(("a", "b"), "c1"), Page(("c",), "c2"), Page(("d", "e"), None))

    assert list(paging.items(fetch, key=str)) == ["a", "b", "c", "d", "e"]


def test_a_short_page_is_not_the_end() -> None:
    fetch = listing(Page(("a",), "c1"), Page((), "c2"), Page(("b",), None))

    assert list(paging.items(fetch, key=str)) == ["a", "b"]


def test_a_row_that_moved_to_a_later_page_comes_once() -> None:
    fetch = listing(Page(("a", "b"), "c1"), Page(("b", "c"), None))

    assert list(paging.items(fetch, key=str)) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ([Page(("a",), "c1"), Page(("b",), "c1")], "cursor_repeats"),
        ([Page(("a",), "c1"), Page(("b",), "c2"), Page(("c",), "c1")], "cursor_repeats"),
        ([Page(("a", "b"), "c1"), Page(("a", "b"), "c2")], "page_repeats"),
        ([Page(("a",), "c0"), *(Page((), f"c{n}") for n in range(1, 20))], "cursor_leads_nowhere"),
        ([Page(("a",), "c1", total=3), Page(("b",), None, total=3)], "list_cut_short"),
    ],
)
def test_a_broken_list_is_an_error_and_not_an_end(script: list[Page[str]], code: str) -> None:
    with pytest.raises(UnexpectedAnswer) as caught:
        list(paging.items(listing(*script), key=str))

    assert caught.value.code == code


def test_a_list_goes_on_from_a_stored_cursor() -> None:
    asked: list[str | None] = []

    def fetch(cursor: str | None) -> Page[str]:
        asked.append(cursor)
        return Page(("z",), None, total=100)

    assert [page.items for page in paging.pages(fetch, key=str, start_cursor="c7")] == [("z",)]
    assert asked == ["c7"]


@pytest.mark.parametrize(
    ("links", "expected"),
    [
        (None, None),
        ({}, None),
        ({"next": None}, None),
        ({"next": ""}, None),
        ({"next": "b3BhcXVl+/="}, "b3BhcXVl+/="),
        ({"next": f"{BASE}/admin/v1/orgs/o/users?cursor=a%2Bb&limit=1"}, "a+b"),
        ({"next": "HTTPS://API.ATLASSIAN.COM:443/admin/v1/orgs/o/users?cursor=x"}, "x"),
        ({"next": "/admin/v1/orgs/o/users?cursor=x"}, "x"),
    ],
)
def test_the_next_cursor_is_read_in_each_form(links: object, expected: str | None) -> None:
    assert paging.next_cursor({"data": [], "links": links}, base_url=BASE) == expected


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("https://evil.example/admin/v1/orgs/o/users?cursor=x", "foreign_host"),
        ("http://api.atlassian.com/admin/v1/orgs/o/users?cursor=x", "foreign_host"),
        ("https://api.atlassian.com.evil.example/?cursor=x", "foreign_host"),
        ("https://api.atlassian.com@evil.example/?cursor=x", "foreign_host"),
        ("//evil.example/?cursor=x", "foreign_host"),
        ("https://api.atlassian.com:8443/?cursor=x", "foreign_host"),
        (f"{BASE}/admin/v1/orgs/o/users", "bad_cursor"),
        (7, "bad_cursor"),
    ],
)
def test_a_next_page_elsewhere_is_refused(value: object, code: str) -> None:
    with pytest.raises(UnexpectedAnswer) as caught:
        paging.next_cursor({"links": {"next": value}}, base_url=BASE)

    assert caught.value.code == code
