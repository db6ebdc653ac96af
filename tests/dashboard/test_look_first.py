"""The pages of looking first: an export at set-up, a newer one, and the connection at last."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.organizations.services import create_from_file
from apps.sandbox.server import Sandbox
from apps.users.models import Account, SyncRun
from apps.users.services import run_sync
from tests.users.test_look_first import EXPORT, fill


def export(content: str = EXPORT, name: str = "export-users.csv") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content.encode(), "text/csv")


@pytest.fixture
def owner(db: None, client: Client) -> Client:
    operator = Operator.objects.create_user("ada@aum.example", "correct horse battery", name="Ada", is_staff=True)
    client.force_login(operator)
    return client


@pytest.fixture
def organization(db: None) -> Organization:
    return create_from_file(name="Example Ltd.", actor=Actor.system())


def test_export_at_set_up_becomes_an_organization(
    owner: Client, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    assert "Look first with an export file" in owner.get(reverse("setup")).text
    with django_capture_on_commit_callbacks():
        answer = owner.post(
            reverse("setup-look-first"),
            {
                "name": "Example Ltd.",
                "approver": "second",
                "file": export(),
                "domains": "example.com",
                "exported_on": "2026-11-02",
            },
        )

    organization = Organization.objects.get()
    assert answer["Location"] == reverse("dashboard:first-sync", args=[organization.slug])
    assert organization.is_from_file
    run = SyncRun.objects.get()
    assert (run.found["exported_on"], run.found["domains"]) == (date(2026, 11, 2).isoformat(), ["example.com"])
    assert "You can leave this page" in owner.get(answer["Location"]).text
    run_sync(run.pk)
    page = owner.get(organization.get_absolute_url()).text
    assert "Filled from an export file, not connected" in page
    assert "From an export file" in page
    assert "Upload a newer export" in page
    users = owner.get(reverse("users:list", args=[organization.slug])).text
    assert "From export-users.csv, exported 2026-11-02" in users
    assert "Not connected: the file has no newer date." in users
    person = Account.objects.get(name="Ada")
    assert "Export file" in owner.get(reverse("users:person", args=[organization.slug, person.pk])).text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"file": export("email\na@x.org\n")}, "no export of Atlassian"),
        ({"file": SimpleUploadedFile("a.csv", b"\x00\x01\x02PK")}, "not a CSV file"),
        ({"domains": "nonsense"}, "is not a domain"),
        ({"exported_on": "2999-01-01"}, "still to come"),
        ({"name": ""}, "This field is required"),
    ],
)
def test_refused_export_leaves_nothing_behind(owner: Client, fields: dict[str, object], said: str) -> None:
    page = owner.post(
        reverse("setup-look-first"), {"name": "Example", "approver": "second", "file": export(), **fields}
    )

    assert page.status_code == 422
    assert said in page.text
    assert not Organization.objects.exists()


def test_file_that_is_too_large_is_told_at_its_field(owner: Client) -> None:
    assert "larger than 20 MB" in owner.get(reverse("setup-look-first"), {"too-large": "1"}).text


def test_who_owns_nothing_cannot_begin(organization: Organization, client: Client) -> None:
    client.force_login(Operator.objects.create_user("bo@aum.example", "correct horse battery", name="Bo"))

    assert client.get(reverse("setup-look-first")).status_code == 403


def test_newer_export_is_uploaded_and_refresh_leads_there(
    organization: Organization, operators: Callable[..., Operator], client: Client
) -> None:
    fill(organization, EXPORT, domains="example.com")
    client.force_login(operators(organization, "ann@aum.example", "owner"))
    address = reverse("dashboard:look-first", args=[organization.slug])

    assert client.post(reverse("dashboard:start-sync", args=[organization.slug]))["Location"] == address
    assert 'value="example.com"' in client.get(address).text
    answer = client.post(address, {"file": export(EXPORT.replace("Ada", "Adah"))})
    run_sync(SyncRun.objects.latest("pk").pk)

    assert answer["Location"] == organization.get_absolute_url()
    assert Account.objects.filter(name="Adah").exists()
    assert "A sync of this organisation" not in client.get(address).text


def test_pages_of_files_are_missing_where_a_connection_is(
    synced: Organization, client_of: Callable[..., Client]
) -> None:
    client = client_of("owner")

    for name in ("dashboard:look-first", "organizations:connect"):
        assert client.get(reverse(name, args=[synced.slug])).status_code == 404


def test_connecting_checks_the_values_and_reads_everything(
    organization: Organization,
    operators: Callable[..., Operator],
    client: Client,
    sandbox: Sandbox,
    settings: Settings,
) -> None:
    settings.ATLASSIAN_API_URL = sandbox.url
    client.force_login(operators(organization, "ann@aum.example", "owner"))
    known = sandbox.credentials
    values = {
        "email": known.email,
        "api_token": known.api_token,
        "api_key": "wrong",
        "org_id": known.org_id,
        "site_url": sandbox.url,
    }
    address = reverse("organizations:connect", args=[organization.slug])
    settings_page = client.get(reverse("organizations:connection", args=[organization.slug])).text

    refused = client.post(address, values)
    answer = client.post(address, {**values, "api_key": known.api_key})

    assert "Connect to Atlassian" in settings_page
    assert refused.status_code == 422
    assert "wrong" not in refused.text.replace("what is wrong", "")
    assert answer["Location"] == reverse("dashboard:first-sync", args=[organization.slug])
    organization.refresh_from_db()
    assert (organization.is_from_file, organization.org_id) == (False, known.org_id)
    assert SyncRun.objects.get().source == SyncRun.Source.API


def test_rest_makes_and_fills_an_organization(owner: Client) -> None:
    made = owner.post("/api/v1/organizations/", {"name": "Example", "is_from_file": True}, "application/json")
    slug = made.json()["slug"]
    sent = owner.post(f"/api/v1/organizations/{slug}/look-first/", {"file": export(), "exported_on": "2026-11-02"})
    run_sync(sent.json()["id"])
    state = owner.get(f"/api/v1/organizations/{slug}/sync/").json()
    again = owner.post(f"/api/v1/organizations/{slug}/sync/")
    plain = owner.post("/api/v1/organizations/", {"name": "Example"}, "application/json")

    assert made.status_code == 201
    assert (made.json()["connection"]["code"], made.json()["is_from_file"]) == ("from_file", True)
    assert sent.status_code == 202
    assert (state["status"], state["read_from"], state["people_seen"]) == ("succeeded", "file", 4)
    assert (again.status_code, again.json()["code"]) == (409, "organization_from_file")
    assert (plain.status_code, "api_key" in plain.json()["fields"]) == (400, True)
