"""Exports: people, order and columns of the screen, no formula, and jobs that end, expire and are found again."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.models import TextField, Value
from django.http import QueryDict
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.audit.models import AuditEvent
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.users.models import Activity, ExportJob, ProductAccess, SyncRun
from apps.users.selectors import AccountFilters
from apps.users.selectors.columns import COLUMNS
from apps.users.selectors.explorer import AccountRow, every_row
from apps.users.selectors.exports import ExportQuery, Safe, csv_blocks, text_rows
from apps.users.services import exports as services
from aum.common.csv import neutralise
from aum.common.errors import DomainError
from tests.users.conftest import make_account, make_group, plain_organization

pytestmark = pytest.mark.django_db
SYSTEM = Actor.system()


@pytest.fixture
def data_dir(settings: Any, tmp_path: Path) -> Path:
    settings.AUM_DATA_DIR = tmp_path
    return tmp_path


@pytest.fixture
def crowd(plain: Organization) -> int:
    """More people than one request exports, made in SQL."""
    count = services.JOB_ABOVE + 11
    make_account(plain, name="Zoë Last", email=None)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO users_account (organization_id, account_id, name, sort_name, email, account_status,"
            " membership_status, claim_status, management_source, is_for_deletion, kind, is_kind_released, products,"
            " has_unknown_activity, is_activity_read, jira_activity, confluence_activity, jsm_activity,"
            " bitbucket_activity, group_ids, is_org_admin, is_site_admin, is_connection_owner)"
            " SELECT %s, 'c' || n, 'Crowd ' || n, 'crowd ' || n, 'c' || n || '@example.com', 1, 1, 1, 0, false, 1,"
            " false, 0, false, true, 0, 0, 0, 0, '{}', false, false, false FROM generate_series(1, %s) n",
            [plain.pk, count - 1],
        )
    now = timezone.now()
    SyncRun.objects.create(
        organization=plain, status=SyncRun.Status.SUCCEEDED, is_trusted=True, started_at=now, finished_at=now
    )
    return count


def query(organization: Organization, text: str = "", ordering: str = "name", **fields: Any) -> ExportQuery:
    filters, errors = AccountFilters.parse(QueryDict(text))
    assert errors == {}
    return services.export_query(organization, filters, ordering=ordering, columns=COLUMNS, **fields)


def read(blocks: Iterator[tuple[bytes, int]]) -> list[dict[str, str]]:
    content = b"".join(block for block, _ in blocks)
    assert content.startswith("\ufeff".encode())
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))


def iso(at: Any) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}" if at else ""


def cells(row: AccountRow) -> dict[str, str]:
    """The row of a file, from the row of the screen."""
    newest = {use.product: iso(use.last_active_at) if use.activity == "known" else use.activity for use in row.logins}
    products = "; ".join(
        f"{use.product} on {use.site or use.resource}: {iso(use.last_active_at) or use.activity}"
        for use in row.products
    )
    return {
        "account_id": neutralise(row.account_id),
        "name": neutralise("" if row.name == row.account_id else row.name),
        "email": neutralise(row.email or ""),
        "account_status": row.account_status,
        "membership_status": row.membership_status,
        "claim_status": row.claim_status,
        "kind": row.kind,
        "synced_by": row.source,
        "groups": neutralise("; ".join(tag.name for tag in row.groups)),
        "added_to_org_utc": iso(row.added_to_org_at),
        "activity": row.activity,
        "last_active_utc": iso(row.last_active_at),
        **{f"{p}_last_active_utc": newest.get(p, "") for p in ("jira", "confluence", "jsm", "bitbucket")},
        "products": neutralise(products),
        "is_protected": "yes" if row.is_protected else "no",
        "is_exempt": "yes" if row.is_exempt else "no",
        "exempt_until_utc": iso(row.exempt_until),
    }


def some_people(organization: Organization) -> None:
    now = timezone.now()
    groups = [make_group(organization, name).pk for name in ("=sum", "Ärzte", "beta")]
    names = ["=1+1", "'-x", "@you", "Ann\nLee", 'Say "hi", Bob', "", "\tTab", "Ärzte 🙂", "-", "+49"]
    for number, name in enumerate(names):
        at = now - timedelta(days=number) if number % 3 else None
        state = Activity.KNOWN if at else Activity.NEVER if number % 2 else Activity.UNKNOWN
        account = make_account(
            organization,
            name=name,
            email=None if number % 4 == 0 else f"{name[:3].strip() or 'x'}@example.com",
            account_status=number % 4,
            membership_status=(number + 1) % 4,
            claim_status=number % 3,
            kind=number % 4 + 1,
            management_source=number % 3,
            is_for_deletion=number == 5,
            is_org_admin=number == 2,
            added_to_org_at=at,
            exempt_until=now + timedelta(days=3) if number == 4 else None,
            group_ids=groups[: number % 4],
            products=1,
            jira_activity=state,
            jira_last_active_at=at,
            last_active_at=at,
            has_unknown_activity=state == Activity.UNKNOWN,
            is_activity_read=True,
        )
        for site in ("acme", "")[: number % 2 + 1]:
            ProductAccess.objects.create(
                organization=organization,
                account=account,
                product="jira",
                resource=f"ari:{site}",
                site=site,
                activity=state,
                last_active_at=at,
            )


@pytest.mark.parametrize("ordering", ["name", "-name", "last_active", "-added", "jira_last_active"])
def test_file_holds_what_the_screen_shows_in_its_order(plain: Organization, ordering: str) -> None:
    some_people(plain)
    make_account(plain_organization("other"))

    rows = read(csv_blocks(query(plain, "kind=person,bot,service", ordering)))

    filters, _ = AccountFilters.parse(QueryDict("kind=person,bot,service"))
    assert rows == [cells(row) for row in every_row(plain, filters, ordering=ordering)]
    assert len(rows) > 5


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(alphabet="'=+-@\t\ra\n\" ", max_size=6), min_size=1, max_size=20))
def test_sql_makes_formulas_harmless_as_python_does(plain: Organization, texts: list[str]) -> None:
    cells = {f"cell_{number}": Safe(Value(text, TextField())) for number, text in enumerate(texts)}

    found = Organization.objects.annotate(**cells).values_list(*cells).order_by("pk").first()

    assert list(found or ()) == [neutralise(text) for text in texts]


def test_workbook_holds_texts_notes_and_what_it_is_about(plain: Organization) -> None:
    some_people(plain)
    file = io.BytesIO()

    done = list(services.write_workbook(query(plain, "kind=person"), file))

    with zipfile.ZipFile(file) as book:
        users = book.read("xl/worksheets/sheet2.xml").decode()
        about = book.read("xl/worksheets/sheet1.xml").decode()
        notes = book.read("xl/comments1.xml").decode()
    assert done[-1] == len(list(text_rows(query(plain, "kind=person"))))
    assert "<f>" not in users
    assert "=1+1" in users
    assert "Kind: person" in about
    assert "Sorted by name" in about
    assert "by an identity provider" in notes


def test_nobody_is_a_file_with_headings(plain: Organization) -> None:
    assert read(csv_blocks(query(plain, account_pks=[]))) == []
    file = io.BytesIO()
    assert list(services.write_workbook(query(plain, "search=nobody"), file)) == [0]
    assert zipfile.ZipFile(file).namelist()


def test_selection_and_columns_decide_what_is_exported(plain: Organization, operators: Callable[..., Operator]) -> None:
    wanted = make_account(plain, name="Wanted")
    make_account(plain, name="Other")
    stranger = make_account(plain_organization("other"))
    client = Client()
    client.force_login(operators(plain, "v@aum.example", "viewer"))
    client.post("/o/plain/users/columns/", {"column": ["kind"]})

    answer = client.post(
        "/o/plain/users/export/", {"accounts": [f"{wanted.pk},{stranger.pk}"], "filters": "search=zzz", "format": "csv"}
    )
    rows = list(csv.DictReader(io.StringIO(b"".join(answer).decode("utf-8-sig"))))

    assert rows == [{"account_id": wanted.account_id, "name": "Wanted", "email": wanted.email, "kind": "person"}]
    assert AuditEvent.objects.get(action="users.exported").after == {"filters": "", "format": "csv", "people": 1}
    assert client.post("/o/plain/users/export/", {"format": "csv"}).status_code == 422
    assert client.get("/o/plain/users/export/?format=exe").status_code == 422
    assert client.get("/o/plain/users/export/?inactive_days=soon").status_code == 422


def test_large_list_says_more_than_and_is_exported_by_a_worker(
    plain: Organization, crowd: int, data_dir: Path, operators: Callable[..., Operator]
) -> None:
    client = Client()
    client.force_login(operators(plain, "v@aum.example", "viewer"))

    page = client.get("/o/plain/users/?kind=person").content.decode()
    assert "more than 10,000 users" in page
    assert "Count exactly" in page
    assert f"{crowd:,} users" in client.get("/o/plain/users/?kind=person&count=exact").content.decode()
    assert f"{crowd:,} users" in client.get("/o/plain/users/").content.decode()
    asked = client.get("/o/plain/users/export/?kind=person&ordering=-name").content.decode()
    assert f"Start the export of {crowd:,} users" in asked
    started = client.post(
        "/o/plain/users/export/", {"filters": "kind=person", "ordering": "-name", "format": "csv", "job": "1"}
    )
    job = ExportJob.objects.get()
    assert started["Location"] == f"/o/plain/users/exports/{job.pk}/"
    assert "every 2s" in client.get(started["Location"]).content.decode()

    services.write_export(job.pk)
    services.write_export(job.pk)

    ready = client.get(started["Location"]).content.decode()
    assert "Download" in ready
    assert "every 2s" not in ready
    assert started["Location"] in client.get("/o/plain/users/exports/").content.decode()
    answer = client.get(f"{started['Location']}download/")
    lines = b"".join(answer).decode("utf-8-sig").splitlines()
    assert len(lines) == crowd + 1
    assert "Zoë Last" in lines[1]
    assert [path.parent.name for path in data_dir.rglob("*.csv")] == [str(plain.pk)]
    actions = AuditEvent.objects.of(plain).order_by("id").values_list("action", flat=True)
    assert list(actions) == ["users.exported", "export.downloaded"]


def start(organization: Organization, file_format: str = "csv") -> ExportJob:
    return services.start_export(query=query(organization), file_format=file_format, operator=None, actor=SYSTEM)


def test_job_that_is_cancelled_while_it_writes_leaves_no_file(plain: Organization, data_dir: Path) -> None:
    job = start(plain)
    services.cancel_export(job=job, actor=SYSTEM)

    services.write_export(job.pk)

    job.refresh_from_db()
    assert job.status == ExportJob.Status.CANCELLED
    assert list(data_dir.rglob("*.csv")) == []
    with pytest.raises(DomainError):
        services.cancel_export(job=job, actor=SYSTEM)


def test_job_of_a_killed_worker_is_written_again(plain: Organization, data_dir: Path) -> None:
    make_account(plain)
    job = start(plain, "xlsx")
    long_ago = timezone.now() - timedelta(minutes=10)
    ExportJob.objects.filter(pk=job.pk).update(status="running", alive_at=long_ago, created_at=long_ago)
    folder = services.folder_of(plain)
    folder.mkdir(parents=True)
    (folder / f"{job.pk}-half.xlsx").write_bytes(b"half")

    services.sweep_exports()
    services.write_export(job.pk)
    services.sweep_exports()

    job.refresh_from_db()
    assert (job.status, job.rows_done) == (ExportJob.Status.SUCCEEDED, 1)
    assert [path.name for path in folder.iterdir()] == [job.file_name]


def test_file_goes_when_its_time_is_over_and_its_page_says_so(
    plain: Organization, data_dir: Path, operators: Callable[..., Operator]
) -> None:
    job = start(plain)
    services.write_export(job.pk)
    ExportJob.objects.filter(pk=job.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    client = Client()
    client.force_login(operators(plain, "v@aum.example", "viewer"))

    refused = client.get(f"/o/plain/users/exports/{job.pk}/download/", follow=True).content.decode()
    services.sweep_exports()

    assert "This file is no longer kept." in refused
    job.refresh_from_db()
    assert job.status == ExportJob.Status.EXPIRED
    assert list(data_dir.rglob("*.csv")) == []
    assert "The file is no longer kept." in client.get(f"/o/plain/users/exports/{job.pk}/").content.decode()


def test_disk_that_cannot_be_written_is_told_on_the_page(plain: Organization, data_dir: Path) -> None:
    (data_dir / "exports").write_text("a file where the folder should be")
    job = start(plain)

    services.write_export(job.pk)

    job.refresh_from_db()
    assert job.status == ExportJob.Status.FAILED
    assert "Look at the disk" in job.error


def test_exports_of_another_organisation_are_not_there(
    plain: Organization, data_dir: Path, operators: Callable[..., Operator]
) -> None:
    hidden = start(plain_organization("other"))
    services.write_export(hidden.pk)
    client = Client()
    client.force_login(operators(plain, "o@aum.example", "owner"))

    for path in ("", "download/"):
        assert client.get(f"/o/plain/users/exports/{hidden.pk}/{path}").status_code == 404
    assert client.post(f"/o/plain/users/exports/{hidden.pk}/end/").status_code == 404
    assert f"exports/{hidden.pk}/" not in client.get("/o/plain/users/exports/").content.decode()


def test_only_so_many_are_written_at_once(plain: Organization, data_dir: Path) -> None:
    for _ in range(services.OPEN_AT_ONCE):
        start(plain)

    with pytest.raises(DomainError, match="are being written"):
        start(plain)
