"""Files about people: every layout is read, each line finds its person or says why not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from apps.audit.models import AuditEvent
from apps.organizations.models import Organization
from apps.users import csv_layouts
from apps.users.models import AccountStatus, Activity, ImportFile, ImportRow, MembershipStatus
from apps.users.selectors import imports as selectors
from apps.users.services import imports as services
from apps.users.tasks import read_import
from aum.common.errors import InvalidInput, Missing
from tests.users.conftest import SYSTEM, make_account, plain_organization

EXPORT = (
    "User id,User name,email,User status,Added to org,Org role,Jira - example,Last seen in Jira - example,"
    "Last seen in Jira - other,Last seen in Confluence - example\n"
    "712020:0f1e2d3c-1,Ada Example,Ada@example.com,Active,3 Jan 2024,,User,28 Apr 2026,2 May 2026,Never accessed\n"
    '712020:0f1e2d3c-2,"Lovelace, Max",max@example.com,Suspended,14 Nov 2023,,,,Never Accessed,\n'
)


def upload(organization: Organization, content: str | bytes, name: str = "people.csv") -> ImportFile:
    """Upload and read a file."""
    data = content.encode() if isinstance(content, str) else content
    file = services.upload_import(organization=organization, name=name, content=data, actor=SYSTEM)
    read_import(file.pk)
    file.refresh_from_db()
    return file


def check(organization: Organization, content: str | bytes) -> ImportFile:
    file = upload(organization, content)
    return services.check_import(file=file, mapping=file.mapping)


def verdicts(file: ImportFile) -> list[tuple[int, str]]:
    return list(ImportRow.objects.filter(import_file=file).order_by("line").values_list("line", "code"))


# --- layouts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        EXPORT.encode(),
        b"\xef\xbb\xbf" + EXPORT.replace("\n", "\r\n").encode(),
        EXPORT.encode("utf-16"),
    ],
    ids=["plain", "bom-crlf", "utf-16"],
)
def test_export_of_users_is_read_in_any_dress(content: bytes) -> None:
    parsed = csv_layouts.parse(content)

    assert parsed.layout == "export_users"
    assert parsed.mapping == {"account_id": 0, "email": 2, "name": 1, "status": 3}
    assert [record.line for record in parsed.records] == [2, 3]
    assert parsed.records[0].last_seen == {"jira": "2026-05-02", "confluence": "never"}
    assert parsed.records[1].last_seen == {"jira": "never"}


def test_columns_are_found_by_name_not_by_place() -> None:
    parsed = csv_layouts.parse(b"Something;email;User id\nx;ada@example.com;1:aaaaaaaa\n")

    assert parsed.mapping == {"account_id": 2, "email": 1}


def test_rows_of_a_pivot_are_one_person_with_all_groups() -> None:
    head = "Group id,Group name,User id,User name,email\n"
    parsed = csv_layouts.parse(
        (head + "g1,one,1:aaaaaaaa,Ada,a@example.com\ng2,two,1:aaaaaaaa,Ada,a@example.com\n").encode()
    )

    assert parsed.layout == "export_users_pivot"
    assert (parsed.lines, len(parsed.records)) == (2, 1)
    assert parsed.records[0].cells[1] == "one, two"


@pytest.mark.parametrize(
    ("content", "layout", "mapping"),
    [
        (
            "Name,Email,Atlassian ID,Status,Last active date [UTC],Jira\nAda,a@x.org,1:aaaaaaaa,Active,,x\n",
            "managed_accounts",
            {"account_id": 2, "email": 1, "name": 0, "status": 3},
        ),
        (
            "id,name,email,active,created,Last seen in Jira Software\n5b10a2,Boss,b@x.org,Yes,1 Mar 2019,23 Nov 2020\n",
            "older_export",
            {"account_id": 0, "email": 2, "name": 1, "status": 3},
        ),
        (
            "group_name,username,full_name,email,active,last_login\ng,f,Frank,f@x.org,Yes,14 Dec 2012 15:31:57\n",
            "older_export",
            {"email": 3, "name": 2, "status": 4, "groups": 0},
        ),
        ("a@x.org\nb@x.org\n", "email_list", {"email": 0}),
        ("email\na@x.org\n\n", "own", {"email": 0}),
        ("Work mail\na@x.org\n", "own", {"email": 0}),
    ],
)
def test_each_layout_is_recognised(content: str, layout: str, mapping: dict[str, int]) -> None:
    parsed = csv_layouts.parse(content.encode())

    assert (parsed.layout, parsed.mapping) == (layout, mapping)


def test_line_numbers_count_lines_within_cells_and_blank_ones() -> None:
    parsed = csv_layouts.parse(b'email,note\n\na@x.org,"two\nlines"\nb@x.org,\n')

    assert [record.line for record in parsed.records] == [3, 5]


def test_neutralised_formulas_are_given_back() -> None:
    assert csv_layouts.parse(b"name,email\n'=1+1,a@x.org\n").records[0].cells[0] == "=1+1"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b" \n \n", "empty"),
        (b"email\n", "no rows"),
        (b"email\na\x00b\n", "binary"),
        (b"email\n\xff\xfe\xfa\n", "UTF-8"),
        (b"x" * (csv_layouts.MAX_BYTES + 1), "20 MB"),
        (b"email\n" + b"a@x.org\n" * (csv_layouts.MAX_ROWS + 1), "100,000"),
        (b",".join([b"h"] * 401) + b"\n1\n", "columns"),
        (b'email\n"' + b"x" * 200_000 + b"\n", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_sentence(content: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        csv_layouts.parse(content)


def test_three_hundred_columns_are_read() -> None:
    head = ["email", *(f"c{n}" for n in range(299))]

    assert len(csv_layouts.parse((",".join(head) + "\na@x.org\n").encode()).records[0].cells) == 300


# --- storing --------------------------------------------------------------------------------------------------------


def test_upload_is_stored_by_rows_and_recorded(plain: Organization) -> None:
    file = upload(plain, EXPORT)

    assert (file.status, file.rows_total, file.rows_stored, file.lines) == ("read", 2, 2, 2)
    assert file.content is None
    assert AuditEvent.objects.filter(action="import.uploaded").count() == 1


def test_reading_goes_on_where_it_was_killed(plain: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    content = "email\n" + "".join(f"p{n}@x.org\n" for n in range(25))
    monkeypatch.setattr(services, "CHUNK_ROWS", 10)
    file = services.upload_import(organization=plain, name="a.csv", content=content.encode(), actor=SYSTEM)
    services._store_chunk(file.pk, csv_layouts.parse(content.encode()))
    file.refresh_from_db()
    assert (file.status, file.rows_stored) == ("reading", 10)

    for _ in range(2):
        read_import(file.pk)

    file.refresh_from_db()
    assert (file.status, ImportRow.objects.filter(import_file=file).count()) == ("read", 25)


def test_file_that_cannot_be_read_says_why(plain: Organization) -> None:
    file = upload(plain, "email\n")

    assert (file.status, file.error) == ("failed", "The file has headings and no rows.")
    assert file.content is None


def test_other_types_are_refused_at_once(plain: Organization) -> None:
    with pytest.raises(InvalidInput, match="Only CSV"):
        upload(plain, "x", "people.xlsx")


# --- checking -------------------------------------------------------------------------------------------------------


def test_each_line_finds_its_person_or_says_why_not(plain: Organization) -> None:
    ada = make_account(plain, account_id="1:aaaaaaaa", email="Ada@X.org")
    make_account(plain, email="twice@x.org")
    make_account(plain, email="twice@x.org")
    make_account(plain, email="gone@x.org", vanished_at=datetime(2026, 1, 1, tzinfo=UTC))
    make_account(plain_organization("other"), account_id="1:elsewhere", email="else@x.org")
    max_ = make_account(plain, email="max@x.org", is_org_admin=True)
    lines = [
        "account id,email",
        "1:aaaaaaaa,",
        ",ADA@x.org",
        ",twice@x.org",
        ",gone@x.org",
        "1:elsewhere,max@x.org",
        ",else@x.org",
        ",not an address",
        "x,,",
        ",max@x.org,more",
        ",max@x.org",
    ]
    file = check(plain, "\n".join(lines) + "\n")

    assert verdicts(file) == [
        (2, ""),
        (3, "duplicate"),
        (4, "ambiguous"),
        (5, "unknown"),
        (6, "unknown"),
        (7, "unknown"),
        (8, "malformed"),
        (9, "unknown"),
        (10, "ragged"),
        (11, ""),
    ]
    assert file.counts["valid"] == 2
    assert file.counts["wrong"] == 8
    assert file.counts["protected"] == 1
    assert selectors.chosen_account_ids(selectors.people_rows(file)) == (ada.account_id, max_.account_id)
    wrong = [selectors.wrong_line(file, row) for row in selectors.wrong_rows(file)]
    assert (wrong[0].line, wrong[0].column, wrong[0].value) == (3, "email", "ADA@x.org")
    assert wrong[3].column == "account id"


def test_line_without_id_and_e_mail_is_named(plain: Organization) -> None:
    assert verdicts(check(plain, "email,name\n,Nobody\n")) == [(2, "empty")]


def test_checking_again_with_other_columns_gives_other_people(plain: Organization) -> None:
    make_account(plain, email="old@x.org")
    make_account(plain, email="new@x.org")
    file = check(plain, "email,second\nold@x.org,new@x.org\nold@x.org,old@x.org\n")
    assert verdicts(file) == [(2, ""), (3, "duplicate")]

    file = services.check_import(file=file, mapping={"email": 1})

    assert verdicts(file) == [(2, ""), (3, "")]


@pytest.mark.parametrize("mapping", [{}, {"name": 0}, {"email": 9}, {"email": 0, "account_id": 0}])
def test_columns_that_make_no_sense_are_refused(plain: Organization, mapping: dict[str, int]) -> None:
    file = upload(plain, "email,name\na@x.org,A\n")

    with pytest.raises(InvalidInput):
        services.check_import(file=file, mapping=mapping)


@pytest.mark.parametrize(
    ("fields", "differences"),
    [
        ({}, []),
        ({"products": 0}, ["product access"]),
        ({"name": "Other"}, ["name"]),
        ({"email": "other@example.com"}, ["e-mail"]),
        ({"email": None}, []),
        ({"membership_status": MembershipStatus.SUSPENDED}, ["status"]),
        ({"account_status": AccountStatus.INACTIVE}, ["status"]),
        ({"jira_activity": Activity.NEVER}, ["last login"]),
        ({"jira_activity": Activity.UNKNOWN}, []),
        ({"jira_activity": Activity.KNOWN, "jira_last_active_at": datetime(2026, 4, 1, tzinfo=UTC)}, ["last login"]),
        ({"jira_activity": Activity.KNOWN, "jira_last_active_at": datetime(2026, 6, 1, tzinfo=UTC)}, []),
    ],
)
def test_what_the_file_says_otherwise_is_flagged(
    plain: Organization, fields: dict[str, Any], differences: list[str]
) -> None:
    known = {"account_id": "712020:0f1e2d3c-1", "name": "Ada Example", "email": "ada@example.com", "products": 1}
    make_account(plain, **{**known, **fields})
    file = check(plain, EXPORT)
    rows, _ = selectors.page_of_people(selectors.people_rows(file), 0, 50)

    people = selectors.file_people(file, rows)

    assert people[0].differences == differences
    assert [row.line for row in selectors.people_rows(file, only="disagree")] == ([2] if differences else [])
    assert [row.line for row in selectors.people_rows(file, only="unknown")] == [3]
    assert [row.line for row in selectors.people_rows(file, search="lovelace")] == [3]


def test_access_is_only_denied_where_the_file_speaks_of_it(plain: Organization) -> None:
    make_account(plain, account_id="712020:0f1e2d3c-2", name="Max")
    file = check(plain, EXPORT)
    rows, _ = selectors.page_of_people(selectors.people_rows(file, only="known"), 0, 50)

    (max_,) = selectors.file_people(file, rows)

    assert {login.label: login.held_in_file for login in max_.logins} == {"Jira Software on other": None}
    assert csv_layouts.columns_of(file.headers, file.layout).covered == ["jira"]


def test_other_organisation_has_no_such_file(plain: Organization) -> None:
    file = upload(plain, EXPORT)

    with pytest.raises(Missing):
        selectors.import_file(plain_organization("other"), file.pk)
