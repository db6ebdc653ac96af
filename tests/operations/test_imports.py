"""Import users, from the upload to the plan, by its pages."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.operations.models import Operation, OperationItem
from apps.operations.services import run_planning
from apps.operators.models import Operator
from apps.organizations.models import Credential, Directory, Organization
from apps.users.models import DirectoryMembership, Group, ImportFile, MembershipStatus
from apps.users.tasks import read_import
from tests.users.conftest import make_account

BASE = "/o/acme/imports/"


@pytest.fixture
def organization(db: None) -> Organization:
    """Connected in name only, with three members of one directory, the last one protected."""
    now = timezone.now()
    organization = Organization.objects.create(slug="acme", name="Acme", org_id="acme", api_url="http://127.0.0.1:1")
    for kind in Credential.Kind.values:
        Credential.objects.create(
            organization=organization, kind=kind, reference="env:NOTHING", set_at=now, set_by="test"
        )
    directory = Directory.objects.create(organization=organization, directory_id="main", name="Main", seen_at=now)
    for number in range(3):
        account = make_account(organization, email=f"p{number}@x.org", is_org_admin=number == 2, products=1)
        DirectoryMembership.objects.create(
            organization=organization, account=account, directory=directory, status=MembershipStatus.ACTIVE
        )
    return organization


@pytest.fixture
def helper(organization: Organization, operators: Callable[..., Operator], client: Client) -> Client:
    client.force_login(operators(organization, "helper@aum.example", "helpdesk"))
    return client


def post_file(client: Client, content: bytes, name: str = "leavers.csv") -> Any:
    return client.post(BASE, {"file": SimpleUploadedFile(name, content, content_type="text/csv")})


def checked(client: Client, content: bytes) -> ImportFile:
    assert post_file(client, content).status_code == 302
    file = ImportFile.objects.latest("pk")
    read_import(file.pk)
    file.refresh_from_db()
    assert client.post(f"{BASE}{file.pk}/map/", file.mapping).status_code == 302
    file.refresh_from_db()
    assert file.status == "checked"
    return file


LINES = b"email,name\np0@x.org,A\np1@x.org,=1+1\np2@x.org,C\nwho@x.org,=cmd()\nP0@x.org,\n"


def test_file_becomes_a_plan_of_the_kind_bulk_csv_action(helper: Client) -> None:
    file = checked(helper, LINES)

    answer = helper.post(f"{BASE}{file.pk}/act/", {"action": "suspend"})

    operation = Operation.objects.get()
    assert answer["Location"] == f"/o/acme/runs/{operation.number}/"
    assert (operation.kind, operation.mode, operation.name) == ("bulk_csv_action", "safe", "leavers.csv")
    run_planning(operation.pk)
    operation.refresh_from_db()
    assert operation.status == "previewed"
    assert OperationItem.objects.filter(operation=operation).count() == 2
    assert operation.left_out == {"protected": 1}
    assert helper.get(answer["Location"]).status_code == 200


def test_people_are_put_into_a_group_from_a_file(helper: Client, organization: Organization) -> None:
    directory = Directory.objects.get()
    group = Group.objects.create(
        organization=organization, directory=directory, group_id="g", name="Team", are_grants_known=True
    )
    file = checked(helper, LINES)

    refused = helper.post(f"{BASE}{file.pk}/act/", {"action": "add_to_group"})
    assert refused.status_code == 422
    assert "Choose at least one group." in refused.text
    helper.post(f"{BASE}{file.pk}/act/", {"action": "add_to_group", "groups": [group.pk]})

    operation = Operation.objects.get()
    run_planning(operation.pk)
    assert OperationItem.objects.filter(operation=operation, action="add_to_group").count() == 3
    assert "Team" in helper.get(BASE + "_groups?group_search=tea").text
    assert "Team" not in helper.get(BASE + "_groups?group_search=zzz").text


def test_chosen_lines_alone_are_planned(helper: Client) -> None:
    file = checked(helper, LINES)
    page = helper.get(f"{BASE}{file.pk}/people/").text
    assert 'value="2" aria-label="Select line 2' in page
    assert 'value="5"' not in page

    none = helper.post(f"{BASE}{file.pk}/act/", {"people": "1", "action": "suspend"})
    assert none.status_code == 422
    assert "Select at least one line." in none.text
    helper.post(f"{BASE}{file.pk}/act/", {"people": "1", "action": "suspend", "lines": ["2"]})

    operation = Operation.objects.get()
    run_planning(operation.pk)
    assert OperationItem.objects.filter(operation=operation).count() == 1


def test_all_that_match_the_filter_are_planned(helper: Client) -> None:
    file = checked(helper, LINES)

    helper.post(f"{BASE}{file.pk}/act/", {"people": "1", "action": "suspend", "all": "1", "search": "p1@"})

    operation = Operation.objects.get()
    run_planning(operation.pk)
    assert OperationItem.objects.filter(operation=operation).count() == 1


def test_wrong_lines_are_downloaded_with_reason_and_without_formulas(helper: Client) -> None:
    file = checked(helper, LINES)

    body = b"".join(helper.get(f"{BASE}{file.pk}/wrong-lines/")).decode("utf-8-sig")

    rows = list(csv.reader(io.StringIO(body)))
    assert rows[0] == ["line", "column", "reason", "email", "name"]
    assert rows[1] == ["5", "email", "No such user in the directory", "who@x.org", "'=cmd()"]
    assert rows[2][0] == "6"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.xlsx", b"PK", "Only CSV files can be read."),
        ("a.csv", b" ", "The file is empty."),
        ("a.csv", b"a\x00b", "binary data"),
        ("a.csv", b"\xff\xfa\xfb", "not text in UTF-8"),
    ],
)
def test_wrong_files_are_refused_with_a_sentence(helper: Client, name: str, content: bytes, said: str) -> None:
    answer = post_file(helper, content, name)

    assert answer.status_code == 422
    assert said in answer.text
    assert not ImportFile.objects.exists()


def test_nothing_chosen_is_refused(helper: Client) -> None:
    assert "Choose a file." in helper.post(BASE).text


def test_steps_show_what_the_file_has_reached(helper: Client) -> None:
    post_file(helper, LINES)
    file = ImportFile.objects.get()
    page = f"{BASE}{file.pk}/"
    assert "waits to be read" in helper.get(page).text
    assert "waits to be read" in helper.get(page + "_progress").text
    assert helper.get(page + "people/").status_code == 302
    assert helper.post(page + "act/", {"action": "suspend"}).status_code == 302
    assert helper.post(page + "map/", {"email": "0"}).status_code == 302

    read_import(file.pk)

    assert helper.get(page + "_progress")["HX-Refresh"] == "true"
    assert "p0@x.org · p1@x.org · p2@x.org" in helper.get(page).text
    refused = helper.post(page + "map/", {"name": "1"})
    assert refused.status_code == 422
    assert "Say which column" in refused.text
    helper.post(page + "map/", {"email": "0"})
    assert "Lines that are passed over" in helper.get(page).text
    assert "Check the file" in helper.get(page + "?step=map").text
    assert "leavers.csv" in helper.get(BASE).text


def test_file_that_cannot_be_read_says_why(helper: Client) -> None:
    post_file(helper, b"email\n")
    file = ImportFile.objects.get()
    read_import(file.pk)

    assert "The file has headings and no rows." in helper.get(f"{BASE}{file.pk}/").text


def test_samples_can_be_downloaded_and_read(helper: Client) -> None:
    answer = helper.get(BASE + "samples/suspend-list/")

    assert answer.content.startswith("\ufeffAccount id".encode())
    assert helper.get(BASE + "samples/other/").status_code == 404


def test_number_of_queries_does_not_grow_with_the_file(helper: Client, organization: Organization) -> None:
    small = checked(helper, LINES)
    for number in range(40):
        make_account(organization, email=f"m{number}@x.org")
    large = checked(helper, b"email,name\n" + b"".join(b"m%d@x.org,M\n" % number for number in range(60)))

    for path in ("", "people/", "?step=map"):
        counts = []
        for file in (small, large):
            helper.get(f"{BASE}{file.pk}/{path}")
            with CaptureQueriesContext(
                connection,
            ) as found:
                helper.get(f"{BASE}{file.pk}/{path}")
            counts.append(len(found))
        assert counts[0] == counts[1], path


def test_other_organisations_and_viewers_see_nothing_of_it(
    helper: Client, organization: Organization, operators: Callable[..., Operator]
) -> None:
    file = checked(helper, LINES)
    other = Organization.objects.create(slug="other", name="Other", org_id="other", api_url="http://127.0.0.1:1")
    stranger, viewer = Client(), Client()
    stranger.force_login(operators(other, "stranger@aum.example", "owner"))
    viewer.force_login(operators(organization, "viewer@aum.example", "viewer"))

    for path in ("", "people/", "wrong-lines/", "_progress"):
        assert stranger.get(f"/o/other/imports/{file.pk}/{path}").status_code == 404
        assert viewer.get(f"{BASE}{file.pk}/{path}").status_code == 403
    assert stranger.post(f"/o/other/imports/{file.pk}/act/", {"action": "suspend"}).status_code == 404
    assert viewer.post(f"{BASE}{file.pk}/act/", {"action": "suspend"}).status_code == 403
    assert not Operation.objects.exists()


def test_dashboard_leads_here_those_who_may_act(
    helper: Client, organization: Organization, operators: Callable[..., Operator]
) -> None:
    assert BASE in helper.get("/o/acme/").text

    helper.force_login(operators(organization, "viewer@aum.example", "viewer"))
    assert BASE not in helper.get("/o/acme/").text
