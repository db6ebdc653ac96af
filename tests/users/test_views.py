"""Pages of people: what a role sees, what an address says, what a form does."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.users.models import (
    Account,
    AccountStatus,
    Activity,
    ClaimStatus,
    Exemption,
    MembershipStatus,
    ProductAccess,
    SyncRun,
)
from apps.users.services import set_exemption
from tests.users.conftest import make_account, make_group, plain_organization


@pytest.fixture
def sign_in(plain: Organization, operators: Callable[..., Operator]) -> Callable[..., Client]:
    """A browser in which somebody with these roles is signed in."""

    def make(*roles: str, of: Organization | None = None) -> Client:
        client = Client()
        client.force_login(operators(of or plain, f"{'-'.join(roles)}@aum.example", *roles))
        return client

    return make


@pytest.fixture
def synced(plain: Organization) -> SyncRun:
    now = timezone.now()
    return SyncRun.objects.create(
        organization=plain, status=SyncRun.Status.SUCCEEDED, is_trusted=True, started_at=now, finished_at=now
    )


def person(organization: Organization, **fields: Any) -> Account:
    """Somebody with Jira who was there ten days ago."""
    at = timezone.now() - timedelta(days=10)
    values: dict[str, Any] = {
        "products": 1,
        "jira_activity": Activity.KNOWN,
        "jira_last_active_at": at,
        "last_active_at": at,
        "is_activity_read": True,
    }
    account = make_account(organization, **(values | fields))
    ProductAccess.objects.create(
        organization=organization,
        account=account,
        product="jira",
        resource="ari:cloud:jira::site/1",
        activity=Activity.KNOWN,
        last_active_at=at,
    )
    return account


def test_stranger_gets_404_and_nobody_a_way_to_sign_in(plain: Organization, operators: Callable[..., Operator]) -> None:
    stranger = Client()
    stranger.force_login(operators(plain_organization("other"), "stranger@aum.example", "owner"))

    found = stranger.get("/o/plain/users/")

    assert found.status_code == 404
    assert Client().get("/o/plain/users/")["Location"].startswith("/login/")


@pytest.mark.parametrize(
    "path", ["users/{0}/", "users/{0}/exempt/", "users/{0}/runs/", "users/?user={0}", "exemptions/?who=Hidden"]
)
def test_person_of_another_organisation_cannot_be_reached(
    plain: Organization, sign_in: Callable[..., Client], path: str
) -> None:
    other = plain_organization("other")
    hidden = person(other, name="Hidden Person")

    answer = sign_in("owner").get("/o/plain/" + path.format(hidden.pk))

    assert b"Hidden Person" not in answer.content
    assert answer.status_code == (200 if "?" in path else 404)


def test_list_says_that_nothing_was_read_when_never_synced(plain: Organization, sign_in: Callable[..., Client]) -> None:
    page = sign_in("helpdesk").get("/o/plain/users/").content.decode()

    assert "No users have been read yet" in page
    assert "Start the first sync" in page


def test_list_says_that_a_sync_is_under_way(
    plain: Organization, synced: SyncRun, sign_in: Callable[..., Client]
) -> None:
    SyncRun.objects.create(organization=plain, status=SyncRun.Status.RUNNING, people_seen=40, people_total=90)

    page = sign_in("viewer").get("/o/plain/users/").content.decode()

    assert "40 of 90 users read" in page
    assert "every 5s" in page


def test_list_says_why_the_last_sync_failed(
    plain: Organization, synced: SyncRun, sign_in: Callable[..., Client]
) -> None:
    SyncRun.objects.create(
        organization=plain, status=SyncRun.Status.FAILED, error_detail="Key refused.", finished_at=timezone.now()
    )

    page = sign_in("viewer").get("/o/plain/users/").content.decode()

    assert "Key refused." in page


def test_filters_of_the_address_decide_who_is_shown(
    plain: Organization, synced: SyncRun, sign_in: Callable[..., Client]
) -> None:
    contractors = make_group(plain, "contractors")
    person(plain, name="Fern Fixture", group_ids=[contractors.pk], claim_status=ClaimStatus.UNMANAGED)
    person(plain, name="Rowan Example")

    page = (
        sign_in("viewer")
        .get(f"/o/plain/users/?g={contractors.pk}&group_op=any&claim_status=unmanaged")
        .content.decode()
    )

    assert "Fern Fixture" in page
    assert "Rowan Example" not in page
    assert "Member of contractors" in page
    assert "2 filters" in page


def test_group_operator_none_leaves_members_out(
    plain: Organization, synced: SyncRun, sign_in: Callable[..., Client]
) -> None:
    contractors = make_group(plain, "contractors")
    person(plain, name="Fern Fixture", group_ids=[contractors.pk])
    person(plain, name="Rowan Example")

    page = sign_in("viewer").get(f"/o/plain/users/?g={contractors.pk}&group_op=none").content.decode()

    assert "Rowan Example" in page
    assert "Fern Fixture" not in page


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("inactive_days=0", "Enter a whole number of days"),
        ("inactive_days=many", "Enter a whole number of days"),
        ("claim_status=nobody", "Choose managed"),
        ("ordering=shoe_size", "Sort by one of"),
        ("cursor=nonsense", "This page no longer exists"),
        ("limit=7", ""),
        ("user=no-number", ""),
        ("g=999999999999999999999&group_op=sometimes", ""),
    ],
)
def test_bad_values_in_the_address_are_named_and_break_nothing(
    plain: Organization, synced: SyncRun, sign_in: Callable[..., Client], query: str, sentence: str
) -> None:
    person(plain)

    answer = sign_in("viewer").get(f"/o/plain/users/?{query}")

    assert answer.status_code == 200
    assert sentence in answer.content.decode()


def test_no_match_names_the_filters(plain: Organization, synced: SyncRun, sign_in: Callable[..., Client]) -> None:
    page = sign_in("viewer").get("/o/plain/users/?search=zzz").content.decode()

    assert "No user matches" in page
    assert "Name or e-mail has “zzz”" in page


def test_names_with_markup_are_shown_as_text(
    plain: Organization, synced: SyncRun, sign_in: Callable[..., Client]
) -> None:
    person(plain, name="<b>Bold</b>")

    page = sign_in("viewer").get("/o/plain/users/").content.decode()

    assert "&lt;b&gt;Bold" in page
    assert "<b>Bold" not in page


def test_htmx_gets_the_part_that_it_names(plain: Organization, synced: SyncRun, sign_in: Callable[..., Client]) -> None:
    account = person(plain, name="Fern Fixture")
    client = sign_in("viewer")

    rows = client.get("/o/plain/users/?search=fern&kind=", headers={"HX-Request": "true", "HX-Target": "list"})
    panel = client.get(f"/o/plain/users/?user={account.pk}", headers={"HX-Request": "true", "HX-Target": "panel"})

    assert b"<html" not in rows.content
    assert b'hx-swap-oob="true"' in rows.content
    assert rows["HX-Push-Url"] == "/o/plain/users/?search=fern"
    assert "HX-Target" in rows["Vary"]
    assert panel.content.strip().startswith(b"<aside")
    assert b"Fern Fixture" in panel.content


def test_menu_lines_that_cannot_apply_say_why(
    plain: Organization, synced: SyncRun, sign_in: Callable[..., Client]
) -> None:
    person(plain, name="Out Sider", claim_status=ClaimStatus.UNMANAGED, is_org_admin=True)
    person(plain, name="Paused Person", membership_status=MembershipStatus.SUSPENDED)

    page = sign_in("helpdesk").get("/o/plain/users/").content.decode()

    assert "Only managed accounts can be deactivated and activated." in page
    assert "Protected: no action that takes access is possible." in page
    assert "Restore user" in page


def test_every_action_on_a_person_stands_in_the_menu_with_its_reason(
    plain: Organization, synced: SyncRun, sign_in: Callable[..., Client]
) -> None:
    managed = person(plain, name="Managed Person")
    external = person(plain, name="Out Sider", claim_status=ClaimStatus.UNMANAGED)
    deleted = person(plain, name="Leaving Person", account_status=AccountStatus.INACTIVE, is_for_deletion=True)

    client = sign_in("admin")
    pages = {
        account.pk: client.get(f"/o/plain/users/{account.pk}/").content.decode()
        for account in (managed, external, deleted)
    }

    for words in ("Add to groups…", "Remove from groups…", "Suspend in products…", "Remove from directory…"):
        assert all(words in page for page in pages.values())
    assert "A managed account: delete it instead." in pages[managed.pk]
    assert "In no group." in pages[managed.pk]
    assert "Only managed accounts can be deleted. Remove the user from the directory." in pages[external.pk]
    assert f'value="cancel_delete:{deleted.pk}"' in pages[deleted.pk]


def test_bulk_bar_offers_user_and_group_actions_with_none_first(
    plain: Organization, synced: SyncRun, sign_in: Callable[..., Client]
) -> None:
    person(plain)

    page = sign_in("admin").get("/o/plain/users/").content.decode()

    assert page.count('<option value="">None</option>') == 2
    for value in ("deactivate", "suspend", "activate", "restore", "delete", "remove_from_directory", "add_to_group"):
        assert f'<option value="{value}">' in page


def test_viewer_selects_for_export_only_and_reads_why(
    plain: Organization, synced: SyncRun, sign_in: Callable[..., Client]
) -> None:
    account = person(plain)

    page = sign_in("viewer").get("/o/plain/users/").content.decode()

    assert 'name="action"' not in page
    assert "data-export-picked" in page
    assert "Your role may not change users." in page
    assert sign_in("approver").post(f"/o/plain/users/{account.pk}/exempt/", {"reason": "x"}).status_code == 403
    assert sign_in("viewer", "approver").post(f"/o/plain/users/{account.pk}/refresh/").status_code == 403


@pytest.mark.parametrize("path", ["users/", "exemptions/"])
def test_lists_ask_the_same_number_of_questions_for_2_and_20(
    plain: Organization,
    synced: SyncRun,
    sign_in: Callable[..., Client],
    path: str,
) -> None:
    group = make_group(plain, "jira-users")

    def add(count: int) -> None:
        for _ in range(count):
            account = person(plain, group_ids=[group.pk])
            set_exemption(organization=plain, account=account, reason="leave", until=None, actor=Actor.system())

    client = sign_in("owner")
    add(2)
    client.get(f"/o/plain/{path}")
    with CaptureQueriesContext(connection) as few:
        client.get(f"/o/plain/{path}")
    add(18)
    client.get(f"/o/plain/{path}")
    with CaptureQueriesContext(connection) as many:
        client.get(f"/o/plain/{path}")

    assert len(many) == len(few)


def test_export_holds_the_filtered_people_safely_and_is_logged(
    plain: Organization, synced: SyncRun, sign_in: Callable[..., Client]
) -> None:
    person(plain, name="=1+1", email="formula@example.com")
    person(plain, name="Rowan Example")

    answer = sign_in("viewer").get("/o/plain/users/export/?search=formula")
    rows = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode("utf-8-sig"))))  # type: ignore[arg-type]

    assert [row["name"] for row in rows] == ["'=1+1"]
    assert rows[0]["activity"] == "known"
    assert AuditEvent.objects.get(action="users.exported").after == {"filters": "search=formula", "format": "csv"}


def test_person_page_shows_access_activity_exemptions_and_what_happened(
    plain: Organization, synced: SyncRun, sign_in: Callable[..., Client]
) -> None:
    account = person(plain, name="Fern Fixture", is_site_admin=True)
    set_exemption(organization=plain, account=account, reason="Parental leave", until=None, actor=Actor.system())

    page = sign_in("viewer").get(f"/o/plain/users/{account.pk}/").content.decode()

    assert "Administers a site." in page
    assert "not known: no group gives it and direct roles were not read" in page
    assert "Parental leave" in page
    assert "Exempted" in page


def test_exempting_needs_a_reason_and_then_shows_in_the_list(
    plain: Organization, synced: SyncRun, sign_in: Callable[..., Client]
) -> None:
    account = person(plain, name="Fern Fixture")
    client = sign_in("owner")

    refused = client.post(f"/o/plain/users/{account.pk}/exempt/", {"reason": " ", "until": "always"})
    done = client.post(f"/o/plain/users/{account.pk}/exempt/", {"reason": "Parental leave", "until": "always"})
    page = client.get("/o/plain/exemptions/").content.decode()

    assert refused.status_code == 422
    assert b"Give a reason." in refused.content
    assert done.status_code == 302
    assert "Parental leave" in page
    assert "always" in page
    assert AuditEvent.objects.filter(action="exemption.set").count() == 1


@pytest.mark.parametrize("day", ["", "yesterday", "2001-01-31", "2026-02-30"])
def test_exemption_until_an_impossible_day_is_refused(
    plain: Organization, synced: SyncRun, sign_in: Callable[..., Client], day: str
) -> None:
    account = person(plain)

    answer = sign_in("helpdesk").post(
        f"/o/plain/users/{account.pk}/exempt/", {"reason": "leave", "until": "date", "until_date": day}
    )

    assert answer.status_code == 422
    assert not Exemption.objects.exists()


def test_ending_an_exemption_moves_it_to_the_ended_ones(
    plain: Organization, synced: SyncRun, sign_in: Callable[..., Client]
) -> None:
    account = person(plain, name="Fern Fixture")
    exemption = set_exemption(organization=plain, account=account, reason="leave", until=None, actor=Actor.system())
    client = sign_in("admin")

    answer = client.post(f"/o/plain/exemptions/{exemption.pk}/end/", {"next": "//evil.example/"})

    assert answer["Location"] == "/o/plain/exemptions/"
    assert "Nobody is exempt" in client.get("/o/plain/exemptions/").content.decode()
    assert "Fern Fixture" in client.get("/o/plain/exemptions/?view=ended").content.decode()


def test_exemption_of_another_organisation_cannot_be_ended(plain: Organization, sign_in: Callable[..., Client]) -> None:
    other = plain_organization("other")
    exemption = set_exemption(
        organization=other, account=person(other), reason="leave", until=None, actor=Actor.system()
    )

    answer = sign_in("owner").post(f"/o/plain/exemptions/{exemption.pk}/end/")

    assert answer.status_code == 404
    exemption.refresh_from_db()
    assert exemption.ended_at is None


def test_fetch_last_login_reads_the_person_and_says_so(
    organization: Organization, sync: Callable[[], SyncRun], operators: Callable[..., Operator]
) -> None:
    sync()
    account = Account.objects.of(organization).filter(vanished_at=None).order_by("pk")[5]
    client = Client()
    client.force_login(operators(organization, "help@aum.example", "helpdesk"))

    answer = client.post(f"/o/acme/users/{account.pk}/refresh/", {"next": "/o/acme/users/?search=x"}, follow=True)

    assert answer.redirect_chain[-1][0] == "/o/acme/users/?search=x"
    assert "from Atlassian" in answer.content.decode()
    assert AuditEvent.objects.filter(action="account.refreshed").exists()


def test_fetch_last_login_tells_that_atlassian_cannot_be_reached(
    plain: Organization, synced: SyncRun, sign_in: Callable[..., Client]
) -> None:
    account = person(plain)

    answer = sign_in("helpdesk").post(f"/o/plain/users/{account.pk}/refresh/", follow=True)

    assert "This organisation has no credentials yet." in answer.content.decode()
