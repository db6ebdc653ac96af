"""The counts beside the navigation's items."""

from __future__ import annotations

from collections.abc import Callable

from apps.operators.context import counts_of
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.sandbox.server import Sandbox
from apps.users.services import request_sync, run_sync


def test_users_are_counted_anew_as_soon_as_a_sync_is_merged(
    transactional_db: None, sandbox: Sandbox, connect: Callable[..., Organization]
) -> None:
    organization = connect(sandbox)
    assert counts_of(organization)["users"] == 0

    run = request_sync(organization=organization, actor=Actor.system())
    run_sync(run.pk, budget_seconds=None, wait_here=True)

    assert counts_of(organization)["users"] == 250
