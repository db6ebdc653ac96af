"""Single sign-on against a real OpenID provider that runs in the test, over loopback HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from django.test import Client
from django.urls import reverse
from oidc_provider_mock import User, run_server_in_thread

from apps.audit.models import AuditEvent
from apps.operators.models import Grant, GroupRole, IdentityProvider, Operator, Role
from apps.operators.services import ProviderInput, save_provider, set_group_roles
from apps.organizations.models import Alert, Organization
from apps.organizations.recorder import Actor
from aum.common.errors import InvalidInput

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*deprecated")
PASSWORD = "correct horse battery"
CLAIMS: dict[str, dict[str, Any]] = {
    "tansy": {"email": "tansy@example.com", "email_verified": True, "name": "Tansy", "groups": ["aum-desk"]},
    "owner": {"email": "Owner@example.com", "email_verified": True, "groups": []},
    "liar": {"email": "owner@example.com", "email_verified": False, "groups": ["aum-admins"]},
    "nobody": {"email": "nobody@example.com", "email_verified": True, "groups": ["other"]},
}


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    users = [User(sub=sub, claims=claims) for sub, claims in CLAIMS.items()]
    with run_server_in_thread(user_claims=users) as server:
        yield f"http://localhost:{server.server_port}"


@pytest.fixture
def organization(db: None, settings: Any) -> Organization:
    settings.AUM_OUTGOING_ALLOWLIST = ["localhost"]
    return Organization.objects.create(slug="acme", name="Acme", org_id="acme-1", api_url="http://127.0.0.1:1")


@pytest.fixture
def owner(organization: Organization, operators: Callable[..., Operator]) -> Operator:
    return operators(organization, "owner@example.com", Role.OWNER)


@pytest.fixture
def provider(issuer: str, organization: Organization, owner: Operator) -> IdentityProvider:
    set_group_roles(
        organization=organization, pairs=[("aum-desk", "helpdesk"), ("aum-admins", "admin")], actor=Actor.system()
    )
    return save_provider(values=values(issuer), operator=owner, actor=Actor.operator(owner))


def values(issuer: str, **changes: Any) -> ProviderInput:
    return ProviderInput(
        **{"name": "Example ID", "issuer": issuer, "client_id": "aum", "client_secret": "s", **changes}
    )


def come_in(sub: str, client: Client | None = None, following: str = "/o/acme/") -> tuple[Client, Any]:
    """The whole way of a browser: our link, the provider's page, and back."""
    client = client or Client()
    start = client.get(reverse("openid_connect_login", args=["sso"]), {"next": following})
    chosen = requests.post(start["Location"], data={"sub": sub}, allow_redirects=False, timeout=10)
    back = urlsplit(chosen.headers["Location"])
    return client, client.get(f"{back.path}?{back.query}")


def test_a_new_person_gets_the_roles_of_their_groups_at_each_sign_in(
    provider: IdentityProvider, organization: Organization
) -> None:
    client, answer = come_in("tansy")
    first = set(Grant.objects.filter(operator__email="tansy@example.com").values_list("role", flat=True))
    GroupRole.objects.filter(group="aum-desk").update(role="viewer")
    _, again = come_in("tansy")
    tansy = Operator.objects.get(email="tansy@example.com")

    assert answer["Location"] == "/o/acme/"
    assert client.get("/o/acme/").status_code == 200
    assert first == {Role.HELPDESK}
    assert again.status_code == 302
    assert set(Grant.objects.filter(operator=tansy).values_list("role", flat=True)) == {Role.VIEWER}
    assert not tansy.has_usable_password()
    assert client.get("/me/").status_code == 200


def test_an_address_that_the_provider_does_not_vouch_for_opens_nothing(
    provider: IdentityProvider, owner: Operator
) -> None:
    client, answer = come_in("liar")
    stranger, refused = come_in("nobody")

    assert answer.status_code == 403
    assert "does not vouch" in answer.content.decode()
    assert client.get("/o/acme/").status_code == 302
    assert refused.status_code == 403
    assert stranger.get("/me/").status_code == 302
    assert Operator.objects.count() == 1


def test_the_last_owner_keeps_that_role_whatever_the_groups_say(provider: IdentityProvider, owner: Operator) -> None:
    client, _ = come_in("owner")

    assert client.get(reverse("operators:people", args=["acme"])).status_code == 200
    assert Grant.objects.get(operator=owner).role == Role.OWNER


def test_with_passwords_off_only_the_sealed_way_in_is_open_and_everybody_hears(
    issuer: str, provider: IdentityProvider, owner: Operator, organization: Organization, operators: Callable[..., Any]
) -> None:
    operators(organization, "viewer@example.com", Role.VIEWER)
    save_provider(
        values=values(issuer, client_secret="", is_password_off=True, break_glass_id=owner.pk),
        operator=owner,
        actor=Actor.system(),
    )

    def by_password(email: str) -> Any:
        return Client().post(reverse("account_login"), {"login": email, "password": PASSWORD})

    refused, let_in = by_password("viewer@example.com"), by_password("owner@example.com")

    assert refused.status_code == 422
    assert "Sign in with Example ID" in refused.content.decode()
    assert let_in.status_code == 302
    assert Alert.objects.of(organization).get().kind == "break_glass"
    assert AuditEvent.objects.of(organization).filter(action="operator.break_glass").exists()


def test_a_wrong_provider_is_named_at_its_field(issuer: str, owner: Operator, settings: Any) -> None:
    def faults(address: str = issuer, **changes: Any) -> set[str]:
        with pytest.raises(InvalidInput) as caught:
            save_provider(values=values(address, **changes), operator=owner, actor=Actor.system())
        return set(caught.value.fields)

    assert faults(issuer + "/nowhere") == {"issuer"}
    assert faults(issuer.replace("localhost", "127.0.0.1")) == {"issuer"}
    assert faults(client_secret="") == {"client_secret"}
    assert faults(is_password_off=True) == {"break_glass_id"}
    assert faults(is_password_off=True, is_active=False) == {"is_password_off"}
    settings.AUM_OUTGOING_ALLOWLIST = []
    assert faults() == {"issuer"}


def test_the_page_saves_and_never_shows_the_secret(issuer: str, owner: Operator, organization: Organization) -> None:
    client = Client()
    client.force_login(owner)
    url = reverse("operators:single-sign-on", args=["acme"])
    form = {
        "form": "provider",
        "name": "Example ID",
        "issuer": issuer,
        "client_id": "aum",
        "client_secret": "very-secret-value",
        "groups_claim": "groups",
        "is_active": "on",
    }

    saved = client.post(url, form)
    wrong = client.post(url, {"form": "roles", "mapping": "aum-admins: admin\naum-desk helper"})
    client.post(url, {"form": "roles", "mapping": "aum-admins: admin\ncn=a:b: viewer"})
    page = client.get(url).content.decode()

    assert saved.status_code == 302
    assert "Line 2 is not" in wrong.content.decode()
    assert set(GroupRole.objects.values_list("group", "role")) == {("aum-admins", "admin"), ("cn=a:b", "viewer")}
    assert "very-secret-value" not in page
    assert b"very-secret-value" not in bytes(IdentityProvider.objects.get().encrypted_client_secret)
    assert "Sign in with Example ID" in Client().get("/login/").content.decode()


def test_who_owns_only_one_of_several_organisations_does_not_decide_for_all(
    issuer: str, owner: Operator, organization: Organization
) -> None:
    Organization.objects.create(slug="other", name="Other", org_id="o-1", api_url="http://127.0.0.1:1")
    client = Client()
    client.force_login(owner)

    page = client.get(reverse("operators:single-sign-on", args=["acme"])).content.decode()

    assert "only who owns each of them" in page
    assert "Check and save" not in page


def test_somebody_without_a_password_proves_it_by_the_provider(provider: IdentityProvider, settings: Any) -> None:
    GroupRole.objects.filter(group="aum-desk").update(role="admin")
    client, _ = come_in("tansy")
    settings.AUM_REAUTHENTICATE_MINUTES = 0
    url = reverse("operators:tokens", args=["acme"])

    asked = client.post(url, {"name": "n", "scopes": ["read"], "expires_on": "2999-01-01"})
    settings.AUM_REAUTHENTICATE_MINUTES = 15
    again = client.get(asked["Location"])
    chosen = requests.post(again["Location"], data={"sub": "tansy"}, allow_redirects=False, timeout=10)
    back = urlsplit(chosen.headers["Location"])
    done = client.get(f"{back.path}?{back.query}")

    assert asked["Location"].startswith("/sso/sso/login/")
    assert done.status_code == 302
    assert client.get(url).status_code == 200
