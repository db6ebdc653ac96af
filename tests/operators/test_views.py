from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.operators.models import ApiToken, Grant, Invitation, Operator, Role
from apps.organizations.models import Organization
from apps.sandbox.server import Sandbox

PASSWORD = "correct horse battery"


@pytest.fixture
def organization(db: None, sandbox: Sandbox, connect: Callable[..., Organization]) -> Organization:
    return connect(sandbox)


@pytest.fixture
def owner(organization: Organization, operators: Callable[..., Operator]) -> Client:
    client = Client()
    client.force_login(operators(organization, "owner@example.com", Role.OWNER))
    return client


def _sign_in(client: Client, password: str, email: str = "owner@example.com") -> tuple[int, str]:
    answer = client.post(reverse("account_login"), {"login": email, "password": password})
    return answer.status_code, answer.content.decode()


def test_sign_in_says_how_many_tries_are_left_then_pauses(organization: Organization, owner: Client) -> None:
    client = Client()

    texts = [_sign_in(client, "wrong") for _ in range(6)]

    assert [status for status, _ in texts] == [422] * 6
    assert "You have 4 tries left" in texts[0][1]
    assert "You have 1 try left" in texts[3][1]
    assert "Sign-in pauses for 5 minutes" in texts[4][1]
    assert "Sign-in pauses for 5 minutes" in texts[5][1]
    assert _sign_in(client, PASSWORD)[0] == 422


def test_tries_of_an_unknown_address_look_the_same(db: None, organization: Organization, owner: Client) -> None:
    known = _sign_in(Client(), "wrong")
    unknown = _sign_in(Client(), "wrong", "stranger@example.com")

    def error(text: str) -> list[str]:
        return re.findall(r'class="err">.*?<span>(.*?)</span>', text)

    assert error(known[1]) == error(unknown[1]) != []


def test_sign_in_leads_to_the_page_that_was_asked_for(organization: Organization, owner: Client) -> None:
    client = Client()
    asked = client.get("/o/acme/audit/")

    answer = client.post(
        asked["Location"], {"login": "owner@example.com", "password": PASSWORD, "next": "/o/acme/audit/"}
    )

    assert answer.status_code == 302
    assert answer["Location"] == "/o/acme/audit/"


def test_nobody_can_sign_up(db: None) -> None:
    assert Client().get("/signup/").status_code == 404


def test_own_settings_are_kept(owner: Client) -> None:
    owner.post(reverse("operators:me"), {"name": "Olive", "theme": "dark"})

    operator = Operator.objects.get()
    assert (operator.name, operator.theme, operator.shortcuts_off) == ("Olive", "dark", True)
    assert 'data-theme="dark"' in owner.get(reverse("operators:me")).content.decode()


@pytest.mark.parametrize(
    ("back", "leads_to"), [("/o/acme/", "/o/acme/"), ("https://evil.example/", "/"), ("//evil.example", "/")]
)
def test_theme_menu_leads_back_but_nowhere_else(owner: Client, back: str, leads_to: str) -> None:
    answer = owner.post(reverse("operators:theme"), {"theme": "light", "next": back})

    assert answer["Location"] == leads_to
    assert Operator.objects.get().theme == "light"


def test_a_token_is_shown_once(owner: Client, organization: Organization) -> None:
    url = reverse("operators:tokens", args=["acme"])
    day = timezone.now().date() + timedelta(days=30)

    made = owner.post(url, {"name": "nightly", "scopes": ["read"], "expires_on": str(day)})
    again = owner.get(url)

    secret = re.search(r'id="new-token"[^>]*>(aum_[^<]+)<', made.content.decode())
    assert secret is not None
    assert made["Cache-Control"] == "no-store"
    assert secret[1] not in again.content.decode()
    assert ApiToken.objects.get().expires_at.date() == day


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"scopes": ["run", "approve"]}, "scopes"),
        ({"scopes": []}, "scopes"),
        ({"expires_on": "2001-01-01"}, "expires_on"),
        ({"expires_on": "2999-01-01"}, "expires_on"),
        ({"expires_on": "soon"}, "expires_on"),
    ],
)
def test_a_wrong_token_form_names_the_field(
    owner: Client, organization: Organization, values: dict[str, object], field: str
) -> None:
    good = {"name": "n", "scopes": ["read"], "expires_on": str(timezone.now().date() + timedelta(days=30))}

    page = owner.post(reverse("operators:tokens", args=["acme"]), {**good, **values})

    assert page.status_code == 422
    assert re.search(rf'id="id_{field}(_0)?_error"', page.content.decode())
    assert not ApiToken.objects.exists()


def test_tokens_of_others_are_seen_and_revoked_by_owners_only(
    owner: Client, organization: Organization, operators: Callable[..., Operator]
) -> None:
    admin = Client()
    admin.force_login(operators(organization, "admin@example.com", Role.ADMIN))
    owner.post(
        reverse("operators:tokens", args=["acme"]),
        {"name": "of-owner", "scopes": ["read"], "expires_on": str(timezone.now().date() + timedelta(days=30))},
    )
    revoke = reverse("operators:revoke", args=["acme", ApiToken.objects.get().pk])

    hidden = admin.get(reverse("operators:tokens", args=["acme"]))
    refused = admin.post(revoke)
    owner.get(revoke)
    kept = ApiToken.objects.get().revoked_at
    owner.post(revoke)

    assert "of-owner" not in hidden.content.decode()
    assert refused.status_code == 404
    assert kept is None
    assert ApiToken.objects.get().revoked_at is not None


def test_an_invited_person_chooses_a_password_and_has_the_roles(owner: Client, organization: Organization) -> None:
    url = reverse("operators:people", args=["acme"])

    made = owner.post(url, {"name": "Tansy", "email": "Tansy@example.com", "roles": ["helpdesk", "approver"]})
    link = re.search(r'id="invitation-link"[^>]*>[^<]*(/invite/[^<]+/)<', made.content.decode())
    assert link is not None
    client = Client()
    weak = client.post(link[1], {"name": "Tansy", "password": "short"})
    client.post(link[1], {"name": "Tansy", "password": "a new long secret"})

    assert link[1] not in owner.get(url).content.decode()
    assert weak.status_code == 422
    assert client.get("/o/acme/").status_code == 200
    assert set(Grant.objects.filter(operator__email="tansy@example.com").values_list("role", flat=True)) == {
        Role.HELPDESK,
        Role.APPROVER,
    }
    assert Client().get(link[1]).status_code == 404
    actions = set(AuditEvent.objects.of(organization).values_list("action", flat=True))
    assert {"operator.invited", "operator.invitation_accepted", "operator.role_granted"} <= actions


def test_an_invitation_gives_nothing_to_another_account(owner: Client, organization: Organization) -> None:
    Operator.objects.create_user("tansy@example.com", PASSWORD)
    stranger = Client()
    stranger.force_login(Operator.objects.create_user("stranger@example.com", PASSWORD))
    made = owner.post(reverse("operators:people", args=["acme"]), {"email": "tansy@example.com", "roles": ["viewer"]})
    link = re.search(r"/invite/[^<]+/", made.content.decode())
    assert link is not None

    refused = stranger.post(link[0])
    tansy = Client()
    tansy.force_login(Operator.objects.get(email="tansy@example.com"))
    tansy.post(link[0])

    assert refused.status_code == 409
    assert "Sign in as tansy@example.com" in refused.content.decode()
    assert tansy.get("/o/acme/").status_code == 200


def test_a_withdrawn_invitation_is_over(owner: Client, organization: Organization) -> None:
    url = reverse("operators:people", args=["acme"])
    made = owner.post(url, {"email": "tansy@example.com", "roles": ["viewer"]})
    link = re.search(r"/invite/[^<]+/", made.content.decode())
    assert link is not None

    owner.post(reverse("operators:withdraw-invitation", args=["acme", Invitation.objects.get().pk]))

    assert Client().get(link[0]).status_code == 404
    assert "tansy@example.com" not in owner.get(url).content.decode()


def test_roles_change_and_the_last_owner_stays(
    owner: Client, organization: Organization, operators: Callable[..., Operator]
) -> None:
    other = operators(organization, "other@example.com", Role.ADMIN)
    myself = Operator.objects.get(email="owner@example.com")

    owner.post(reverse("operators:roles", args=["acme", other.pk]), {"roles": ["viewer", "approver"]})
    refused = owner.post(reverse("operators:roles", args=["acme", myself.pk]), {"roles": ["viewer"]})
    roles = set(Grant.objects.filter(operator=other).values_list("role", flat=True))
    owner.post(reverse("operators:roles", args=["acme", other.pk]), {})

    assert roles == {Role.VIEWER, Role.APPROVER}
    assert refused.status_code == 422
    assert "last owner" in refused.content.decode()
    assert Grant.objects.filter(operator=myself, role=Role.OWNER).exists()
    assert not Grant.objects.filter(operator=other).exists()


def test_a_disabled_person_is_out_at_once_and_it_is_logged(
    owner: Client, organization: Organization, operators: Callable[..., Operator]
) -> None:
    other = operators(organization, "other@example.com", Role.ADMIN)
    session = Client()
    session.force_login(other)

    owner.post(reverse("operators:disable", args=["acme", other.pk]))

    assert session.get("/o/acme/").status_code == 302
    assert AuditEvent.objects.of(organization).filter(action="operator.disabled").exists()


def test_an_owner_disables_neither_themselves_nor_people_of_others(
    owner: Client, organization: Organization, operators: Callable[..., Operator]
) -> None:
    myself = Operator.objects.get()
    shared = operators(organization, "shared@example.com", Role.ADMIN)
    elsewhere = Organization.objects.create(slug="b", name="B", org_id="b", api_url="https://api.atlassian.com")
    Grant.objects.create(
        organization=elsewhere, operator=shared, role=Role.VIEWER, granted_at=timezone.now(), granted_by="test"
    )

    answers = [owner.post(reverse("operators:disable", args=["acme", person.pk])) for person in (myself, shared)]

    assert [answer.status_code for answer in answers] == [409, 409]
    assert Operator.objects.filter(is_active=True).count() == 2


@pytest.mark.parametrize("name", ["people", "tokens"])
def test_helpdesk_opens_neither_people_nor_tokens(
    organization: Organization, operators: Callable[..., Operator], name: str
) -> None:
    client = Client()
    client.force_login(operators(organization, "desk@example.com", Role.HELPDESK))

    page = client.get(reverse(f"operators:{name}", args=["acme"]))

    assert page.status_code == 403
    assert "This needs another role" in page.content.decode()
    assert f'href="{reverse("operators:tokens", args=["acme"])}"' not in page.content.decode()


def test_navigation_shows_each_role_only_what_it_opens(
    organization: Organization, operators: Callable[..., Operator]
) -> None:
    def items(role: str) -> list[str]:
        client = Client()
        client.force_login(operators(organization, f"{role}@example.com", role))
        text = client.get("/o/acme/").content.decode()
        return re.findall(r'<a class="item" href="/o/acme/([^"]*)"', text)

    assert items(Role.VIEWER) == [
        "",
        "insights/",
        "savings/",
        "alerts/",
        "users/",
        "exemptions/",
        "hand-offs/",
        "rules/",
        "activation/",
        "emails/",
        "approvals/",
        "audit/",
        "help/",
    ]
    assert items(Role.OWNER)[-3:] == ["api-access/", "settings/general/", "help/"]


@pytest.mark.parametrize(("role", "is_there"), [(Role.HELPDESK, True), (Role.APPROVER, True), (Role.VIEWER, False)])
def test_emergency_stop_is_at_hand_for_those_who_may_press_it(
    organization: Organization, operators: Callable[..., Operator], role: str, is_there: bool
) -> None:
    client = Client()
    client.force_login(operators(organization, "someone@example.com", role))

    text = client.get("/o/acme/").content.decode()

    assert (reverse("organizations:stop", args=["acme"]) in text) == is_there


def test_password_is_changed_and_the_person_stays(owner: Client) -> None:
    url = reverse("account_change_password")

    wrong = owner.post(url, {"oldpassword": "no", "password1": "a new long secret", "password2": "a new long secret"})
    owner.post(url, {"oldpassword": PASSWORD, "password1": "a new long secret", "password2": "a new long secret"})

    assert "Correct one thing" in wrong.content.decode()
    assert owner.get("/o/acme/").status_code == 200
    assert Client().login(email="owner@example.com", password="a new long secret")


def test_signing_out_asks_and_ends_the_session(owner: Client) -> None:
    asked = owner.get(reverse("account_logout"))
    owner.post(reverse("account_logout"))

    assert "Sign out?" in asked.content.decode()
    assert owner.get("/o/acme/").status_code == 302
