"""From connecting an organisation to undoing a live run, over REST alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import requests

from apps.operators.models import Operator
from apps.operators.services import create_token
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.sandbox.server import Sandbox
from tests.api.conftest import Api

RULE = {
    "name": "Suspend the idle",
    "action": "suspend",
    "inactive_days": 60,
    "include_never_active": True,
    "never_active_days": 60,
    "protected_groups": ["jira-administrators"],
    "recurrence": "daily",
    "run_at": "06:00",
}


def effective_writes(sandbox: Sandbox) -> list[dict[str, Any]]:
    entries = sandbox.control.get("ledger")["entries"]
    return [entry for entry in entries if entry["effect"] == "changed" and "/_control/" not in entry["path"]]


def sign_in(base: str, email: str, password: str) -> requests.Session:
    session = requests.Session()
    session.get(f"{base}/login/", timeout=30)
    form = {"login": email, "password": password, "csrfmiddlewaretoken": session.cookies["csrftoken"]}
    session.post(f"{base}/login/", data=form, headers={"Referer": base}, timeout=30)
    assert "sessionid" in session.cookies
    session.headers["X-CSRFToken"] = session.cookies["csrftoken"]
    return session


@pytest.mark.django_db(transaction=True)
def test_whole_journey(
    live_server: Any, sandbox: Sandbox, operators: Callable[..., Operator], work: Callable[[], None]
) -> None:
    owner = Operator.objects.create_user("owner@aum.example", "correct horse battery", is_staff=True)
    session = sign_in(live_server.url, owner.email, "correct horse battery")
    known = sandbox.credentials
    start = sandbox.control.get("state")

    # Connect: wrong values first, then the right ones.
    values = {
        "slug": "acme",
        "name": "Acme",
        "org_id": known.org_id,
        "site_url": sandbox.url,
        "api_url": sandbox.url,
        "admin_email": known.email,
        "api_token": known.api_token,
        "api_key": "wrong",
        "timezone": "Europe/Vienna",
    }
    web = Api(live_server.url, "acme", session=session)
    refused = web.post("/api/v1/organizations/", values, status=422)
    assert refused["code"] == "credentials_refused"
    assert refused["fields"]["api_key"]
    assert not Organization.objects.exists()
    connected = web.post("/api/v1/organizations/", {**values, "api_key": known.api_key}, status=201)
    assert connected["connection"]["code"] == "complete"
    assert all(check["ok"] for check in connected["checks"])
    assert known.api_key not in str(connected)
    assert known.api_token not in str(connected)

    organization = Organization.objects.get(slug="acme")
    approver = operators(organization, "approver@aum.example", "approver")

    def secret(operator: Operator, *scopes: str) -> str:
        return create_token(
            organization=organization, operator=operator, scopes=scopes, actor=Actor.operator(operator)
        )[1]

    api = Api(live_server.url, "acme", secret(owner, "read", "preview", "run", "admin"))
    judge = Api(live_server.url, "acme", secret(approver, "read", "approve"))

    # Sync.
    assert api.post("sync/")["status"] == "queued"
    work()
    sync = api.get("sync/")
    assert (sync["status"], sync["data_trust"]["ok"]) == ("succeeded", True)
    people = api.all("accounts/", limit=100)
    assert len(people) == api.get("accounts/", count="exact", limit=1)["count"] > 200

    # Rule in Safe mode, preview with a reason for each, nothing written.
    rule = api.post("rules/", RULE, status=201)
    assert (rule["mode"], rule["version"]) == ("safe", 1)
    preview = api.post(f"rules/{rule['id']}/preview/")
    work()
    preview = api.get(f"operations/{preview['id']}/")
    assert (preview["status"], preview["mode"]) == ("previewed", "safe")
    items = api.all(f"operations/{preview['id']}/items/", limit=7)
    assert len(items) == preview["planned_count"] > 10
    assert all(item["reason"] and item["reason_code"] in ("idle", "never_active") for item in items)
    assert any(row["reason"] == "protected" for row in api.all(f"operations/{preview['id']}/left-out/"))
    assert effective_writes(sandbox) == []

    # Live: held by the brakes, which the author's own approval cannot release.
    live_rule = api.call("PATCH", f"rules/{rule['id']}/", 200, json={"mode": "live", "version": 1}).json()
    assert live_rule["version"] == 2
    run = api.post(f"rules/{rule['id']}/run/")
    work()
    run = api.get(f"operations/{run['id']}/")
    assert run["status"] == "held", run
    assert run["held_reason"]
    assert effective_writes(sandbox) == []
    assert [row["id"] for row in judge.get("approvals/")["results"]] == [run["id"]]
    own = web.post(f"operations/{run['id']}/approve/", {"plan_hash": run["approval_hash"]}, status=403)
    assert own["code"] == "may_not_approve"
    assert judge.post(f"operations/{run['id']}/approve/", {"plan_hash": "0" * 64}, status=409)["code"] == "plan_changed"
    judge.post(f"operations/{run['id']}/approve/", {"plan_hash": run["approval_hash"]}, status=200)
    work()

    # Exactly the plan minus the skipped, one audit row each.
    run = api.get(f"operations/{run['id']}/")
    assert run["status"] == "succeeded", run
    after = sandbox.control.get("state")
    changed = {account for account in start if start[account] != after[account]}
    done = api.all(f"operations/{run['id']}/items/", outcome="done", limit=500)
    assert changed == {item["account_id"] for item in done}
    assert len(done) == run["counts"]["done"]
    rows = api.all("audit-events/", operation=run["id"], action="account.suspend", outcome="success", limit=500)
    items = done + api.all(f"operations/{run['id']}/items/", outcome="already_so")
    assert Counter(row["target"]["key"] for row in rows) == Counter(item["account_id"] for item in items)

    # Undo: the state of the beginning. A token's plan above 25 people waits for a person, even when it gives.
    undo = api.post(f"operations/{run['id']}/undo/")
    work()
    undo = api.get(f"operations/{undo['id']}/")
    assert [reason["code"] for reason in undo["held_reasons"]] == ["token"], undo
    judge.post(f"operations/{undo['id']}/approve/", {"plan_hash": undo["approval_hash"]}, status=200)
    work()
    assert api.get(f"operations/{undo['id']}/")["status"] == "succeeded"
    assert sandbox.control.get("state") == start
    assert api.get("audit-events/verify/")["ok"]


def test_preview_is_applied_as_it_stands(api: Api, sandbox: Sandbox, work: Callable[[], None]) -> None:
    people = [
        row["account_id"]
        for row in api.all("accounts/", membership_status="active", account_status="active", protected="false")
    ][:3]
    preview = api.post("bulk-actions/", {"accounts": people, "action": "suspend", "reason": "Left the company"})
    work()
    preview = api.get(f"operations/{preview['id']}/")
    assert preview["can"]["apply"]

    assert api.post(f"operations/{preview['id']}/apply/", {"plan_hash": "x"}, status=409)["code"] == "plan_changed"
    live = api.post(f"operations/{preview['id']}/apply/", {"plan_hash": preview["plan_hash"]})
    work()

    live = api.get(f"operations/{live['id']}/")
    assert (live["status"], live["applies"], live["counts"]) == ("succeeded", preview["id"], {"done": 3})
    assert {entry["account"] for entry in effective_writes(sandbox)} == set(people)
    again = api.post(f"operations/{preview['id']}/apply/", {"plan_hash": preview["plan_hash"]}, status=409)
    assert again["code"] == "not_applicable"
