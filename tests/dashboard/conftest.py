"""A synced organisation and signed-in clients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.sandbox.server import Sandbox
from apps.users.services import request_sync, run_sync


@pytest.fixture
def organization(db: None, sandbox: Sandbox, connect: Callable[..., Organization]) -> Organization:
    """Connected, not synced yet."""
    return connect(sandbox)


@pytest.fixture
def synced(transactional_db: None, sandbox: Sandbox, connect: Callable[..., Organization]) -> Organization:
    """Connected and synced once."""
    organization = connect(sandbox)
    run = request_sync(organization=organization, actor=Actor.system())
    finished = run_sync(run.pk, budget_seconds=None, wait_here=True)
    assert finished is not None
    assert finished.status == "succeeded"
    return organization


@pytest.fixture
def client_of(operators: Callable[..., Operator]) -> Callable[..., Client]:
    """A client that is signed in with the given roles."""

    def make(organization: Organization, *roles: str, email: str = "") -> Client:
        client = Client()
        client.force_login(operators(organization, email or f"{'-'.join(roles) or 'stranger'}@example.com", *roles))
        return client

    return make
