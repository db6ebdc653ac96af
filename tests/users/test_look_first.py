"""Look first: an organisation that an uploaded export fills, without credentials, and what becomes of it later."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.operations.models import Operation
from apps.operations.selection import AccountsSelection, ActionSpec
from apps.operations.services import plan_operation
from apps.operations.services.plans import apply_preview, run_planning
from apps.organizations.models import Directory, Organization
from apps.organizations.selectors import connection_state
from apps.organizations.services import (
    ConnectionInput,
    ConnectionRefused,
    FromFileOnly,
    connect_file_organization,
    create_from_file,
    delete_demo,
)
from apps.sandbox.server import Sandbox
from apps.users.models import (
    Account,
    AccountStatus,
    Activity,
    ClaimStatus,
    Group,
    ImportFile,
    MembershipStatus,
    ProductAccess,
    ProtectedGroup,
    SyncRun,
)
from apps.users.predicates import Context, Partition, partition_case
from apps.users.selectors import dashboard_counts, data_trust
from apps.users.services import (
    NotFromFile,
    fill_from_file,
    protect_group,
    request_sync,
    run_sync,
    sweep_syncs,
    sync_file,
)
from apps.users.services.imports import remove_old_imports
from apps.users.services.people import refresh_person
from apps.users.services.sync_file import FileReading
from aum.common.errors import InvalidInput
from tests.users.conftest import SYSTEM, plain_organization

EXAMPLES = Path(__file__).parents[2].parent / "shared" / "atlassian" / "examples" / "csv"
HEAD = (
    "User id,User name,email,User status,Added to org,Org role,Group membership,Jira - example,Confluence - example,"
    "Last seen in Jira - example,Last seen in Confluence - example\n"
)
ADA = 'a:11111111,Ada,ada@example.com,Active,3 Jan 2024,Organization admin,"jira-users, team-a",User,,28 Apr 2026,\n'
MAX = "a:22222222,Max,max@other.example,Suspended,14 Nov 2023,,team-a,User,User,2 Feb 2026,Never accessed\n"
ZOE = "a:33333333,Zoë,zoe@example.com,Deactivated,9 Sep 2022,,,,,Never accessed,31 Dec 2024\n"
NEW = "a:44444444,New,new@example.com,Active,1 Nov 2026,,,User,,Never accessed,Never accessed\n"
EXPORT = HEAD + ADA + MAX + ZOE + NEW


@pytest.fixture
def organization(db: None) -> Organization:
    return create_from_file(name="Example Ltd.", actor=SYSTEM)


def fill(organization: Organization, content: str, domains: str = "", name: str = "export-users.csv") -> SyncRun:
    """Upload an export and read it to the end."""
    run = fill_from_file(organization=organization, name=name, content=content.encode(), actor=SYSTEM, domains=domains)
    finished = run_sync(run.pk, budget_seconds=None, wait_here=True)
    assert finished is not None
    return finished


def person(name: str) -> Account:
    found: Account = Account.objects.get(name=name)
    return found


def test_export_fills_people_groups_products_and_activity(organization: Organization) -> None:
    run = fill(organization, EXPORT, domains="example.com")

    assert (run.status, run.people_seen, run.people_added, run.groups_seen) == ("succeeded", 4, 4, 2)
    ada, max_, zoe, new = person("Ada"), person("Max"), person("Zoë"), person("New")
    assert (ada.account_status, ada.membership_status) == (AccountStatus.ACTIVE, MembershipStatus.ACTIVE)
    assert max_.membership_status == MembershipStatus.SUSPENDED
    assert (zoe.account_status, zoe.products) == (AccountStatus.INACTIVE, 0)
    assert ada.added_to_org_at == datetime(2024, 1, 3, tzinfo=UTC)
    assert (ada.is_org_admin, max_.is_org_admin) == (True, False)
    assert [one.claim_status for one in (ada, max_)] == [ClaimStatus.MANAGED, ClaimStatus.UNMANAGED]
    assert ada.jira_last_active_at == datetime(2026, 4, 28, tzinfo=UTC)
    assert (max_.jira_activity, max_.confluence_activity) == (Activity.KNOWN, Activity.NEVER)
    assert (new.jira_activity, new.last_active_at, new.has_unknown_activity) == (Activity.NEVER, None, False)
    assert sorted(Group.objects.values_list("name", "member_count")) == [("jira-users", 1), ("team-a", 2)]
    access = ProductAccess.objects.get(account=ada)
    assert (access.product, access.site, access.source) == ("jira", "example", "file")
    parts = dict(
        Account.objects.annotate(part=partition_case(Context.of(organization).cutoff(30))).values_list("name", "part")
    )
    assert parts == {
        "Ada": Partition.INACTIVE,
        "Max": Partition.SUSPENDED,
        "Zoë": Partition.DEACTIVATED,
        "New": Partition.NEVER_ACTIVE,
    }
    assert dashboard_counts(organization, 30).total == 4
    assert ImportFile.objects.get().status == ImportFile.Status.CHECKED


def test_what_the_file_does_not_say_stays_unknown(organization: Organization) -> None:
    fill(organization, HEAD + "a:1aaaaaaa,Ida,ida@example.com,,,,,User,,,\n")

    ida = person("Ida")
    assert (ida.account_status, ida.claim_status) == (AccountStatus.UNKNOWN, ClaimStatus.UNKNOWN)
    assert (ida.jira_activity, ida.has_unknown_activity) == (Activity.UNKNOWN, True)


def test_one_date_for_all_products_counts_for_each(organization: Organization) -> None:
    head = "Name,Email,Atlassian ID,Status,Last active date [UTC],Confluence,Jira\n"
    rows = 'Ada,ada@x.org,a:1aaaaaaa,Active,2026-05-12,s.atlassian.net,"s.atlassian.net, t.atlassian.net"\n'
    fill(organization, head + rows + "Eve,eve@x.org,a:2aaaaaaa,Active,,s.atlassian.net,\n", name="managed.csv")

    ada = person("Ada")
    assert ada.claim_status == ClaimStatus.MANAGED
    assert ada.jira_last_active_at == ada.confluence_last_active_at == datetime(2026, 5, 12, tzinfo=UTC)
    assert ProductAccess.objects.filter(account=ada).count() == 3
    assert person("Eve").confluence_activity == Activity.NEVER


def test_newer_file_replaces_the_one_before(organization: Organization) -> None:
    fill(organization, EXPORT)

    run = fill(organization, HEAD + ADA.replace("28 Apr 2026", "1 Nov 2026").replace(", team-a", "") + MAX)

    assert (run.people_changed, run.people_vanished) == (1, 2)
    assert person("Ada").jira_last_active_at == datetime(2026, 11, 1, tzinfo=UTC)
    assert person("New").vanished_at is not None
    assert sorted(Group.objects.filter(vanished_at=None).values_list("name", "member_count")) == [
        ("jira-users", 1),
        ("team-a", 1),
    ]


def test_lines_without_a_person_are_left_out_and_counted(organization: Organization) -> None:
    run = fill(
        organization, EXPORT + ",Nobody,,Active,,,,,,,\n" + ADA + "a:5aaaaaaa,Bad,b@x.org,Active,,,,,,,,,extra\n"
    )

    assert (run.people_seen, run.trust["left_out"]) == (4, 3)


def test_reading_goes_on_where_it_was_killed_and_counts_everybody_once(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_file, "CHUNK_ROWS", 2)
    run = fill_from_file(organization=organization, name="export.csv", content=(EXPORT + ADA).encode(), actor=SYSTEM)
    stage, staged = FileReading._stage, []

    def dies_on_second_chunk(self: FileReading, *given: Any) -> None:
        if staged:
            raise SystemExit
        staged.append(given)
        stage(self, *given)

    monkeypatch.setattr(FileReading, "_stage", dies_on_second_chunk)
    with pytest.raises(SystemExit):
        run_sync(run.pk)
    monkeypatch.setattr(FileReading, "_stage", stage)
    SyncRun.objects.update(lease_until=datetime(2020, 1, 1, tzinfo=UTC))
    run_sync(run.pk)

    run.refresh_from_db()
    assert (run.status, run.people_seen, run.trust["left_out"]) == ("succeeded", 4, 1)
    assert Account.objects.count() == 4


@pytest.mark.parametrize("name", [path.name for path in sorted(EXAMPLES.glob("export-*.csv"))])
def test_atlassians_own_layouts_fill_an_organization(organization: Organization, name: str) -> None:
    run = fill_from_file(organization=organization, name=name, content=(EXAMPLES / name).read_bytes(), actor=SYSTEM)
    run_sync(run.pk, budget_seconds=None, wait_here=True)

    run.refresh_from_db()
    assert run.status == SyncRun.Status.SUCCEEDED
    assert run.people_seen == Account.objects.of(organization).count() > 0


@pytest.mark.parametrize(
    ("content", "fields", "said"),
    [
        ("email\na@x.org\n", {}, "no export of Atlassian"),
        ("a@x.org\nb@x.org\n", {}, "no export of Atlassian"),
        ("", {}, "empty"),
        (EXPORT, {"name": "people.xlsx"}, "Only CSV"),
        (EXPORT, {"domains": "example"}, "is not a domain"),
        (EXPORT, {"exported_on": date(2999, 1, 1)}, "still to come"),
    ],
)
def test_other_files_and_wrong_words_are_refused(
    organization: Organization, content: str, fields: dict[str, object], said: str
) -> None:
    values: dict[str, object] = {"name": "export.csv", **fields}

    with pytest.raises(InvalidInput) as refused:
        fill_from_file(organization=organization, content=content.encode(), actor=SYSTEM, **values)  # type: ignore[arg-type]

    assert said in " ".join(text for texts in refused.value.fields.values() for text in texts)
    assert not SyncRun.objects.exists()


def test_unreadable_file_ends_as_a_failed_run(organization: Organization) -> None:
    run = fill(organization, HEAD)

    assert (run.status, run.error_detail) == ("failed", "The file has headings and no rows.")


def test_files_belong_to_unconnected_organizations_only(db: None) -> None:
    with pytest.raises(NotFromFile):
        fill_from_file(organization=plain_organization("real"), name="e.csv", content=EXPORT.encode(), actor=SYSTEM)


# --- nothing can be changed -------------------------------------------------------------------------------------------


def plan(organization: Organization, action: str, mode: str, *, products: tuple[str, ...] = ()) -> Operation:
    return plan_operation(
        organization=organization,
        kind=Operation.Kind.MANUAL_OPERATION,
        mode=mode,
        initiator=Operation.Initiator.MANUAL,
        actor=SYSTEM,
        operator=None,
        name="Test",
        actions=[ActionSpec(action, products=products)],
        selection=AccountsSelection(("a:11111111", "a:44444444")),
    )


def test_live_plans_are_refused_and_previews_work(organization: Organization) -> None:
    fill(organization, EXPORT)

    with pytest.raises(FromFileOnly) as refused:
        plan(organization, "suspend", Operation.Mode.LIVE)
    preview = plan(organization, "suspend", Operation.Mode.SAFE)
    run_planning(preview.pk)
    preview.refresh_from_db()

    assert "Connect it" in refused.value.detail
    # Ada administers the organisation.
    assert (preview.status, preview.people_count) == (Operation.Status.PREVIEWED, 1)
    with pytest.raises(FromFileOnly):
        apply_preview(operation=preview, plan_hash=preview.plan_hash, actor=SYSTEM, operator=None)
    assert Operation.objects.count() == 1


def test_preview_of_product_access_says_who_without_asking_atlassian(organization: Organization) -> None:
    fill(organization, EXPORT)

    preview = plan(organization, "remove_product_access", Operation.Mode.SAFE, products=("jira",))
    run_planning(preview.pk)
    preview.refresh_from_db()

    assert (preview.status, preview.people_count) == (Operation.Status.PREVIEWED, 1)
    assert preview.items.get().parameters["paths"] == []


def test_nobody_is_asked_and_live_rules_are_told_why(organization: Organization) -> None:
    fill(organization, EXPORT)
    SyncRun.objects.update(created_at=datetime(2020, 1, 1, tzinfo=UTC))

    assert sweep_syncs() == 0
    with pytest.raises(FromFileOnly):
        request_sync(organization=organization, actor=SYSTEM)
    with pytest.raises(FromFileOnly):
        refresh_person(account=person("Ada"), actor=SYSTEM)
    assert (connection_state(organization).code, connection_state(organization).is_usable) == ("from_file", False)
    assert (data_trust(organization).ok, data_trust(organization).code) == (False, "from_file")


# --- connecting it later ----------------------------------------------------------------------------------------------


def test_connected_organization_is_a_usual_one_after_its_sync(organization: Organization, sandbox: Sandbox) -> None:
    known = sandbox.credentials
    group_name = "employees"
    fill(
        organization,
        HEAD + f'no-such-id,Gone,gone@nowhere.example,Active,,,"made-up, {group_name}",User,,Never accessed,\n',
    )
    group = Group.objects.get(name=group_name)
    protect_group(group=group, actor=SYSTEM)

    connected, results = connect_file_organization(
        organization=organization, values=connect_values(sandbox), actor=SYSTEM
    )
    assert data_trust(connected).code == "never_synced"
    run = request_sync(organization=connected, actor=SYSTEM)
    run_sync(run.pk, budget_seconds=None, wait_here=True)

    run.refresh_from_db()
    connected.refresh_from_db()
    assert all(result.ok for result in results)
    assert (run.status, run.is_trusted, run.distrust_reasons) == ("succeeded", True, [])
    assert (connected.is_from_file, connected.org_id) == (False, known.org_id)
    assert data_trust(connected).ok
    assert person("Gone").vanished_at is not None
    assert not ProductAccess.objects.filter(source="file").exists()
    group.refresh_from_db()
    assert (group.vanished_at, group.directory.directory_id == Directory.OF_FILE) == (None, False)
    assert ProtectedGroup.objects.get().group_id == group.pk
    assert Group.objects.get(name="made-up").vanished_at is not None
    somebody = Account.objects.of(connected).filter(vanished_at=None).exclude(group_ids=[]).first()
    assert somebody is not None
    refresh_person(account=somebody, actor=SYSTEM)


def connect_values(sandbox: Sandbox) -> ConnectionInput:
    known = sandbox.credentials
    return ConnectionInput(
        email=known.email,
        org_id=known.org_id,
        site_url=sandbox.url,
        api_token=known.api_token,
        api_key=known.api_key,
        api_url=sandbox.url,
        name="ignored",
    )


def test_refused_credentials_leave_it_as_it_was(organization: Organization, sandbox: Sandbox) -> None:
    with pytest.raises(ConnectionRefused):
        connect_file_organization(
            organization=organization, values=replace(connect_values(sandbox), api_key="wrong"), actor=SYSTEM
        )

    organization.refresh_from_db()
    assert (organization.is_from_file, organization.org_id[:5]) == (True, "file-")


# --- keeping and removing ---------------------------------------------------------------------------------------------


def test_old_files_go_and_what_they_filled_stays(organization: Organization) -> None:
    fill(organization, EXPORT)

    assert remove_old_imports(organization, timezone.now()) == 1

    run = SyncRun.objects.get()
    assert (run.import_file, run.found["file"], Account.objects.count()) == (None, "export-users.csv", 4)


def test_it_is_deleted_in_one_action(organization: Organization) -> None:
    fill(organization, EXPORT)

    delete_demo(organization=organization)

    assert [model.objects.count() for model in (Organization, Account, AuditEvent)] == [0, 0, 0]
