from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from apps.operators.models import Operator, Role
from apps.organizations.models import Alert, Credential, Organization
from apps.organizations.services import LOOSER_WHEN_GREATER
from apps.sandbox.server import Sandbox
from apps.users.models import Group, ProtectedGroup


@pytest.fixture
def organization(db: None, sandbox: Sandbox, connect: Callable[..., Organization]) -> Organization:
    return connect(sandbox)


@pytest.fixture
def owner(organization: Organization, operators: Callable[..., Operator]) -> Client:
    client = Client()
    client.force_login(operators(organization, "owner@example.com", Role.OWNER))
    return client


@pytest.fixture
def admin(organization: Organization, operators: Callable[..., Operator]) -> Client:
    client = Client()
    client.force_login(operators(organization, "admin@example.com", Role.ADMIN))
    return client


def _url(name: str, *args: object) -> str:
    return reverse(f"organizations:{name}", args=["acme", *args])


GENERAL = {
    "name": "Acme Ltd",
    "timezone": "Europe/Vienna",
    "currency": "EUR",
    "sync_hour_utc": "3",
    "calls_in_flight": "8",
    "catch_up_hours": "6",
}


def test_general_settings_are_saved(admin: Client, organization: Organization) -> None:
    admin.post(_url("settings"), GENERAL)

    organization.refresh_from_db()
    assert (organization.name, organization.timezone, organization.currency) == ("Acme Ltd", "Europe/Vienna", "EUR")


@pytest.mark.parametrize(
    ("field", "value"), [("timezone", "Mars/North"), ("currency", "euro"), ("sync_hour_utc", "24"), ("name", "")]
)
def test_general_settings_refuse_bad_values_at_their_field(
    admin: Client, organization: Organization, field: str, value: str
) -> None:
    page = admin.post(_url("settings"), {**GENERAL, field: value})

    assert page.status_code == 422
    assert f'id="id_{field}_error"' in page.content.decode()
    organization.refresh_from_db()
    assert organization.name == "Acme"


def _safeguards(organization: Organization, **changes: object) -> dict[str, str]:
    return {name: str(changes.get(name, getattr(organization, name))) for name in LOOSER_WHEN_GREATER}


@pytest.mark.parametrize(
    ("field", "value"), [("max_count", 501), ("max_share_percent", "10.01"), ("activity_margin_hours", 24)]
)
def test_safeguards_are_not_loosened_at_once(
    admin: Client, organization: Organization, field: str, value: object
) -> None:
    refused = admin.post(_url("safeguards"), _safeguards(organization, **{field: value}))
    page = admin.post(_url("safeguards"), {**_safeguards(organization, **{field: value}), "reason": "x"}, follow=True)

    assert refused.status_code == 422
    assert "waits for an approval" in page.content.decode()
    before = getattr(organization, field)
    organization.refresh_from_db()
    assert getattr(organization, field) == before


def test_safeguards_can_be_tightened(admin: Client, organization: Organization) -> None:
    admin.post(_url("safeguards"), _safeguards(organization, max_count=50, activity_margin_hours=72))

    organization.refresh_from_db()
    assert (organization.max_count, organization.activity_margin_hours) == (50, 72)


def test_connection_page_never_shows_a_secret(owner: Client, organization: Organization, sandbox: Sandbox) -> None:
    text = owner.get(_url("connection")).content.decode()

    assert sandbox.credentials.api_key not in text
    assert sandbox.credentials.api_token not in text
    assert "Set" in text
    assert "Directory can be read" in text


def test_refused_replacement_changes_nothing_and_names_the_field(
    owner: Client, organization: Organization, sandbox: Sandbox
) -> None:
    before = bytes(Credential.objects.of(organization).get(kind="api_key").encrypted_value or b"")

    page = owner.post(_url("replace"), {"email": sandbox.credentials.email, "api_key": "wrong", "api_token": ""})

    assert page.status_code == 422
    assert 'id="id_api_key_error"' in page.content.decode()
    assert "data-open" in page.content.decode()
    assert bytes(Credential.objects.of(organization).get(kind="api_key").encrypted_value or b"") == before


def test_empty_secrets_keep_the_saved_ones(owner: Client, organization: Organization, sandbox: Sandbox) -> None:
    answer = owner.post(
        _url("replace"), {"email": sandbox.credentials.email, "api_key_expires_on": "2030-01-01"}, follow=True
    )

    assert "Atlassian accepted the credentials" in answer.content.decode()
    assert str(Credential.objects.of(organization).get(kind="api_key").expires_on) == "2030-01-01"


def test_an_admin_cannot_replace_credentials(admin: Client, organization: Organization) -> None:
    assert admin.post(_url("replace"), {"email": "a@example.com"}).status_code == 403


def test_check_again_says_what_fails(admin: Client, organization: Organization, sandbox: Sandbox) -> None:
    passed = admin.post(_url("check"), follow=True)
    Organization.objects.filter(pk=organization.pk).update(org_id="gone")
    failed = admin.post(_url("check"), follow=True)

    assert "All checks passed." in passed.content.decode()
    assert "did not pass" in failed.content.decode()
    assert Alert.objects.of(organization).filter(dedup_key="credentials").exists()


def test_stop_needs_a_reason_and_only_an_owner_releases_it(
    admin: Client, owner: Client, organization: Organization
) -> None:
    without = admin.post(_url("stop"), {"reason": " "})
    admin.post(_url("stop"), {"reason": "Something is odd"})
    organization.refresh_from_db()
    assert without.status_code == 422
    assert organization.is_killed
    assert "Something is odd" in admin.get("/o/acme/").content.decode()

    refused = admin.post(_url("stop"), {"reason": "Looks fine"})
    owner.post(_url("stop"), {"reason": "Looked at it"})

    assert refused.status_code == 403
    organization.refresh_from_db()
    assert not organization.is_killed


def test_groups_are_found_and_protected_and_ending_it_needs_a_reason(admin: Client, organization: Organization) -> None:
    from django.utils import timezone

    from apps.organizations.models import Directory

    directory = Directory.objects.create(
        organization=organization, directory_id="d1", name="Main", seen_at=timezone.now()
    )
    group = Group.objects.create(organization=organization, directory=directory, group_id="g1", name="site-admins")

    found = admin.get(_url("groups"), {"q": "ADMIN"}, headers={"HX-Request": "true"})
    admin.post(_url("protect", group.pk))
    protected = ProtectedGroup.objects.of(organization).count()
    without = admin.post(_url("unprotect", group.pk), {"reason": ""})
    admin.post(_url("unprotect", group.pk), {"reason": "Not needed any more"})

    assert "site-admins" in found.content.decode()
    assert "<html" not in found.content.decode()
    assert protected == 1
    assert without.status_code == 422
    assert ProtectedGroup.objects.of(organization).exists()


def test_only_a_demo_is_deleted_and_only_when_its_name_is_typed(owner: Client, organization: Organization) -> None:
    assert owner.post(_url("remove-demo"), {"name": "Acme"}).status_code == 404
    Organization.objects.filter(pk=organization.pk).update(is_demo=True)

    wrong = owner.post(_url("remove-demo"), {"name": "acme?"})
    assert wrong.status_code == 422
    assert Organization.objects.exists()
    owner.post(_url("remove-demo"), {"name": "Acme"})

    assert not Organization.objects.exists()
