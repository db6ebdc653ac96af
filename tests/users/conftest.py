from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.utils import timezone

from apps.organizations import crypto
from apps.organizations.models import Credential, Directory, Organization
from apps.organizations.recorder import Actor
from apps.sandbox.server import Sandbox
from apps.users.models import Account, AccountStatus, ClaimStatus, Group, MembershipStatus, SyncRun
from apps.users.services import request_sync, run_sync
from apps.users.text import fold

AS_OF = datetime(2026, 11, 20, 12, tzinfo=UTC)
SYSTEM = Actor.system()


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    cache.clear()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """250 people, enough for pages in both directories, with every status and odd name."""
    with Sandbox(people=250, seed=11) as running:
        yield running


def connect(sandbox: Sandbox, slug: str = "acme") -> Organization:
    """An organisation with the sandbox's credentials."""
    known = sandbox.credentials
    organization = Organization.objects.create(
        slug=slug, name=slug.title(), org_id=known.org_id, api_url=sandbox.url, activity_margin_hours=0
    )
    for kind, value in (("api_key", known.api_key), ("api_token", known.api_token)):
        Credential.objects.create(
            organization=organization,
            kind=kind,
            encrypted_value=crypto.encrypt(value),
            owner_email=known.email,
            owner_account_id=known.account_id,
            set_at=timezone.now(),
            set_by="test",
        )
    return organization


@pytest.fixture
def organization(db: None, sandbox: Sandbox) -> Organization:
    return connect(sandbox)


@pytest.fixture
def sync(organization: Organization) -> Callable[[], SyncRun]:
    """Read everything now and return the run."""

    def read() -> SyncRun:
        run = request_sync(organization=organization, actor=SYSTEM)
        finished = run_sync(run.pk, budget_seconds=None, wait_here=True)
        assert finished is not None
        return finished

    return read


@pytest.fixture
def plain(db: None) -> Organization:
    """An organisation that is connected to nothing, with one directory."""
    return plain_organization("plain")


def plain_organization(slug: str) -> Organization:
    organization = Organization.objects.create(
        slug=slug, name=slug.title(), org_id=slug, api_url="http://localhost", activity_margin_hours=0
    )
    Directory.objects.create(organization=organization, directory_id=f"d-{slug}", name="People", seen_at=AS_OF)
    return organization


_numbers = iter(range(1, 10**9))


def make_account(organization: Organization, **fields: Any) -> Account:
    number = next(_numbers)
    values: dict[str, Any] = {
        "account_id": f"557058:{number}",
        "name": f"Person {number}",
        "email": f"person{number}@example.com",
        "account_status": AccountStatus.ACTIVE,
        "membership_status": MembershipStatus.ACTIVE,
        "claim_status": ClaimStatus.MANAGED,
        "first_seen_at": AS_OF,
        **fields,
    }
    values.setdefault("sort_name", fold(values["name"]))
    account: Account = Account.objects.create(organization=organization, **values)
    return account


def make_group(organization: Organization, name: str, **fields: Any) -> Group:
    directory: Directory = Directory.objects.of(organization).earliest("pk")
    group: Group = Group.objects.create(
        organization=organization, directory=directory, group_id=f"g-{name}", name=name, **fields
    )
    return group


@pytest.fixture
def _may_flush() -> Iterator[None]:
    """Tests with real commits end by emptying all tables, which the audit log's guard would refuse."""
    yield
    with connection.cursor() as cursor:
        cursor.execute("SET aum.audit_purge = 'on'")
