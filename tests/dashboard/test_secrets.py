"""Known secrets are planted; then every page, REST answer, admin page, export, log line and table is searched (P12)."""

from __future__ import annotations

import io
import logging
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone

from apps.autoactivate import crypto as inbound_crypto
from apps.autoactivate.models import InboundSource
from apps.notifications.models import AlertChannel, MailSettings
from apps.operators.adapters import MfaAdapter
from apps.operators.models import IdentityProvider, Operator, Role
from apps.operators.services import create_token, invite
from apps.organizations import crypto
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.sandbox.server import Sandbox
from tests.dashboard.test_evidence import make_run

PASSWORD = "correct horse battery"
# What stands for the parameters of an address.
VALUES = {
    "int": "1",
    "str": "x",
    "slug": "acme",
    "path": "x",
    "any": "x",
    "uuid": "00000000-0000-0000-0000-000000000000",
}


def addresses(resolver: URLResolver, prefix: str = "") -> Iterator[str]:
    for entry in resolver.url_patterns:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from addresses(entry, route)
        elif isinstance(entry, URLPattern):
            yield route


def filled(route: str) -> str:
    path = "/" + route.lstrip("^").rstrip("$")
    for kind, value in VALUES.items():
        while f"<{kind}:" in path:
            before, _, rest = path.partition(f"<{kind}:")
            path = before + value + rest.partition(">")[2]
    return path


@pytest.fixture
def organization(transactional_db: None, sandbox: Sandbox, connect: Callable[..., Organization]) -> Organization:
    return connect(sandbox)


@pytest.fixture
def planted(organization: Organization, operators: Callable[..., Operator], sandbox: Sandbox) -> dict[str, str]:
    """Name → secret, each saved as the product saves it."""
    now = timezone.now()
    owner = operators(organization, "owner@example.com", Role.OWNER)
    Operator.objects.filter(pk=owner.pk).update(is_staff=True)
    secrets = {
        "api key": sandbox.credentials.api_key,
        "api token": sandbox.credentials.api_token,
        "password": PASSWORD,
        **{name: f"planted-{name}-5f3a9c" for name in ("sso", "mail", "channel", "signing", "inbound", "bot", "totp")},
    }
    _, secrets["token"] = create_token(
        organization=organization, operator=owner, scopes=["read"], actor=Actor.operator(owner)
    )
    _, secrets["invitation"] = invite(
        organization=organization, email="tansy@example.com", roles=["viewer"], actor=Actor.operator(owner)
    )
    IdentityProvider.objects.create(
        name="ID",
        issuer="https://id.example",
        client_id="aum",
        encrypted_client_secret=crypto.encrypt(secrets["sso"]),
        secret_set_at=now,
        is_active=False,
    )
    MailSettings.objects.create(
        organization=organization,
        host="mail.example",
        username="aum",
        encrypted_password=crypto.encrypt(secrets["mail"]),
        password_set_at=now,
        from_address="aum@example.com",
    )
    AlertChannel.objects.create(
        organization=organization,
        name="Hook",
        kind="webhook",
        encrypted_address=crypto.encrypt(f"https://hooks.example/{secrets['channel']}"),
        address_hint="hooks.example",
        encrypted_secret=crypto.encrypt(secrets["signing"]),
        edited_by_text="x",
        edited_at=now,
        last_alert_at=now,
    )
    InboundSource.objects.create(
        organization=organization,
        kind="slack",
        key="k" * 43,
        encrypted_secret=inbound_crypto.encrypt(secrets["inbound"]),
        secret_set_at=now,
        api_token=crypto.encrypt(secrets["bot"]),
        api_token_set_at=now,
    )
    Authenticator.objects.create(user=owner, type="totp", data={"secret": MfaAdapter().encrypt(secrets["totp"])})
    return secrets


def found_in(text: str, planted: dict[str, str]) -> list[str]:
    return [name for name, secret in planted.items() if secret in text]


def body(answer: Any) -> str:
    content = b"".join(answer.streaming_content) if answer.streaming else answer.content
    return bytes(content).decode(errors="replace")


def packed(answer: Any) -> str:
    """Every file of an evidence pack, one after the other."""
    with zipfile.ZipFile(io.BytesIO(b"".join(answer.streaming_content))) as pack:
        return "\n".join(pack.read(name).decode(errors="replace") for name in pack.namelist())


def test_no_secret_stands_anywhere(
    organization: Organization, planted: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    run = make_run(organization, people=3, number=1)
    client = Client(raise_request_exception=False)
    client.force_login(Operator.objects.get(email="owner@example.com"))
    paths = [filled(route) for route in addresses(get_resolver()) if "(?P" not in route and "admin/" not in route]
    for model in admin.site._registry:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        paths.append(reverse(f"{name}_changelist"))
        paths += [reverse(f"{name}_change", args=[row.pk]) for row in model._default_manager.all()[:2]]
    assert len(paths) > 150

    leaks: dict[str, list[str]] = {}
    statuses = []
    for path in paths:
        if "logout" in path:
            continue
        answer = client.get(path)
        statuses.append(answer.status_code)
        text = body(answer) + str(dict(answer.headers))
        if found := found_in(text, planted):
            leaks[path] = found
        assert answer.status_code != 500, path

    # Exports, an evidence pack, refused forms that held secrets, and REST's answers to writes that bring them.
    own = {name: planted[name] for name in ("signing", "mail", "sso")}
    base = "/api/v1/organizations/acme/"
    for path, body_sent in (
        ("/o/acme/api-access/webhooks/", {"name": "", "address": f"https://hooks.example/{planted['channel']}"}),
        ("/o/acme/settings/mail/", {"host": "", "password": own["mail"]}),
        ("/o/acme/settings/single-sign-on/", {"form": "provider", "name": "", "client_secret": own["sso"]}),
        ("/o/acme/settings/connection/replace/", {"api_key": planted["api key"], "api_token": planted["api token"]}),
    ):
        answer = client.post(path, body_sent)
        assert answer.status_code == 422, (path, answer.status_code)
        # A form shows again what was typed, but for secrets: the address of a webhook is none until it is saved.
        if found := [name for name in found_in(body(answer), planted) if name != "channel"]:
            leaks[path] = found
    for path in (
        f"{base}audit-events/export/?format=csv",
        f"{base}audit-events/export/?format=json",
        f"{base}accounts/export/?format=csv",
        f"{base}webhooks/",
        f"{base}alert-channels/",
        f"{base}mail-settings/",
        "/o/acme/audit/export/",
    ):
        answer = client.get(path)
        if found := found_in(body(answer), planted):
            leaks[path] = found
    for path in ("/o/acme/runs/1/evidence/", f"{base}operations/{run.pk}/evidence/"):
        text = packed(client.get(path))
        assert "557058:0001" in text
        if found := found_in(text, planted):
            leaks[path] = found
    assert leaks == {}
    assert statuses.count(200) > 60
    assert found_in(caplog.text, planted) == []
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        for (table,) in cursor.fetchall():
            cursor.execute(f'SELECT row_to_json(t)::text FROM "{table}" t')
            text = "\n".join(row[0] for row in cursor.fetchall())
            assert found_in(text, planted) == [], table
