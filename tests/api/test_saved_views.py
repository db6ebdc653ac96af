"""Saved views, columns, export jobs and the timeline over REST."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from apps.operators.models import Operator
from apps.operators.services import create_token
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.users.services.exports import write_export
from tests.users.conftest import make_account, make_group, plain_organization

pytestmark = pytest.mark.django_db
BASE = "/api/v1/organizations/plain/"


@pytest.fixture
def plain(db: None) -> Organization:
    return plain_organization("plain")


@pytest.fixture
def api(plain: Organization, operators: Callable[..., Operator]) -> Callable[..., APIClient]:
    """A client with a token of somebody with the role admin and these scopes."""

    def make(*scopes: str) -> APIClient:
        operator = Operator.objects.filter(email="a@aum.example").first() or operators(plain, "a@aum.example", "admin")
        token = create_token(organization=plain, operator=operator, name="t", scopes=list(scopes), actor=Actor.system())
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {_secret(token)}")
        return client

    return make


def _secret(token: Any) -> str:
    return next(str(part) for part in token if isinstance(part, str)) if isinstance(token, tuple) else str(token)


def test_view_is_kept_changed_and_deleted_with_groups_by_name(
    plain: Organization, api: Callable[..., APIClient]
) -> None:
    group = make_group(plain, "contractors")
    client = api("read", "run")

    made = client.post(
        f"{BASE}saved-views/",
        {"name": "Externals", "is_shared": True, "filter": {"group": "contractors", "added_days": 60}},
        format="json",
    )

    assert made.status_code == 201, made.content
    assert made.json()["filter"] == {"group": [str(group.pk)], "added_days": ["60"]}
    changed = client.patch(made["Location"], {"filter": {"exempt": False}}, format="json").json()
    assert (changed["name"], changed["filter"]) == ("Externals", {"exempt": ["false"]})
    assert [view["name"] for view in client.get(f"{BASE}saved-views/").json()["results"]] == ["Externals"]
    wrong = client.post(f"{BASE}saved-views/", {"name": "x", "filter": {"shoe": "9"}}, format="json")
    assert (wrong.status_code, list(wrong.json()["fields"])) == (422, ["filter.shoe"])
    assert client.delete(made["Location"]).status_code == 204
    assert client.get(made["Location"]).status_code == 404


def test_token_that_only_reads_writes_no_view_and_no_columns(
    plain: Organization, api: Callable[..., APIClient]
) -> None:
    client = api("read")

    assert client.post(f"{BASE}saved-views/", {"name": "x"}, format="json").status_code == 403
    assert client.put(f"{BASE}account-columns/", {"columns": ["kind"]}, format="json").status_code == 403
    assert client.get(f"{BASE}account-columns/").json()["columns"][0] == "account_status"
    writer = api("run")
    assert writer.put(f"{BASE}account-columns/", {"columns": ["kind"]}, format="json").json() == {"columns": ["kind"]}
    assert writer.delete(f"{BASE}account-columns/").json()["columns"][0] == "account_status"


def test_export_is_written_by_a_worker_and_fetched(
    plain: Organization, api: Callable[..., APIClient], settings: Any, tmp_path: Path
) -> None:
    settings.AUM_DATA_DIR = tmp_path
    make_account(plain, name="Ann")
    make_account(plain, name="Ben")
    client = api("read")

    job = client.post(f"{BASE}account-exports/?search=ann&columns=kind&format=csv")
    assert job.status_code == 202
    assert client.get(f"{job['Location']}file/").status_code == 422
    write_export(job.json()["id"])

    assert client.get(job["Location"]).json()["status"] == "succeeded"
    lines = b"".join(client.get(f"{job['Location']}file/")).decode("utf-8-sig").splitlines()
    assert lines[0] == "account_id,name,email,kind"
    assert len(lines) == 2
    assert client.delete(job["Location"]).json()["status"] == "expired"
    assert list(tmp_path.rglob("*.csv")) == []


def test_timeline_is_told_over_rest(plain: Organization, api: Callable[..., APIClient]) -> None:
    account = make_account(plain)
    client = api("read")

    told = client.get(f"{BASE}accounts/{account.account_id}/timeline/?kind=presence").json()

    assert [entry["title"] for entry in told["results"]] == ["First seen by a sync"]
    assert client.get(f"{BASE}accounts/{account.account_id}/timeline/?kind=gossip").status_code == 422
    assert client.get(f"{BASE}accounts/nobody/timeline/").status_code == 404
