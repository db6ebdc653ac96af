"""Fixtures of all tests: real PostgreSQL and Valkey, a sandbox over HTTP, one organisation connected to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.utils import timezone

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


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    cache.clear()


@pytest.fixture(autouse=True)
def _flush_may_truncate(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests with real commits end by emptying all tables, which the audit guard refuses once something is sealed."""
    if "transactional_db" not in request.fixturenames:
        yield
        return
    request.getfixturevalue("transactional_db")
    yield
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SET aum.audit_purge = 'on'")


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
                granted_at=timezone.now() - timedelta(days=2),
                granted_by="test",
            )
        return operator

    return make
