"""Connecting an organisation: each wrong value is named, nothing half done, secrets never come back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.core import serializers
from pytest_django import Settings

from apps.audit.models import AuditEvent
from apps.organizations import crypto
from apps.organizations.addresses import clean_api_url, clean_site_url
from apps.organizations.models import Credential, Organization
from apps.organizations.recorder import Actor
from apps.organizations.selectors import connection_state
from apps.organizations.services import (
    ConnectionInput,
    ConnectionRefused,
    check_connection,
    connect_organization,
    reader_for,
    rotate_secrets,
    save_credentials,
)
from apps.organizations.services.connections import AlreadyConnected
from apps.sandbox.server import Sandbox
from aum.common.errors import InvalidInput

SYSTEM = Actor.system()
pytestmark = pytest.mark.django_db


@pytest.fixture
def values(sandbox: Sandbox) -> ConnectionInput:
    known = sandbox.credentials
    return ConnectionInput(
        email=known.email,
        org_id=known.org_id,
        site_url=sandbox.url,
        api_url=sandbox.url,
        api_token=known.api_token,
        api_key=known.api_key,
        name="Acme",
        slug="acme",
    )


@pytest.mark.parametrize(
    ("field", "secret", "named"),
    [
        ("api_key", "unknown_key", "api_key"),
        ("api_key", "expired_key", "api_key"),
        ("api_key", "scoped_key", "api_key"),
        ("api_key", "api_token", "api_key"),
        ("api_token", "bad_api_token", "api_token"),
        ("org_id", "bad_org_id", "org_id"),
    ],
)
def test_a_wrong_value_is_named_and_nothing_is_saved(
    sandbox: Sandbox, values: ConnectionInput, field: str, secret: str, named: str
) -> None:
    wrong: str = getattr(sandbox.credentials, secret)

    with pytest.raises(ConnectionRefused) as refused:
        connect_organization(values=replace(values, **{field: wrong}), actor=SYSTEM)

    assert named in refused.value.fields
    assert all(text for texts in refused.value.fields.values() for text in texts)
    assert wrong not in str(refused.value.fields) or field == "org_id"
    assert not Organization.objects.exists()
    assert not Credential.objects.exists()


def test_an_address_where_nobody_answers_is_named(values: ConnectionInput) -> None:
    with pytest.raises(ConnectionRefused) as refused:
        connect_organization(values=replace(values, api_url="http://127.0.0.1:9"), actor=SYSTEM)

    first = refused.value.results[0]
    assert (first.capability, first.ok) == ("reach", False)
    assert not Organization.objects.exists()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"email": "nobody"}, "email"),
        ({"org_id": "a/b"}, "org_id"),
        ({"org_id": ""}, "org_id"),
        ({"site_url": "https://evil.example"}, "site_url"),
        ({"site_url": "https://acme.atlassian.net.evil.example"}, "site_url"),
        ({"site_url": "https://acme.atlassian.net/wiki"}, "site_url"),
        ({"site_url": "http://acme.atlassian.net"}, "site_url"),
        ({"site_url": "https://user:pass@acme.atlassian.net"}, "site_url"),
        ({"api_url": "https://api.atlassian.com.evil.example"}, "api_url"),
        ({"api_token": ""}, "api_token"),
        ({"api_key": " "}, "api_key"),
        ({"slug": "No Good"}, "slug"),
        ({"api_key": "file:/no/such/file"}, "api_key"),
        ({"api_key": "env:NO_SUCH_VARIABLE"}, "api_key"),
    ],
)
def test_impossible_input_is_refused_at_its_field(values: ConnectionInput, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        connect_organization(values=replace(values, **changes), actor=SYSTEM)

    assert field in refused.value.fields
    assert not Organization.objects.exists()


def test_connecting_stores_secrets_encrypted_and_shows_none(
    values: ConnectionInput, caplog: pytest.LogCaptureFixture
) -> None:
    organization, results = connect_organization(values=values, actor=SYSTEM)

    assert all(result.ok for result in results)
    assert connection_state(organization).code == "complete"
    shown = serializers.serialize("json", [*Credential.objects.all()]) + caplog.text + repr(values)
    shown += str(list(AuditEvent.objects.values_list("before", "after", "reason")))
    assert values.api_key not in shown
    assert values.api_token not in shown
    with reader_for(organization) as reader:
        assert reader.get_org().id == values.org_id


def test_the_same_organisation_connects_once(values: ConnectionInput) -> None:
    connect_organization(values=values, actor=SYSTEM)

    with pytest.raises(AlreadyConnected):
        connect_organization(values=replace(values, slug="again"), actor=SYSTEM)


def test_replacing_keeps_what_was_left_empty_and_a_wrong_new_key_changes_nothing(
    sandbox: Sandbox, values: ConnectionInput
) -> None:
    organization, _ = connect_organization(values=values, actor=SYSTEM)
    before = list(Credential.objects.order_by("kind").values_list("kind", "set_at"))

    with pytest.raises(ConnectionRefused):
        save_credentials(
            organization=organization,
            values=replace(values, api_key=sandbox.credentials.unknown_key, api_token=""),
            actor=SYSTEM,
        )
    assert list(Credential.objects.order_by("kind").values_list("kind", "set_at")) == before

    save_credentials(organization=organization, values=replace(values, api_key="", api_token=""), actor=SYSTEM)
    assert connection_state(organization).is_usable


def test_a_key_that_stops_working_is_noticed_and_comes_back(sandbox: Sandbox, values: ConnectionInput) -> None:
    organization, _ = connect_organization(values=values, actor=SYSTEM)
    sandbox.control.post("faults", {"kind": "key_expires", "after": 0})

    check_connection(organization=organization)
    assert connection_state(organization).code == "invalid"
    sandbox.control.post("faults", {"clear": True})
    check_connection(organization=organization)

    assert connection_state(organization).code == "complete"


def test_rotation_opens_with_the_new_key_alone(values: ConnectionInput, settings: Settings) -> None:
    from cryptography.fernet import Fernet

    organization, _ = connect_organization(values=values, actor=SYSTEM)
    new = Fernet.generate_key().decode()
    settings.AUM_ENCRYPTION_KEYS = [new, *settings.AUM_ENCRYPTION_KEYS]
    assert rotate_secrets() == 2

    settings.AUM_ENCRYPTION_KEYS = [new]
    assert reader_for(organization).connection.api_key == values.api_key
    settings.AUM_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    with pytest.raises(crypto.SecretUnreadable):
        reader_for(organization)


def test_a_reference_is_read_at_use_and_never_stored(
    values: ConnectionInput, tmp_path: Any, connect: Callable[..., Organization]
) -> None:
    secret = tmp_path / "key"
    secret.write_text(values.api_key + "\n")

    organization, _ = connect_organization(values=replace(values, api_key=f"file:{secret}"), actor=SYSTEM)

    row = Credential.objects.get(organization=organization, kind="api_key")
    assert row.encrypted_value is None
    assert reader_for(organization).connection.api_key == values.api_key


def test_addresses_of_atlassian_and_of_the_allow_list(settings: Settings) -> None:
    settings.ATLASSIAN_SITE_ALLOWLIST = ["mirror.example"]

    assert clean_site_url("acme.atlassian.net/") == "https://acme.atlassian.net"
    assert clean_site_url("https://mirror.example:8443") == "https://mirror.example:8443"
    assert clean_api_url("https://api.atlassian.com") == "https://api.atlassian.com"
    assert clean_api_url("https://mirror.example") == "https://mirror.example"
