"""The Django admin of support staff: everything can be looked at, nothing changed but by the recorded actions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.test import Client, RequestFactory
from django.urls import reverse

from apps.audit.models import AuditEvent
from apps.operators.models import ApiToken, Operator, Role
from apps.operators.services import create_token
from apps.organizations.models import Alert, Credential, Organization
from apps.organizations.recorder import Actor
from apps.organizations.services import raise_alert
from apps.sandbox.server import Sandbox
from apps.users.models import Account

pytestmark = pytest.mark.django_db
OURS = [model for model in apps.get_models() if model.__module__.startswith("apps.")]


@pytest.fixture
def organization(sandbox: Sandbox, connect: Callable[..., Organization]) -> Organization:
    return connect(sandbox)


@pytest.fixture
def support(db: None) -> Client:
    client = Client()
    client.force_login(Operator.objects.create_user("support@aum.example", "correct horse battery", is_staff=True))
    return client


def page(model: Any, kind: str = "changelist", *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{kind}", args=args)


@pytest.mark.parametrize("model", OURS, ids=lambda model: model._meta.label)
def test_every_table_is_listed_and_none_is_edited(model: Any, support: Client) -> None:
    options = admin.site.get_model_admin(model)
    request = RequestFactory().get("/")
    request.user = Operator(is_staff=True, is_superuser=True, is_active=True)

    listed = support.get(page(model), {"q": "anything"} if options.search_fields else {})

    assert listed.status_code == 200, listed.content[:500]
    assert support.get(page(model, "add")).status_code == 403
    assert not options.has_change_permission(request)
    assert not options.has_delete_permission(request)


def test_the_pages_open_with_the_sign_in_of_aum_and_for_staff_only(
    organization: Organization, operators: Callable[..., Operator]
) -> None:
    owner = Client()
    owner.force_login(operators(organization, "owner@example.com", Role.OWNER))

    assert Client().get("/admin/", follow=True).redirect_chain[-1][0].startswith("/login/")
    assert Client().post("/admin/login/", {"username": "a", "password": "b"}).status_code == 302
    assert owner.get("/admin/").status_code in (302, 403)
    assert owner.get(page(Account)).status_code in (302, 403)


def test_secrets_stand_on_no_page(
    support: Client, organization: Organization, operators: Callable[..., Operator]
) -> None:
    owner = operators(organization, "owner@example.com", Role.OWNER)
    token, secret = create_token(organization=organization, operator=owner, scopes=["read"], actor=Actor.system())
    credential = Credential.objects.of(organization).get(kind="api_key")
    hidden = [secret, token.token_hash, bytes(credential.encrypted_value or b"").decode(), owner.password]

    texts = [
        support.get(url).content.decode()
        for url in (
            page(ApiToken),
            page(ApiToken, "change", token.pk),
            page(Credential),
            page(Credential, "change", credential.pk),
            page(Operator, "change", owner.pk),
        )
    ]

    assert all(text for text in texts)
    assert not [value for value in hidden for text in texts if value and value in text]


def test_actions_go_through_the_services_and_are_recorded(
    support: Client, organization: Organization, operators: Callable[..., Operator]
) -> None:
    operators(organization, "owner@example.com", Role.OWNER)
    other = operators(organization, "other@example.com", Role.ADMIN)
    token, _ = create_token(organization=organization, operator=other, scopes=["read"], actor=Actor.system())
    raise_alert(organization=organization, kind="x", severity="warning", title="Look", detail="here")

    def act(model: Any, action: str, pk: int) -> None:
        answer = support.post(page(model), {"action": action, "_selected_action": [pk]})
        assert answer.status_code == 302, answer.content[:800]

    act(ApiToken, "revoke", token.pk)
    act(Operator, "disable", other.pk)
    act(Alert, "resolve", Alert.objects.get().pk)
    act(Organization, "stop", organization.pk)
    act(Operator, "disable", Operator.objects.get(email="owner@example.com").pk)

    organization.refresh_from_db()
    assert organization.kill_switch_at is not None
    assert Alert.objects.get().resolved_by == "support@aum.example"
    rows = AuditEvent.objects.of(organization).filter(actor__email="support@aum.example")
    assert {"token.revoked", "operator.disabled", "kill_switch.on"} <= set(rows.values_list("action", flat=True))
    # The last owner stays.
    assert Operator.objects.get(email="owner@example.com").is_active
