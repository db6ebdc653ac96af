"""Lists over REST: `{"results", "next", "previous"}`, paged by keyset with signed cursors, counted only when asked.

A cursor holds the ordering values of the row beside it. It is signed together with the path of its list, so that nobody
can probe values through it and a cursor of another list is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.core import signing
from django.db.models import Model, Q, QuerySet
from django.http import QueryDict
from rest_framework.request import Request

from aum.common.errors import InvalidInput

DEFAULT_LIMIT = 50
MAX_LIMIT = 500
# Up to here an estimate is a count; beyond it, the planner's figure.
ESTIMATE_FROM = 10_000
PARAMETERS = ("limit", "cursor", "count")
COUNTS = ("exact", "estimate")
CURSOR_SALT = "aum.common.pagination"


@dataclass(frozen=True)
class Page:
    """The rows of one page in display order; cursors are None at the ends. `count` only when it was asked for."""

    rows: list[Any]
    next_cursor: str | None
    previous_cursor: str | None
    count: int | None = None


def limit_of(parameters: QueryDict) -> int:
    """`limit` from 1 to 500. Raises InvalidInput."""
    text = parameters.get("limit", "").strip()
    if not text:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and 1 <= int(text) <= MAX_LIMIT):
        raise InvalidInput(fields={"limit": [f"Enter a number from 1 to {MAX_LIMIT}."]})
    return int(text)


def count_asked(parameters: QueryDict) -> str:
    """`count`: exact, estimate or empty. Raises InvalidInput."""
    asked = parameters.get("count", "").strip()
    if asked and asked not in COUNTS:
        raise InvalidInput(fields={"count": [f"Choose one of {', '.join(COUNTS)}, or leave it out."]})
    return asked


def cursor_of(request: Request) -> Any:
    """What the request's cursor holds; None without one. A whole `next` link is taken as a cursor too.

    Raises InvalidInput for a cursor that is forged, broken or of another list.
    """
    text = request.query_params.get("cursor", "").strip()
    if "cursor=" in text:
        text = parse_qs(urlsplit(text).query).get("cursor", [""])[0]
    if not text:
        return None
    try:
        path, content = signing.loads(text, salt=CURSOR_SALT)
    except (signing.BadSignature, ValueError, TypeError) as error:
        raise gone() from error
    if path != request.path:
        raise gone()
    return content


def gone() -> InvalidInput:
    return InvalidInput(fields={"cursor": ["This page does not exist. Start from the first one."]})


def link(request: Request, content: Any) -> str | None:
    """The absolute address of the page that `content` names; None for None."""
    if content is None:
        return None
    parameters = request.query_params.copy()
    parameters["cursor"] = signing.dumps([request.path, content], salt=CURSOR_SALT)
    return request.build_absolute_uri(f"{request.path}?{parameters.urlencode()}")


def body(request: Request, page: Page, results: Any) -> dict[str, Any]:
    """The answer of a list."""
    answer: dict[str, Any] = {
        "results": list(results),
        "next": link(request, page.next_cursor),
        "previous": link(request, page.previous_cursor),
    }
    if page.count is not None:
        answer["count"] = page.count
    return answer


def keyset_page(request: Request, queryset: QuerySet[Any], ordering: Sequence[str]) -> Page:
    """One page of `queryset` by `ordering` (column names, "-" for falling), which must end with a unique column.

    Columns of the ordering are never null. Raises InvalidInput for a wrong limit, cursor or count.
    """
    limit = limit_of(request.query_params)
    asked = count_asked(request.query_params)
    is_back, values = _place(cursor_of(request), ordering, queryset.model)
    rows = queryset.order_by(*(_turned(name) if is_back else name for name in ordering))
    if values is not None:
        rows = rows.filter(_beyond(ordering, values, is_back=is_back))
    found = list(rows[: limit + 1])
    has_more, found = len(found) > limit, found[:limit]
    if is_back:
        found.reverse()
    has_next = bool(found) and (True if is_back else has_more)
    has_previous = bool(found) and (has_more if is_back else values is not None)
    return Page(
        found,
        _written(False, found[-1], ordering) if has_next else None,
        _written(True, found[0], ordering) if has_previous else None,
        _count(queryset, asked) if asked else None,
    )


def _turned(name: str) -> str:
    return name.removeprefix("-") if name.startswith("-") else f"-{name}"


def _place(content: Any, ordering: Sequence[str], model: type[Model]) -> tuple[bool, list[Any] | None]:
    """(going back, ordering values of the row beside the page). Cursors are signed: only an old format is refused."""
    if content is None:
        return False, None
    if not isinstance(content, list) or len(content) != len(ordering) + 1:
        raise gone()
    values = [_field(model, name).to_python(value) for name, value in zip(ordering, content[1:], strict=True)]
    return bool(content[0]), values


def _field(model: type[Model], name: str) -> Any:
    return model._meta.get_field(name.removeprefix("-"))


def _written(is_back: bool, row: Any, ordering: Sequence[str]) -> Any:
    values = [getattr(row, name.removeprefix("-")) for name in ordering]
    return [int(is_back), *(value.isoformat() if isinstance(value, datetime) else value for value in values)]


def _beyond(ordering: Sequence[str], values: Sequence[Any], *, is_back: bool) -> Q:
    """Rows after (or before) `values`: (a, b) > (x, y), written so that an index on the first column serves it."""
    condition = Q()
    for place in range(len(ordering) - 1, -1, -1):
        name = ordering[place].removeprefix("-")
        is_falling = ordering[place].startswith("-") != is_back
        strictly = Q(**{f"{name}__{'lt' if is_falling else 'gt'}": values[place]})
        same = Q(**{name: values[place]})
        condition = strictly | (same & condition) if place < len(ordering) - 1 else strictly
    first = ordering[0].removeprefix("-")
    is_falling = ordering[0].startswith("-") != is_back
    return condition & Q(**{f"{first}__{'lte' if is_falling else 'gte'}": values[0]})


def _count(queryset: QuerySet[Any], asked: str) -> int:
    rows = queryset.order_by()
    if asked == "exact":
        return int(rows.count())
    capped = int(rows[: ESTIMATE_FROM + 1].count())
    if capped <= ESTIMATE_FROM:
        return capped
    plan: Any = json.loads(rows.explain(format="json"))
    return max(capped, int(plan[0]["Plan"]["Plan Rows"]))


def refuse_unknown(parameters: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raises InvalidInput for a parameter that a list does not have: a typing error would widen the list unseen."""
    wrong = [name for name in parameters if name not in known and name not in PARAMETERS]
    if wrong:
        sentence = f"There is no such parameter. Known: {', '.join([*known, *PARAMETERS])}."
        raise InvalidInput(fields={name[:100]: [sentence] for name in wrong[:20]})
