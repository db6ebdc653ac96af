"""A few people made here for what is only counted, a sandbox's for what depends on how a sync stores them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.sandbox.server import Sandbox
from apps.users.models import PRODUCT_BITS, Activity, Product, SyncRun
from apps.users.services import request_sync, run_sync
from tests.dashboard.conftest import client_of
from tests.operations.conftest import approver, author, execute, organization, plan
from tests.users.conftest import make_account, plain_organization

__all__ = ["approver", "author", "client_of", "execute", "organization", "plan"]


@pytest.fixture
def people(db: None) -> Organization:
    """Twelve people: for each product two who left it 100 days ago and one who uses it."""
    made = plain_organization("acme")
    now = timezone.now()
    SyncRun.objects.create(
        organization=made, status=SyncRun.Status.SUCCEEDED, is_trusted=True, started_at=now, finished_at=now
    )
    for product in Product:
        for days in (100, 100, 1):
            at = now - timedelta(days=days)
            columns: dict[str, Any] = {f"{product}_activity": Activity.KNOWN, f"{product}_last_active_at": at}
            make_account(
                made,
                products=PRODUCT_BITS[product],
                last_active_at=at,
                is_activity_read=True,
                added_to_org_at=now - timedelta(days=400),
                first_seen_at=now - timedelta(days=400),
                **columns,
            )
    return made


@pytest.fixture
def synced(db: None, sandbox: Sandbox, connect: Callable[..., Organization]) -> Organization:
    """A sandbox's people, read without commits."""
    made = connect(sandbox, max_count=200, max_share_percent=90, activity_margin_hours=0)
    run = request_sync(organization=made, actor=Actor.system())
    assert run_sync(run.pk, budget_seconds=None, wait_here=True)
    return made
