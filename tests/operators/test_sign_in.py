"""Second factors, sessions, and proving again who one is before something dangerous."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
import time_machine
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.test import Client
from django.urls import reverse

from apps.audit.models import AuditEvent
from apps.operators.models import Operator, Role
from apps.operators.services import create_token
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor

PASSWORD = "correct horse battery"


@pytest.fixture
def organization(db: None) -> Organization:
    return Organization.objects.create(slug="acme", name="Acme", org_id="acme-1", api_url="http://127.0.0.1:1")


@pytest.fixture
def owner(organization: Organization, operators: Callable[..., Operator]) -> Operator:
    return operators(organization, "owner@example.com", Role.OWNER)


def signed_in(email: str = "owner@example.com") -> Client:
    client = Client()
    answer = client.post(reverse("account_login"), {"login": email, "password": PASSWORD})
    assert answer.status_code == 302
    return client


def confirm(client: Client) -> None:
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})


def code_of(secret: str) -> str:
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30))


def set_up_app(client: Client) -> str:
    """Walk through the page as a person does; the secret of the app."""
    confirm(client)
    page = client.get(reverse("mfa_activate_totp")).content.decode()
    found = re.search(r'id="totp-key"[^>]*>([A-Z2-7]+)<', page)
    assert found is not None
    assert "<svg" in page
    client.post(reverse("mfa_activate_totp"), {"code": code_of(found[1])})
    return found[1]


def test_the_app_is_set_up_and_then_asked_for(
    owner: Operator, organization: Organization, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        secret = set_up_app(signed_in())
    client = Client()

    first = client.post(reverse("account_login"), {"login": "owner@example.com", "password": PASSWORD})
    before = client.get("/o/acme/").status_code
    wrong = client.post(reverse("mfa_authenticate"), {"code": "000000"}).content.decode()
    Authenticator.objects.filter(type="totp").update(last_used_at=None)
    client.post(reverse("mfa_authenticate"), {"code": code_of(secret)})

    assert first["Location"] == reverse("mfa_authenticate")
    assert before == 302
    assert "This code is not right" in wrong
    assert AuditEvent.objects.of(organization).filter(action="operator.second_factor_added").exists()
    # Its secret is encrypted at rest, as credentials are.
    assert secret not in json.dumps(Authenticator.objects.get(type="totp").data)


def test_a_recovery_code_signs_in_once(owner: Operator) -> None:
    client = signed_in()
    set_up_app(client)
    page = client.get(reverse("mfa_view_recovery_codes")).content.decode()
    code = re.search(r'id="recovery-codes"[^>]*>(\d+)', page)
    assert code is not None

    def with_code() -> int:
        fresh = Client()
        fresh.post(reverse("account_login"), {"login": "owner@example.com", "password": PASSWORD})
        return fresh.post(reverse("mfa_authenticate"), {"code": code[1]}).status_code

    assert (with_code(), with_code()) == (302, 200)


def test_an_organisation_that_asks_for_a_second_factor_opens_only_with_one(
    owner: Operator, organization: Organization, operators: Callable[..., Operator]
) -> None:
    operators(organization, "viewer@example.com", Role.VIEWER)
    mine, viewer = signed_in(), signed_in("viewer@example.com")
    url = reverse("operators:sign-in-settings", args=["acme"])

    refused = mine.post(url, {"is_second_factor_required": "on"}, follow=True).content.decode()
    set_up_app(mine)
    mine.post(url, {"is_second_factor_required": "on"})

    assert "Set up a second factor of your own first" in refused
    assert viewer.get("/o/acme/users/")["Location"] == reverse("mfa_index")
    assert viewer.get("/api/v1/organizations/acme/accounts/").json()["code"] == "second_factor_required"
    assert mine.get("/o/acme/users/").status_code == 200
    kept = mine.post(reverse("mfa_deactivate_totp"), follow=True).content.decode()
    assert "requires a second factor" in kept
    assert Authenticator.objects.filter(user=owner, type="totp").exists()


def test_other_sessions_end(owner: Operator) -> None:
    here, there = signed_in(), signed_in()
    there.get("/me/")

    page = here.get(reverse("usersessions_list")).content.decode()
    here.post(reverse("usersessions_list"))

    assert page.count("127.0.0.1") == 2
    assert here.get("/me/").status_code == 200
    assert there.get("/me/").status_code == 302


def test_what_is_dangerous_asks_again_after_a_while_and_keeps_what_was_sent(
    owner: Operator, organization: Organization, settings: pytest.FixtureRequest
) -> None:
    client = signed_in()
    settings.AUM_REAUTHENTICATE_MINUTES = 0  # type: ignore[attr-defined]
    url = reverse("operators:people", args=["acme"])

    asked = client.post(url, {"email": "tansy@example.com", "roles": ["viewer"]})
    settings.AUM_REAUTHENTICATE_MINUTES = 15  # type: ignore[attr-defined]
    page = client.post(asked["Location"], {"password": PASSWORD, "next": reverse("operators:go-on")}, follow=True)
    text = page.content.decode()
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', text))
    done = client.post(url, fields)

    assert asked["Location"].startswith(reverse("account_reauthenticate"))
    assert "Invite a person" in text
    assert fields["email"] == "tansy@example.com"
    assert "is invited" in done.content.decode()


def test_a_token_works_only_from_its_networks(owner: Operator, organization: Organization) -> None:
    _, secret = create_token(
        organization=organization,
        operator=owner,
        scopes=["read"],
        actor=Actor.system(),
        networks=["203.0.113.0/24", "2001:db8::1"],
    )

    def status(address: str) -> int:
        return (
            Client(REMOTE_ADDR=address)
            .get("/api/v1/organizations/acme/groups/", headers={"authorization": f"Bearer {secret}"})
            .status_code
        )

    assert [status(address) for address in ("203.0.113.9", "2001:db8::1", "203.0.114.9", "127.0.0.1", "")] == [
        200,
        200,
        401,
        401,
        401,
    ]


def test_an_unreadable_network_is_named_at_its_field(owner: Operator, organization: Organization) -> None:
    page = signed_in().post(
        reverse("operators:tokens", args=["acme"]),
        {"name": "n", "scopes": ["read"], "expires_on": "2026-12-24", "networks": "10.0.0.0/8, nonsense"},
    )

    assert page.status_code == 422
    assert "nonsense" in page.content.decode()
    assert 'id="id_networks_error"' in page.content.decode()


def test_the_sender_behind_proxies_is_the_one_that_the_nearest_wrote(
    owner: Operator, organization: Organization, settings: pytest.FixtureRequest
) -> None:
    settings.AUM_PROXY_HOPS = 1  # type: ignore[attr-defined]
    _, secret = create_token(
        organization=organization, operator=owner, scopes=["read"], actor=Actor.system(), networks=["203.0.113.9"]
    )
    client = Client(REMOTE_ADDR="10.0.0.1")
    headers = {"authorization": f"Bearer {secret}"}
    url = "/api/v1/organizations/acme/groups/"

    honest = client.get(url, headers={**headers, "x-forwarded-for": "203.0.113.9"})
    forged = client.get(url, headers={**headers, "x-forwarded-for": "203.0.113.9, 198.51.100.7"})

    assert (honest.status_code, forged.status_code) == (200, 401)


def test_a_caller_that_asks_too_often_is_told_when_to_come_back(
    owner: Operator, organization: Organization, settings: pytest.FixtureRequest
) -> None:
    settings.AUM_API_REQUESTS_PER_MINUTE = 2  # type: ignore[attr-defined]
    tokens = [
        create_token(organization=organization, operator=owner, scopes=["read"], actor=Actor.system())[1]
        for _ in range(2)
    ]

    with time_machine.travel("2026-11-25T12:00:10Z", tick=False):
        answers = [
            Client().get("/api/v1/organizations/acme/groups/", headers={"authorization": f"Bearer {token}"})
            for token in (tokens[0], tokens[0], tokens[0], tokens[1])
        ]
    with time_machine.travel("2026-11-25T12:01:01Z", tick=False):
        later = Client().get("/api/v1/organizations/acme/groups/", headers={"authorization": f"Bearer {tokens[0]}"})

    assert [answer.status_code for answer in answers] == [200, 200, 429, 200]
    assert [answer["RateLimit-Remaining"] for answer in answers] == ["1", "0", "0", "1"]
    assert answers[2]["Retry-After"] == answers[2]["RateLimit-Reset"] == "51"
    assert answers[2].json()["code"] == "throttled"
    assert later.status_code == 200


def test_an_owner_invites_and_sets_roles_over_rest_and_a_token_does_not(
    owner: Operator, organization: Organization, operators: Callable[..., Operator]
) -> None:
    other = operators(organization, "other@example.com", Role.ADMIN)
    client = signed_in()
    base = "/api/v1/organizations/acme/"

    def send(method: str, path: str, data: object) -> Any:
        return getattr(client, method)(base + path, json.dumps(data), content_type="application/json")

    invited = send("post", "invitations/", {"email": "tansy@example.com", "roles": ["viewer"]})
    roles = send("put", f"people/{other.pk}/", {"roles": ["viewer", "approver"]})
    last = send("put", f"people/{owner.pk}/", {"roles": []})
    token = send("post", "tokens/", {"scopes": ["read", "admin"]})
    listed = client.get(base + "tokens/").json()
    by_token = Client().get(base + "people/", headers={"authorization": f"Bearer {token.json()['token']}"})

    assert invited.status_code == 201
    assert "/invite/" in invited.json()["link"]
    assert roles.json()["roles"] == ["approver", "viewer"]
    assert (last.status_code, last.json()["code"]) == (409, "last_owner")
    assert token.status_code == 201
    assert token.json()["token"] not in json.dumps(listed)
    assert by_token.status_code == 403
    gone = client.delete(base + f"invitations/{invited.json()['id']}/")
    assert gone.status_code == 204
    assert client.get(base + "invitations/").json()["results"] == []


def test_pages_ask_for_no_device_and_no_shared_cache_keeps_them(owner: Operator, organization: Organization) -> None:
    page = signed_in().get("/me/")

    assert "camera=()" in page["Permissions-Policy"]
    assert page["Cache-Control"] == "private, no-cache"
    assert page["Referrer-Policy"] == "same-origin"
    assert page["X-Content-Type-Options"] == "nosniff"
    assert page["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "default-src 'none'" in page["Content-Security-Policy"]
