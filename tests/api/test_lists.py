"""Lists: signed keyset cursors in both directions, counts on request, a constant number of queries."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from apps.audit.services import record
from apps.operations.models import Approval, LeftOut, Operation, OperationItem
from apps.operators.models import Operator
from apps.organizations.models import Directory, Organization
from apps.organizations.recorder import Actor
from apps.organizations.services import raise_alert
from apps.rules.services import RuleInput, create_rule
from apps.users.models import Account, Exemption, Group, ProductAccess

LISTS = (
    "/api/v1/organizations/",
    "accounts/",
    "groups/",
    "rules/",
    "operations/",
    "operations/{operation}/items/",
    "operations/{operation}/left-out/",
    "approvals/",
    "approvals/decided/",
    "exemptions/",
    "audit-events/",
    "alerts/",
)


@pytest.fixture
def plain(db: None) -> Organization:
    return Organization.objects.create(slug="plain", name="Plain", org_id="p-1", api_url="https://api.atlassian.com")


@pytest.fixture
def client(plain: Organization, operators: Callable[..., Operator]) -> APIClient:
    client = APIClient()
    client.force_login(operators(plain, "owner@aum.example", "owner"))
    return client


def _address(path: str, operation: int = 0) -> str:
    path = path.format(operation=operation)
    return path if path.startswith("/") else f"/api/v1/organizations/plain/{path}"


def _fill(organization: Organization, start: int, stop: int) -> int:
    """Rows `start` to `stop` of everything that has a list; returns the operation that owns items."""
    owner = Operator.objects.get(email="owner@aum.example")
    actor, now = Actor.operator(owner), timezone.now()
    directory, _ = Directory.objects.get_or_create(
        organization=organization, directory_id="d", defaults={"name": "D", "seen_at": now}
    )
    for n in range(start, stop):
        group = Group.objects.create(
            organization=organization, directory=directory, group_id=f"g{n}", name=f"group {n % 7}", grants=[]
        )
        account = Account.objects.create(
            organization=organization,
            account_id=f"a{n}",
            name=f"Person {n % 5}",
            sort_name=f"person {n % 5}",
            email=f"p{n}@x.example",
            account_status=1,
            membership_status=1,
            claim_status=1,
            products=1,
            group_ids=[group.pk],
        )
        ProductAccess.objects.create(
            organization=organization, account=account, product="jira", resource="r", activity=2, group_ids=[group.pk]
        )
        Exemption.objects.create(
            organization=organization, account=account, reason="r", starts_at=now, set_by="x", until=now
        )
        values = RuleInput(name=f"Rule {n}", inactive_days=30, run_at="06:00", protected_groups=(group.pk,))  # type: ignore[arg-type]
        create_rule(organization=organization, values=values, actor=actor, operator=owner)
        operation = Operation.objects.create(
            organization=organization,
            number=n + 1,
            kind="manual_operation",
            mode="live",
            status="held" if n else "running",
            initiator="manual",
            actor=owner,
            actor_text="Owner",
            name=f"Run {n}",
            action="suspend",
            held_reasons=[{"code": "count", "sentence": "Too many."}],
        )
        first = Operation.objects.of(organization).get(number=1)
        OperationItem.objects.create(
            organization=organization,
            operation=first,
            account=account,
            subject=account.account_id,
            action="suspend",
            reason={"code": "idle", "last_active_at": (now - timedelta(days=90)).isoformat()},
        )
        LeftOut.objects.create(organization=organization, operation=first, account=account, reason="protected")
        Approval.objects.create(
            organization=organization,
            operation=operation,
            plan_hash="h",
            decision="approved",
            decided_by=owner,
            decided_by_text="Owner",
            decided_at=now,
            count=1,
        )
        raise_alert(organization=organization, kind="k", severity="info", title=f"Alert {n}", dedup_key=f"k{n}")
        record(organization=organization, actor=actor, action="test.event", target_kind="x", target_ref=str(n))
        other = Organization.objects.create(slug=f"o{n}", name="O", org_id=f"o{n}", api_url="https://api.atlassian.com")
        owner.grants.create(organization=other, role="viewer", granted_at=now, granted_by="x")
    return int(Operation.objects.of(organization).get(number=1).pk)


def _queries(client: APIClient, address: str) -> tuple[int, int]:
    with CaptureQueriesContext(connection) as captured:
        answer = client.get(address)
    assert answer.status_code == 200, answer.content
    return len(captured), len(answer.json()["results"])


def test_two_rows_and_twenty_cost_the_same_queries(client: APIClient, plain: Organization) -> None:
    operation = _fill(plain, 0, 2)
    few = {path: _queries(client, _address(path, operation)) for path in LISTS}

    _fill(plain, 2, 20)
    many = {path: _queries(client, _address(path, operation)) for path in LISTS}

    assert [path for path in LISTS if many[path][1] <= few[path][1]] == []  # each has more rows now
    assert {path: queries for path, (queries, _) in many.items()} == {
        path: queries for path, (queries, _) in few.items()
    }


def test_pages_cover_every_row_once_in_both_directions(client: APIClient, plain: Organization) -> None:
    operation = _fill(plain, 0, 7)

    for path in LISTS:
        _walk_both_ways(client, path, _address(path, operation))


def _walk_both_ways(client: APIClient, path: str, address: str) -> None:
    key = "slug" if path.startswith("/") else "account_id" if "left-out" in path or path == "accounts/" else "id"
    whole = [row[key] for row in client.get(f"{address}?limit=500").json()["results"]]

    forwards, pages = [], []
    url: str | None = f"{address}?limit=3"
    while url:
        page = client.get(url).json()
        pages.append([row[key] for row in page["results"]])
        forwards += pages[-1]
        last, url = page, page["next"]
    backwards = [pages[-1]]
    url = last["previous"]
    while url:
        page = client.get(url).json()
        backwards.insert(0, [row[key] for row in page["results"]])
        url = page["previous"]

    assert forwards == whole, path
    assert len(set(whole)) == len(whole) > 3, path
    assert [row for page in backwards for row in page] == whole, path


def test_counts_only_when_asked(client: APIClient, plain: Organization) -> None:
    _fill(plain, 0, 4)

    assert "count" not in client.get(_address("operations/")).json()
    for asked in ("exact", "estimate"):
        assert client.get(_address(f"operations/?limit=2&count={asked}")).json()["count"] == 4
        assert client.get(_address(f"accounts/?limit=2&count={asked}")).json()["count"] == 4


def test_the_whole_link_is_taken_as_a_cursor(client: APIClient, plain: Organization) -> None:
    _fill(plain, 0, 4)
    link = client.get(_address("operations/?limit=2")).json()["next"]

    by_cursor = client.get(_address("operations/"), {"limit": 2, "cursor": link}).json()
    assert by_cursor["results"] == client.get(link).json()["results"] != []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=many", "limit"),
        ("count=yes", "count"),
        ("cursor=abc", "cursor"),
        ("cursor=%ff", "cursor"),
        ("status=nothing", "status"),
        ("kind=nothing", "kind"),
        ("rule=-1", "rule"),
        ("since=yesterday", "since"),
        ("sinse=2026-01-01", "sinse"),
        ("search=%00", "search"),
    ],
)
def test_wrong_parameters_are_named(query: str, field: str, client: APIClient) -> None:
    answer = client.get(_address(f"operations/?{query}"))

    assert answer.status_code == 422, answer.content
    assert answer.json()["code"] == "invalid"
    assert list(answer.json()["fields"]) == [field]


@pytest.mark.parametrize(
    "query",
    [
        "inactive_days=0",
        "inactive_days=-3",
        "inactive_days=many",
        "ordering=height",
        "group=no-such-group",
        "account_status=green",
        "inactive_dais=60",
        "activity=sometimes",
        "added_before=soon",
        "exempt=perhaps",
    ],
)
def test_wrong_filters_of_people_are_named(query: str, client: APIClient) -> None:
    for path in ("accounts/", "accounts/export/"):
        answer = client.get(_address(f"{path}?{query}"))

        assert answer.status_code == 422
        assert list(answer.json()["fields"]) == [query.partition("=")[0]]


def test_a_cursor_of_another_list_or_organization_is_refused(client: APIClient, plain: Organization) -> None:
    operation = _fill(plain, 0, 4)
    cursor = client.get(_address("operations/?limit=2")).json()["next"].partition("cursor=")[2]

    for path in ("approvals/", "alerts/", "accounts/", f"operations/{operation}/items/"):
        assert client.get(_address(f"{path}?cursor={cursor}")).status_code == 422


def test_people_are_found_by_the_name_of_a_group(client: APIClient, plain: Organization) -> None:
    _fill(plain, 0, 3)

    rows = client.get(_address("accounts/"), {"group": "group 1"}).json()["results"]

    assert [row["account_id"] for row in rows] == ["a1"]
    assert rows[0]["groups"][0]["name"] == "group 1"
    assert rows[0]["products"] == [
        {
            "product": "jira",
            "site": "",
            "activity": "never",
            "last_active_at": None,
            "granted_by": rows[0]["groups"],
            "direct": "unknown",
        }
    ]


def test_exports_hold_everybody_and_no_formula(client: APIClient, plain: Organization) -> None:
    _fill(plain, 0, 3)
    Account.objects.filter(account_id="a0").update(name='=HYPERLINK("http://x")')

    lines = b"".join(client.get(_address("accounts/export/?format=csv"))).decode("utf-8-sig").splitlines()
    rows: list[dict[str, Any]] = json.loads(b"".join(client.get(_address("accounts/export/?format=json"))))
    book = b"".join(client.get(_address("accounts/export/?format=xlsx")))

    assert len(lines) == 4
    assert any("'=HYPERLINK" in line for line in lines)
    assert {row["account_id"] for row in rows} == {"a0", "a1", "a2"}
    assert book[:2] == b"PK"
    events = client.get(_address("audit-events/?action=users.exported")).json()["results"]
    assert [event["after"]["format"] for event in events] == ["xlsx", "json", "csv"]
    audit = json.loads(b"".join(client.get(_address("audit-events/export/?format=json"))))
    assert audit[0]["action"] == "audit.exported"
