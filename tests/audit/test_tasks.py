"""What runs by itself, twice; settings that stop it; the admin that only reads."""

from __future__ import annotations

import pytest
from celery import current_app
from django.conf import settings as django_settings
from django.contrib import admin
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError
from django.test import RequestFactory
from pytest_django import Settings

from apps.audit import tasks
from apps.audit.chain import signing_keys
from apps.audit.models import AuditSegment
from apps.audit.services import seal_all, sealing, verify
from apps.migrations_mgmt import tasks as migrations_tasks
from apps.operators.models import Operator
from apps.organizations.models import Organization
from tests.audit.conftest import write

pytestmark = pytest.mark.django_db


def test_sealing_twice_seals_every_organization_once(organization: Organization, other: Organization) -> None:
    write(organization, 2)
    write(other, 3)

    tasks.seal()
    tasks.seal()

    assert sorted(AuditSegment.objects.values_list("organization__slug", "count")) == [("acme", 2), ("other", 3)]
    assert verify(organization).ok
    assert verify(other).ok


def test_trouble_in_one_organization_does_not_stop_the_others(
    organization: Organization, other: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(other, 1)
    real = sealing.seal

    def seal(one: Organization) -> int:
        if one == organization:
            raise DatabaseError("disk full")
        return real(one)

    monkeypatch.setattr(sealing, "seal", seal)

    seal_all()

    assert AuditSegment.objects.of(other).count() == 1


def test_other_tasks_can_run_twice() -> None:
    for task in (tasks.ensure_partitions, migrations_tasks.advance):
        task()
        task()


def test_periodic_names_are_registered_tasks() -> None:
    names = [name for name in django_settings.CELERY_BEAT_SCHEDULE if name.startswith(("audit.", "migrations."))]

    assert len(names) >= 5
    for name in names:
        assert name in current_app.tasks
        assert float(str(django_settings.CELERY_BEAT_SCHEDULE[name]["schedule"])) > 0


@pytest.mark.parametrize("value", ["", " , ", "zz", "11" * 31])
def test_a_signing_key_that_is_none_is_refused_with_its_name(settings: Settings, value: str) -> None:
    settings.AUM_AUDIT_SIGNING_KEY = value

    with pytest.raises(ImproperlyConfigured, match="AUM_AUDIT_SIGNING_KEY"):
        signing_keys()


def test_admin_changes_nothing_even_for_a_superuser(rf: RequestFactory) -> None:
    request = rf.get("/")
    request.user = Operator(email="root@example.com", is_staff=True, is_superuser=True)
    mine = [
        model_admin
        for model, model_admin in admin.site._registry.items()
        if model._meta.app_label in ("audit", "migrations_mgmt")
    ]

    assert len(mine) >= 6
    for model_admin in mine:
        assert not model_admin.has_add_permission(request)
        assert not model_admin.has_change_permission(request)
        assert not model_admin.has_delete_permission(request)
        assert model_admin.has_view_permission(request)
