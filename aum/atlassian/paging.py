"""One paginator for every list: opaque cursors, guarded against lists that repeat, run in circles or end in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs, urlsplit

from aum.atlassian.errors import UnexpectedAnswer
from aum.atlassian.schemas import Page
from aum.atlassian.transport import origin_of

T = TypeVar("T")

# A page may be empty though more follow (filters applied after the cut), but not for ever.
MAX_EMPTY_PAGES: Final = 5


def pages(
    fetch: Callable[[str | None], Page[T]], *, key: Callable[[T], str], start_cursor: str | None = None
) -> Iterator[Page[T]]:
    """Every page of a list, from `start_cursor` on, until an answer has no cursor. A short page is not the end.

    Raises UnexpectedAnswer for a cursor that came before, a page whose rows came before in the same order, more than
    MAX_EMPTY_PAGES empty pages in a row, and a list that ends below the total that it named itself.
    """
    cursor, empty, seen_rows = start_cursor, 0, 0
    cursors = {start_cursor} if start_cursor else set()
    fingerprints: set[int] = set()
    while True:
        page = fetch(cursor)
        seen_rows += len(page.items)
        if page.items:
            empty = 0
            fingerprint = hash(tuple(key(item) for item in page.items))
            if fingerprint in fingerprints:
                raise _broken("A page of the list came twice.", "page_repeats", page)
            fingerprints.add(fingerprint)
        else:
            empty += 1
        yield page
        if page.next_cursor is None:
            if start_cursor is None and page.total is not None and seen_rows < page.total:
                raise _broken(f"The list ended after {seen_rows:,} of {page.total:,} rows.", "list_cut_short", page)
            return
        if page.next_cursor in cursors:
            raise _broken("A cursor of the list came twice.", "cursor_repeats", page)
        if empty > MAX_EMPTY_PAGES:
            raise _broken("The list goes on without rows.", "cursor_leads_nowhere", page)
        cursors.add(page.next_cursor)
        cursor = page.next_cursor


def items(
    fetch: Callable[[str | None], Page[T]], *, key: Callable[[T], str], start_cursor: str | None = None
) -> Iterator[T]:
    """Every row once, by `key`; see `pages`. Rows that shift to a later page while the list is read come only once."""
    seen: set[str] = set()
    for page in pages(fetch, key=key, start_cursor=start_cursor):
        for item in page.items:
            if key(item) not in seen:
                seen.add(key(item))
                yield item


def _broken(detail: str, code: str, page: Page[T]) -> UnexpectedAnswer:
    return UnexpectedAnswer(
        detail,
        code=code,
        request_id=page.request_id,
        call_id=page.call_id,
        advice="Nothing of this list is used. Try again later; if it stays, report the call id.",
    )


def next_cursor(body: Any, *, base_url: str) -> str | None:
    """The cursor of `links.next`: bare (v2), or inside a URL (v1 managed accounts), which must be on `base_url`'s host.

    None at the end: absent, null or empty. Raises UnexpectedAnswer for a URL that leads elsewhere or has no cursor.
    """
    links = body.get("links") if isinstance(body, dict) else None
    value = links.get("next") if isinstance(links, dict) else None
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise UnexpectedAnswer("The next page is named by something that is not text.", code="bad_cursor")
    is_url = "://" in value or value.startswith("//")
    if is_url and origin_of(value) != origin_of(base_url):
        raise UnexpectedAnswer(
            "The next page is on another host; it is not followed.",
            code="foreign_host",
            advice="Check the API address in Settings. Credentials were not sent there.",
        )
    if not is_url and not value.startswith(("/", "?")):
        return value
    cursor = parse_qs(urlsplit(value).query).get("cursor", [""])[0]
    if not cursor:
        raise UnexpectedAnswer("The next page is an address without a cursor.", code="bad_cursor")
    return cursor
