from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from pytest_django import Settings

from apps.audit.services import Actor, EventRow, record_many
from apps.organizations.models import Organization

ANNA = Actor("operator", "7", "Anna Admin", "anna@example.com", "192.0.2.7")


@pytest.fixture(autouse=True)
def _flush_may_truncate(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests with real commits end by emptying all tables, which the guard would refuse once something was sealed."""
    marker = request.node.get_closest_marker("django_db")
    if marker is None or not marker.kwargs.get("transaction"):
        yield
        return
    request.getfixturevalue("transactional_db")
    yield
    with connection.cursor() as cursor:
        cursor.execute("SET aum.audit_purge = 'on'")


def make_organization(slug: str, **fields: object) -> Organization:
    return Organization.objects.create(slug=slug, name=slug.title(), org_id=slug, api_url="http://localhost", **fields)


@pytest.fixture
def organization(db: None) -> Organization:
    return make_organization("acme")


@pytest.fixture
def other(db: None) -> Organization:
    return make_organization("other")


@pytest.fixture
def anchor(tmp_path: Path, settings: Settings) -> Path:
    path = tmp_path / "anchor.jsonl"
    settings.AUM_AUDIT_ANCHOR_FILE = str(path)
    return path


def row(number: int, **fields: object) -> EventRow:
    """The suspension of person `number`."""
    values: dict[str, object] = {
        "actor": ANNA,
        "action": "account.suspended",
        "target_kind": "account",
        "target_ref": f"557058:{number}",
        "target_name": f"Person {number}",
        "target_email": f"person{number}@example.com",
        "before": {"status": "active"},
        "after": {"status": "suspended"},
    }
    return EventRow(**(values | fields))  # type: ignore[arg-type]


def write(organization: Organization, count: int) -> None:
    record_many(organization=organization, rows=(row(number) for number in range(1, count + 1)))


@contextmanager
def attacker() -> Iterator[Callable[..., int]]:
    """Somebody with superuser rights: a function that runs SQL past all triggers and returns row counts."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")

        def run(sql: str, *parameters: Any) -> int:
            cursor.execute(sql, parameters)
            return int(cursor.rowcount)

        try:
            yield run
        finally:
            cursor.execute("SET session_replication_role = origin")
