"""A copy never acts; the kill switch stops and is released with a reason; settings name their errors."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from pytest_django import Settings

from apps.audit.models import AuditEvent
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.organizations.selectors import is_copy
from apps.organizations.services import confirm_instance, release_kill_switch, turn_kill_switch_on, update_settings
from aum.common.errors import InvalidInput

SYSTEM = Actor.system()
pytestmark = pytest.mark.django_db


@pytest.fixture
def organization() -> Organization:
    return Organization.objects.create(slug="acme", name="Acme", org_id="a-1", api_url="http://127.0.0.1:1")


def test_copied_database_turns_every_kill_switch_on_until_an_owner_confirms(
    organization: Organization, settings: Settings
) -> None:
    assert confirm_instance()
    settings.AUM_INSTANCE_ID = "another-installation"

    call_command("migrate", verbosity=0)

    organization.refresh_from_db()
    assert is_copy()
    assert organization.is_killed
    release_kill_switch(organization=organization, reason="this is the new home", actor=SYSTEM)
    assert not is_copy()
    assert confirm_instance()


def test_kill_switch_is_audited_once_and_needs_a_reason_to_go(organization: Organization) -> None:
    for _ in range(2):
        turn_kill_switch_on(organization=organization, reason="stop", actor=SYSTEM)

    assert AuditEvent.objects.filter(action="kill_switch.on").count() == 1
    with pytest.raises(InvalidInput) as refused:
        release_kill_switch(organization=organization, reason=" ", actor=SYSTEM)
    assert list(refused.value.fields) == ["reason"]
    assert organization.is_killed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timezone", "Mars/Olympus"),
        ("currency", "euro"),
        ("max_count", 0),
        ("max_share_percent", 101),
        ("activity_margin_hours", 721),
        ("kill_switch_reason", "x"),
    ],
)
def test_wrong_settings_are_named_at_their_field(organization: Organization, name: str, value: object) -> None:
    with pytest.raises(InvalidInput) as refused:
        update_settings(organization=organization, changes={name: value}, actor=SYSTEM)

    assert list(refused.value.fields) == [name]
    organization.refresh_from_db()
    assert getattr(organization, name) != value
