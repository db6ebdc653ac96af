"""Single sign-on by SAML against a real identity provider (pysaml2's) that runs in the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from allauth.socialaccount.models import SocialAccount
from django.test import Client
from django.urls import reverse

from apps.operators.models import Grant, GroupRole, IdentityProvider, Operator, Role
from apps.operators.services import ProviderInput, save_provider, set_group_roles
from apps.operators.services.saml_metadata import FRESH
from apps.organizations.crypto import rotators
from apps.organizations.models import Alert, Organization
from apps.organizations.recorder import Actor
from aum.common.errors import InvalidInput
from tests.operators.saml_idp import SIG_RSA_SHA1, IdentityProviderServer, request_of, running

PASSWORD = "correct horse battery"
USERS: dict[str, dict[str, Any]] = {
    "tansy": {"mail": "Tansy@example.com", "displayName": "Tansy Tern", "groups": ["staff", "aum-desk"]},
    "owner": {"mail": "owner@example.com", "groups": []},
    "nobody": {"mail": "nobody@example.com", "groups": ["other"]},
    "ghost": {"displayName": "Ghost"},
}


@pytest.fixture
def organization(db: None, settings: Any) -> Organization:
    settings.AUM_OUTGOING_ALLOWLIST = ["localhost"]
    return Organization.objects.create(slug="acme", name="Acme", org_id="acme-1", api_url="http://127.0.0.1:1")


@pytest.fixture
def owner(organization: Organization, operators: Callable[..., Operator]) -> Operator:
    return operators(organization, "owner@example.com", Role.OWNER)


@pytest.fixture(scope="module")
def idp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProviderServer]:
    metadata = Client().get(reverse("saml_metadata", args=["sso"])).content.decode()
    with running(USERS, Path(tmp_path_factory.mktemp("idp")), metadata) as provider:
        yield provider


@pytest.fixture
def provider(idp: IdentityProviderServer, organization: Organization, owner: Operator) -> IdentityProvider:
    idp.options = {}
    set_group_roles(
        organization=organization, pairs=[("aum-desk", "helpdesk"), ("aum-admins", "admin")], actor=Actor.system()
    )
    return save_provider(values=values(idp), operator=owner, actor=Actor.operator(owner))


def values(idp: IdentityProviderServer, **changes: Any) -> ProviderInput:
    return ProviderInput(**{"name": "Example ID", "protocol": "saml", "metadata_url": f"{idp.url}/metadata", **changes})


def begin(client: Client, following: str = "/o/acme/") -> str:
    """Our link: the address at the provider that the browser is sent to."""
    return str(client.get(reverse("saml_login", args=["sso"]), {"next": following})["Location"])


def end(client: Client, response: str) -> Any:
    """The provider's page posts to us; the browser follows."""
    posted = client.post(reverse("saml_acs", args=["sso"]), {"SAMLResponse": response})
    return client.get(posted["Location"]) if posted.status_code == 302 else posted


def come_in(idp: IdentityProviderServer, user: str, client: Client | None = None, **options: Any) -> tuple[Client, Any]:
    client, idp.options = client or Client(), options
    _address, response = idp.answer(request_of(begin(client)), user)
    return client, end(client, response)


def test_a_new_person_gets_the_roles_of_their_groups_at_each_sign_in(
    idp: IdentityProviderServer, provider: IdentityProvider
) -> None:
    client, answer = come_in(idp, "tansy")
    first = set(Grant.objects.filter(operator__email="tansy@example.com").values_list("role", flat=True))
    GroupRole.objects.filter(group="aum-desk").update(role="viewer")
    come_in(idp, "tansy")
    tansy = Operator.objects.get(email="tansy@example.com")

    assert answer["Location"] == "/o/acme/", answer.content
    assert client.get("/o/acme/").status_code == 200
    assert first == {Role.HELPDESK}
    assert set(Grant.objects.filter(operator=tansy).values_list("role", flat=True)) == {Role.VIEWER}
    assert (tansy.name, tansy.has_usable_password()) == ("Tansy Tern", False)
    assert 'href="/sso/saml/sso/login/' in Client().get("/login/").content.decode()


@pytest.mark.parametrize(
    "options",
    [
        {"foreign_key": True},
        {"sign_assertion": False},
        {"sign_alg": SIG_RSA_SHA1},
        {"audience": "https://other.example/metadata"},
    ],
    ids=["signed with another key", "not signed", "signed with SHA-1", "meant for another service"],
)
def test_what_is_not_vouched_for_opens_nothing(
    options: dict[str, Any], idp: IdentityProviderServer, provider: IdentityProvider
) -> None:
    client, answer = come_in(idp, "owner", **options)

    assert answer.status_code == 403
    assert "does not accept the answer" in answer.content.decode()
    assert client.get("/me/").status_code == 302


def test_an_answer_counts_once_in_the_browser_that_asked_and_unchanged(
    idp: IdentityProviderServer, provider: IdentityProvider
) -> None:
    client, thief = Client(), Client()
    request = request_of(begin(client))
    _address, response = idp.answer(request, "owner")

    begin(thief)
    stolen = end(thief, response)
    first = end(client, response)
    client.logout()
    again = end(client, response)
    changed = end(Client(), response[:400] + ("A" if response[400] != "A" else "B") + response[401:])
    rubbish = end(Client(), "no answer at all")

    assert first.status_code == 302
    assert [answer.status_code for answer in (stolen, again, changed, rubbish)] == [403] * 4
    assert thief.get("/me/").status_code == 302
    assert Client().get(reverse("saml_finish_acs", args=["sso"])).status_code == 403
    assert Client().post(reverse("saml_acs", args=["sso"]), {"SAMLResponse": "x" * 600_000}).status_code == 403


def test_somebody_without_a_role_or_without_a_name_is_told_so(
    idp: IdentityProviderServer, provider: IdentityProvider
) -> None:
    _client, refused = come_in(idp, "nobody")
    _client, nameless = come_in(idp, "ghost", transient=True)
    _client, passing = come_in(idp, "tansy", transient=True)
    come_in(idp, "tansy", transient=True)

    assert "None of your groups has a role here" in refused.content.decode()
    assert "names nobody" in nameless.content.decode()
    assert passing.status_code == 302
    assert SocialAccount.objects.get(user__email="tansy@example.com").uid == "tansy@example.com"


def test_with_passwords_off_only_the_sealed_way_in_is_open(
    idp: IdentityProviderServer,
    provider: IdentityProvider,
    owner: Operator,
    organization: Organization,
    operators: Callable[..., Any],
) -> None:
    operators(organization, "viewer@example.com", Role.VIEWER)
    save_provider(
        values=values(idp, is_password_off=True, break_glass_id=owner.pk), operator=owner, actor=Actor.system()
    )

    def by_password(email: str) -> int:
        return Client().post(reverse("account_login"), {"login": email, "password": PASSWORD}).status_code

    assert (by_password("viewer@example.com"), by_password("owner@example.com")) == (422, 302)
    assert Alert.objects.of(organization).get().kind == "break_glass"
    assert come_in(idp, "tansy")[1].status_code == 302


def test_metadata_is_read_through_the_guard_and_wrong_one_is_named(
    idp: IdentityProviderServer, owner: Operator, settings: Any
) -> None:
    def faults(**changes: Any) -> dict[str, list[str]]:
        with pytest.raises(InvalidInput) as caught:
            save_provider(values=values(idp, **changes), operator=owner, actor=Actor.system())
        return caught.value.fields

    assert set(faults(metadata_url="")) == {"metadata_url"}
    assert set(faults(protocol="ldap")) == {"protocol"}
    assert set(faults(metadata_url="http://localhost:1/")) == {"metadata_url"}
    settings.AUM_OUTGOING_ALLOWLIST = []
    assert "address inside a network" in faults()["metadata_url"][0]


def test_metadata_is_read_again_after_a_day_and_what_was_read_last_stays_when_that_fails(
    idp: IdentityProviderServer, provider: IdentityProvider
) -> None:
    read_at = provider.metadata_read_at
    assert read_at is not None
    IdentityProvider.objects.update(
        metadata_read_at=read_at - FRESH * 2, metadata={"sso_url": "http://old/", "certificates": ["x"]}
    )
    begin(Client())
    renewed = IdentityProvider.objects.get()
    IdentityProvider.objects.update(metadata_read_at=read_at - FRESH * 2, metadata_url="http://localhost:1/")
    _client, answer = come_in(idp, "owner")

    assert renewed.metadata == provider.metadata
    assert answer.status_code == 302


def test_another_provider_does_not_inherit_the_names_of_the_one_before(
    idp: IdentityProviderServer, provider: IdentityProvider, owner: Operator
) -> None:
    come_in(idp, "tansy")
    IdentityProvider.objects.update(issuer="https://before.example")

    save_provider(values=values(idp), operator=owner, actor=Actor.system())

    assert not SocialAccount.objects.exists()
    assert sum(rotate() for rotate in rotators) == 0


def test_somebody_without_a_password_proves_it_by_the_provider(
    idp: IdentityProviderServer, provider: IdentityProvider, settings: Any
) -> None:
    GroupRole.objects.filter(group="aum-desk").update(role="admin")
    client, _answer = come_in(idp, "tansy")
    settings.AUM_REAUTHENTICATE_MINUTES = 0
    url = reverse("operators:tokens", args=["acme"])
    asked = client.post(url, {"name": "n", "scopes": ["read"], "expires_on": "2999-01-01"})
    settings.AUM_REAUTHENTICATE_MINUTES = 15
    away = client.get(asked["Location"])
    done = end(client, idp.answer(request_of(away["Location"]), "tansy")[1])

    assert asked["Location"].startswith("/sso/saml/sso/login/")
    assert done.status_code == 302
    assert client.get(url).status_code == 200


def test_without_it_the_addresses_do_not_exist_but_our_metadata_does(organization: Organization) -> None:
    statuses = [Client().get(reverse(name, args=["sso"])).status_code for name in ("saml_login", "saml_finish_acs")]

    assert statuses == [404, 404]
    assert Client().post(reverse("saml_acs", args=["sso"]), {"SAMLResponse": "x"}).status_code == 404
    assert b"AssertionConsumerService" in Client().get(reverse("saml_metadata", args=["sso"])).content
