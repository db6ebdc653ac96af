from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from apps.operators.models import Grant, Operator, Role
from apps.operators.services import make_first_owner_link
from apps.organizations.models import Organization
from apps.sandbox.server import Sandbox
from apps.users.models import SyncRun

PASSWORD = "correct horse battery"


@pytest.fixture
def owner_client(db: None) -> Client:
    """Signed in as the first owner, through the page of the link."""
    client = Client()
    client.post(
        reverse("setup-owner", args=[make_first_owner_link()]),
        {"name": "Juniper", "email": "juniper@example.com", "password": PASSWORD},
    )
    return client


@pytest.fixture
def demo(settings: Settings, tmp_path: Path, sandbox: Sandbox) -> Sandbox:
    """A demo server that is up."""
    settings.AUM_DEMO_API_URL = sandbox.url
    settings.AUM_DATA_DIR = tmp_path
    return sandbox


@pytest.fixture
def atlassian(settings: Settings, sandbox: Sandbox) -> Sandbox:
    """The sandbox in the place of api.atlassian.com."""
    settings.ATLASSIAN_API_URL = sandbox.url
    return sandbox


def _values(sandbox: Sandbox, **changes: str) -> dict[str, str]:
    known = sandbox.credentials
    return {
        "name": "Acme",
        "email": known.email,
        "api_token": known.api_token,
        "api_key": known.api_key,
        "org_id": known.org_id,
        "site_url": sandbox.url,
        "approver": "second",
        **changes,
    }


def test_home_leads_to_the_link_then_to_set_up_then_to_sign_in(db: None, owner_client: Client) -> None:
    assert owner_client.get("/")["Location"] == "/setup/"
    assert Client().get("/")["Location"] == "/login/"


def test_home_explains_the_link_while_nobody_has_an_account(db: None) -> None:
    page = Client().get("/")

    assert "AUM is not set up yet" in page.content.decode()


def test_first_owner_form_names_what_is_wrong_and_keeps_the_link(db: None) -> None:
    url = reverse("setup-owner", args=[make_first_owner_link()])

    refused = Client().post(url, {"name": "J", "email": "j@example.com", "password": "short"})
    accepted = Client().post(url, {"name": "J", "email": "j@example.com", "password": PASSWORD})

    assert refused.status_code == 422
    assert "at least 12 characters" in refused.content.decode()
    assert accepted["Location"] == "/setup/"


def test_a_used_link_explains_itself(owner_client: Client) -> None:
    page = owner_client.get(reverse("setup-owner", args=["spent"]))

    assert page.status_code == 404
    assert "was used or has expired" in page.content.decode()


def test_demo_is_connected_synced_and_owned(owner_client: Client, demo: Sandbox) -> None:
    answer = owner_client.post(reverse("setup-demo"), {"approver": "one"})

    organization = Organization.objects.get()
    assert answer["Location"] == reverse("dashboard:first-sync", args=[organization.slug])
    assert organization.is_demo
    assert organization.is_one_operator
    assert Grant.objects.get().role == Role.OWNER
    assert Grant.objects.get().is_founding
    assert SyncRun.objects.of(organization).count() == 1
    assert (owner_client.get(answer["Location"])).status_code == 200
    assert "One-operator mode." in owner_client.get(f"/o/{organization.slug}/").content.decode()


def test_demo_that_is_still_starting_is_waited_for(owner_client: Client, settings: Settings, tmp_path: Path) -> None:
    settings.AUM_DEMO_API_URL = "http://127.0.0.1:9"
    settings.AUM_DATA_DIR = tmp_path

    page = owner_client.post(reverse("setup-demo"), {"approver": "second"})
    fragment = owner_client.post(reverse("setup-demo"), {"tries": "1"}, headers={"HX-Request": "true"})
    late = owner_client.post(reverse("setup-demo"), {"tries": "61"}, headers={"HX-Request": "true"})

    assert "Starting…" in page.content.decode()
    assert "<html" in page.content.decode()
    assert "load delay:1s" in fragment.content.decode()
    assert "<html" not in fragment.content.decode()
    assert "has not answered for a minute" in late.content.decode()
    assert (tmp_path / "run" / "demo-wanted").exists()
    assert not Organization.objects.exists()


def test_demo_pressed_twice_leads_to_the_one_that_is_there(owner_client: Client, demo: Sandbox) -> None:
    owner_client.post(reverse("setup-demo"))

    again = owner_client.post(reverse("setup-demo"))

    assert again["Location"] == "/o/demo/"
    assert Organization.objects.count() == 1


def test_installation_without_a_demo_says_so(owner_client: Client, settings: Settings) -> None:
    settings.AUM_DEMO_API_URL = ""

    chosen = owner_client.get("/setup/")
    asked = owner_client.post(reverse("setup-demo"))

    assert "This installation has no demo" in chosen.content.decode()
    assert "This installation has no demo" in asked.content.decode()


def test_connecting_with_good_values_saves_and_syncs(owner_client: Client, atlassian: Sandbox) -> None:
    answer = owner_client.post(reverse("setup-connect"), _values(atlassian))

    organization = Organization.objects.get()
    assert answer["Location"] == reverse("dashboard:first-sync", args=[organization.slug])
    assert organization.name == "Acme"
    assert not organization.is_one_operator


def test_refused_values_are_named_and_kept_but_secrets_are_not(owner_client: Client, atlassian: Sandbox) -> None:
    page = owner_client.post(reverse("setup-connect"), _values(atlassian, api_key="wrong-key-1234"))

    text = page.content.decode()
    assert page.status_code == 422
    assert 'aria-describedby="id_api_key_error' in text
    assert "does not accept this API key" in text
    assert f'value="{atlassian.credentials.org_id}"' in text
    assert "wrong-key-1234" not in text
    assert atlassian.credentials.api_token not in text
    assert not Organization.objects.exists()


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("email", "nobody", "valid email"),
        ("org_id", "a/b", "part after /o/"),
        ("site_url", "https://evil.example", ""),
        ("api_key", "", "required"),
    ],
)
def test_malformed_values_are_refused_at_their_field(
    owner_client: Client, atlassian: Sandbox, field: str, value: str, sentence: str
) -> None:
    page = owner_client.post(reverse("setup-connect"), _values(atlassian, **{field: value}))

    text = page.content.decode()
    assert page.status_code == 422
    assert f'id="id_{field}_error"' in text
    assert sentence in text


def test_a_person_without_a_role_is_sent_to_an_owner(
    owner_client: Client, demo: Sandbox, operators: Callable[..., Operator]
) -> None:
    owner_client.post(reverse("setup-demo"))
    client = Client()
    client.force_login(Operator.objects.create_user("new@example.com", PASSWORD))

    pages = [client.get("/setup/"), client.post(reverse("setup-demo")), client.get(reverse("setup-connect"))]

    assert {page.status_code for page in pages} == {403}
    assert "Ask an owner" in pages[0].content.decode()
    assert Organization.objects.count() == 1


def test_first_rule_suggests_the_largest_finding(synced: Organization, client_of: Callable[..., Client]) -> None:
    page = client_of(synced, Role.OWNER).get(reverse("dashboard:first-rule", args=[synced.slug]))

    text = page.content.decode()
    assert "Create this rule in Safe mode" in text
    assert reverse("rules:new", args=[synced.slug]) + "?action=" in text


def test_first_link_prints_an_address_once_and_nothing_later(
    db: None, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.AUM_BASE_URL = "http://aum.example"

    call_command("first_link")
    printed = capsys.readouterr().out.strip()
    Operator.objects.create_user("j@example.com", PASSWORD)
    call_command("first_link")

    assert printed.startswith("http://aum.example/setup/")
    assert capsys.readouterr().out == ""


def test_check_instance_stops_a_copy(
    db: None, settings: Settings, capsys: pytest.CaptureFixture[str], demo: Sandbox, owner_client: Client
) -> None:
    owner_client.post(reverse("setup-demo"))
    call_command("check_instance")
    settings.AUM_INSTANCE_ID = "another"

    call_command("check_instance")

    assert "belongs to another installation" in capsys.readouterr().err
    assert Organization.objects.get().is_killed
    assert "belongs to another installation" in owner_client.get("/o/demo/").content.decode()
