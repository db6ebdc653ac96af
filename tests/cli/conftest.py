"""Commands run in this process: arguments in, exit code and output out."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection

from apps.dashboard.cli.main import run


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def _flush_may_truncate(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests with real commits end by emptying all tables, which the audit's guard would refuse once it was sealed."""
    marker = request.node.get_closest_marker("django_db")
    if marker is None or not marker.kwargs.get("transaction"):
        yield
        return
    request.getfixturevalue("transactional_db")
    yield
    with connection.cursor() as cursor:
        cursor.execute("SET aum.audit_purge = 'on'")


@pytest.fixture
def aum(db: None) -> Callable[..., Result]:
    """`aum("sync", "--wait", code=0)`; options are words, `stdin` is given as text."""

    def call(*words: object, code: int | None = 0, stdin: str = "") -> Result:
        out, err = io.StringIO(), io.StringIO()
        found = run([str(word) for word in words], stdin=io.StringIO(stdin), stdout=out, stderr=err)
        result = Result(found, out.getvalue(), err.getvalue())
        assert code is None or found == code, f"{words}: {result}"
        return result

    return call
