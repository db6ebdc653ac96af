"""The demo organisation goes in one action, with everything of it, and a real one never does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.apps import apps
from django.conf import settings as django_settings
from pytest_django import Settings

from apps.audit.services import seal
from apps.operations import services
from apps.operations.selection import ActionSpec, IdleSelection
from apps.organizations.models import Organization, OrganizationOwned
from apps.organizations.recorder import Actor
from apps.organizations.services import delete_demo
from apps.organizations.services.connections import NotADemo
from apps.sandbox.server import Sandbox
from apps.users.services import request_sync, run_sync

SYSTEM = Actor.system()


def rows_of(pk: int) -> dict[str, int]:
    owned = [model for model in apps.get_models() if issubclass(model, OrganizationOwned)]
    counts = {model.__name__: model.objects.filter(organization_id=pk).count() for model in owned}
    return {name: count for name, count in counts.items() if count}


def test_demo_and_all_its_rows_are_deleted_and_the_sandbox_is_as_new(
    transactional_db: None,
    sandbox: Sandbox,
    connect: Callable[..., Organization],
    settings: Settings,
    tmp_path: object,
) -> None:
    settings.AUM_DATA_DIR = tmp_path
    before = sandbox.control.get("state")
    organization = connect(sandbox, max_share_percent=90, is_demo=True)
    neighbour = Organization.objects.create(slug="other", name="Other", org_id="o-1", api_url=sandbox.url)
    run = request_sync(organization=organization, actor=SYSTEM)
    run_sync(run.pk, budget_seconds=None, wait_here=True)
    operation = services.plan_operation(
        organization=organization,
        kind="manual_operation",
        mode="live",
        initiator="manual",
        actor=SYSTEM,
        operator=None,
        name="Idle",
        actions=[ActionSpec("suspend")],
        selection=IdleSelection(inactive_days=60),
    )
    services.run_planning(operation.pk)
    services.execute_operation(operation.pk)
    seal(organization)
    pk = organization.pk
    assert {"Account", "OperationItem", "AuditEvent", "AuditSegment"} <= set(rows_of(pk))

    delete_demo(organization=organization)

    assert rows_of(pk) == {}
    assert not Organization.objects.filter(pk=pk).exists()
    assert Organization.objects.filter(pk=neighbour.pk).exists()
    assert sandbox.control.get("state") == before
    assert tmp_path == django_settings.AUM_DATA_DIR


def test_real_organisation_is_not_deleted(db: None) -> None:
    organization = Organization.objects.create(slug="acme", name="Acme", org_id="a-1", api_url="http://127.0.0.1:1")

    with pytest.raises(NotADemo):
        delete_demo(organization=organization)
    assert Organization.objects.filter(pk=organization.pk).exists()
