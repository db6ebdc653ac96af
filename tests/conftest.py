"""Fixtures of all tests: real PostgreSQL and Valkey, a sandbox over HTTP, one organisation connected to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from allauth.account.authentication import get_authentication_records
from allauth.account.internal.flows.login import record_authentication
from django.contrib.auth.signals import user_logged_in
from django.core.cache import cache
from django.db import connection
from django.dispatch import receiver
from django.http import HttpRequest
from django.test import TransactionTestCase

from tests import runtime_servers

_SERVERS: list[object] = []


def pytest_configure(config: pytest.Config) -> None:
    """Start throw-away servers when none are given, so that plain `pytest` works; script/test starts its own."""
    if os.environ.get("DATABASE_URL", "").endswith("127.0.0.1:1/aum") or "DATABASE_URL" not in os.environ:
        for name, server in (("DATABASE_URL", runtime_servers.postgres()), ("REDIS_URL", runtime_servers.valkey())):
            os.environ[name] = server.__enter__()
            _SERVERS.append(server)


def pytest_unconfigure(config: pytest.Config) -> None:
    while _SERVERS:
        _SERVERS.pop().__exit__(None, None, None)  # type: ignore[attr-defined]


# Files with few tests that take long. They begin first: the last one to begin decides when all are done.
LONG_FILES = (
    "runtime/test_server.py",
    "operations/test_properties.py",
    "api/test_schema.py",
    "runtime/test_compose.py",
    "cli/test_journey.py",
    "rules/test_ninety_days.py",
    "users/test_predicates.py",
    "api/test_journey.py",
    "operations/test_journey.py",
    "autoactivate/test_journey.py",
    "dashboard/test_secrets.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, in their order; the others as they come."""
    ranks = {f"tests/{name}": rank for rank, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: ranks.get(item.nodeid.partition("::")[0], len(ranks)))


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    cache.clear()


# Before every date that a test travels to.
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
# What a test does not write; Django fills the first two when it migrates.
KEPT_TABLES = ("django_content_type", "auth_permission", "django_migrations")


def _empty_tables(case: TransactionTestCase) -> None:
    """End a test with real commits: delete the rows of the tables that hold any.

    Django's own way truncates all hundred tables and makes content types and permissions anew, which takes a fifth of
    a second for each of hundreds of tests. Triggers are off meanwhile: the audit guard keeps what is sealed.
    """
    from apps.organizations.services import confirm_instance

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') "
            "AND NOT relispartition AND relname <> ALL(%s)",
            [list(KEPT_TABLES)],
        )
        names = [connection.ops.quote_name(name) for (name,) in cursor.fetchall()]
        cursor.execute(" UNION ALL ".join(f"SELECT '{name}' WHERE EXISTS (SELECT 1 FROM {name})" for name in names))
        filled = [name for (name,) in cursor.fetchall()]
        cursor.execute("SET session_replication_role = 'replica'")
        for name in filled:
            cursor.execute(f"DELETE FROM {name}")
        cursor.execute("SET session_replication_role = 'origin'")
    confirm_instance()


TransactionTestCase._fixture_teardown = _empty_tables  # type: ignore[method-assign]


@receiver(user_logged_in)
def _force_login_is_a_recent_sign_in(request: HttpRequest, user: object, **_: object) -> None:
    """`client.force_login` skips the form that tells when somebody proved who they are."""
    if not get_authentication_records(request, user):
        record_authentication(request, user, method="password")


@pytest.fixture
def sandbox() -> Iterator[object]:
    """250 people in two directories, with every status and odd name."""
    from apps.sandbox.server import Sandbox

    with Sandbox(people=250, seed=11) as running:
        yield running


@pytest.fixture
def connect(db: None) -> Callable[..., object]:
    """Connect an organisation to a sandbox as an operator would, through the service and its checks."""
    from apps.organizations.recorder import Actor
    from apps.organizations.services import ConnectionInput, connect_organization

    def make(sandbox: object, slug: str = "acme", **fields: object) -> object:
        known = sandbox.credentials  # type: ignore[attr-defined]
        organization, _results = connect_organization(
            values=ConnectionInput(
                email=known.email,
                org_id=known.org_id,
                site_url=sandbox.url,  # type: ignore[attr-defined]
                api_url=sandbox.url,  # type: ignore[attr-defined]
                api_token=known.api_token,
                api_key=known.api_key,
                name=slug.title(),
                slug=slug,
            ),
            actor=Actor.system(),
        )
        for name, value in fields.items():
            setattr(organization, name, value)
        organization.save()
        return organization

    return make


@pytest.fixture
def operators(db: None) -> Callable[..., object]:
    """Make an operator with roles in an organisation, granted long enough ago to approve."""
    from apps.operators.models import Grant, Operator

    def make(organization: object, email: str, *roles: str) -> Operator:
        operator = Operator.objects.create_user(email, "correct horse battery", name=email.partition("@")[0].title())
        for role in roles:
            Grant.objects.create(
                organization=organization,  # type: ignore[misc]
                operator=operator,
                role=role,
                granted_at=LONG_AGO,
                granted_by="test",
            )
        return operator

    return make
