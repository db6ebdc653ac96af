"""From an empty database to an undone live run, by the command line alone, with no worker running."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.operations.models import Operation, OperationItem
from apps.operators.models import Grant
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.sandbox.server import Sandbox
from apps.users.services import request_sync, run_sync

RULES = """\
version: 1
rules:
  - name: Suspend the idle
    mode: {mode}
    action: suspend
    inactive_days: 60
    include_never_active: true
    never_active_days: 60
    protected_groups:
      - jira-administrators
    recurrence: daily
    run_at: "06:00"
"""


def effective_writes(sandbox: Sandbox) -> list[dict[str, Any]]:
    entries = sandbox.control.get("ledger")["entries"]
    return [entry for entry in entries if entry["effect"] == "changed" and "/_control/" not in entry["path"]]


@pytest.mark.django_db(transaction=True)
def test_whole_journey(aum: Callable[..., Any], sandbox: Sandbox, tmp_path: Path) -> None:
    known, start = sandbox.credentials, sandbox.control.get("state")
    for name, secret in (("password", "correct horse battery"), ("token", known.api_token), ("key", known.api_key)):
        (tmp_path / name).write_text(secret + "\n")

    # The first owner, then the organisation; a wrong key is named and nothing is kept.
    password = ("--password-file", tmp_path / "password")
    aum("operator", "create", "--email", "owner@aum.example", "--role", "owner", *password)
    connect = [
        *("organization", "add", "--slug", "acme", "--name", "Acme", "--org-id", known.org_id),
        *("--site-url", sandbox.url, "--api-url", sandbox.url, "--admin-email", known.email),
        *("--api-token-file", tmp_path / "token", "--timezone", "Europe/Vienna"),
    ]
    refused = aum(*connect, "--api-key-file", "-", stdin="wrong\n", code=1)
    assert "FAIL  api_key" in refused.err
    assert not Organization.objects.exists()
    connected = aum(*connect, "--api-key-file", tmp_path / "key", "--json").data
    assert all(check["ok"] for check in connected["checks"])
    assert connected["owners"] == ["owner@aum.example"]
    assert aum("organization", "check", "--as", "owner@aum.example").out.count("ok  ") == len(connected["checks"])
    aum("operator", "create", "--email", "approver@aum.example", "--role", "approver", *password)
    author = ("--as", "owner@aum.example")

    # Sync: no worker takes it, so the command does it.
    synced = aum("sync", "--wait", "--json", *author)
    assert (synced.data["status"], synced.data["data_trust"]["ok"]) == ("succeeded", True)
    assert "No worker took it" in synced.err

    # A rule from a file; the preview names each person with the reason and writes nothing.
    file = tmp_path / "rules.yaml"
    file.write_text(RULES.format(mode="safe"))
    assert "created: Suspend the idle" in aum("rules", "diff", file).out
    aum("rules", "import", file, *author)
    preview = aum("plan", "--rule", "Suspend the idle", "--json", *author).data
    assert (preview["status"], preview["mode"]) == ("previewed", "safe")
    shown = aum("operations", "show", "--operation", preview["number"], "--items").out
    assert shown.count("suspend: ") == preview["planned_count"] > 10
    assert preview["left_out"]["protected"]
    assert effective_writes(sandbox) == []

    # Applied as it stands: held, and the author cannot release it, nor can a new approver.
    Organization.objects.update(activity_margin_hours=0)
    held = aum("apply", "--operation", preview["number"], "--wait", "--json", *author, code=3).data
    assert held["status"] == "held"
    assert held["plan_hash"] == preview["plan_hash"]
    number = held["number"]
    aum("approve", "--operation", number, code=1)
    assert "may_not_approve" in aum("approve", "--operation", number, *author, code=1).err
    judge = ("--as", "approver@aum.example")
    assert "24 hours" in aum("approve", "--operation", number, *judge, code=1).err
    Grant.objects.filter(role="approver").update(granted_at=timezone.now() - timedelta(hours=25))
    wrong = aum("approve", "--operation", number, "--plan-hash", "0" * 64, *judge, code=1)
    assert "plan_changed" in wrong.err
    assert effective_writes(sandbox) == []
    run = aum("approve", "--operation", number, "--wait", "--json", *judge)
    assert run.data["status"] == "succeeded", run
    assert "In progress" in run.err or "Success" in run.err

    # Exactly the plan minus the skipped, one audit row each.
    after = sandbox.control.get("state")
    operation = Operation.objects.get(number=number)
    items = operation.items.filter(outcome=OperationItem.Outcome.DONE)
    assert {a for a in start if start[a] != after[a]} == set(items.values_list("subject", flat=True))
    rows = AuditEvent.objects.filter(operation_id=operation.pk, action="account.suspend", outcome="success")
    finished = operation.items.filter(outcome__in=["done", "already_so"]).values_list("subject", flat=True)
    assert Counter(rows.values_list("target_ref", flat=True)) == Counter(finished)

    # Undo: the state of the beginning; the chain of audit rows holds.
    undo = aum("undo", "--operation", number, "--wait", "--json", *author).data
    assert undo["status"] == "succeeded", undo
    assert sandbox.control.get("state") == start
    aum("audit", "seal")
    assert aum("audit", "verify", "--json").data[0]["ok"]
    exported = tmp_path / "audit.csv"
    aum("audit", "export", "--output", exported)
    assert "account.suspend" in exported.read_text()


@pytest.mark.django_db(transaction=True)
def test_commands_only_watch_while_workers_work(
    aum: Callable[..., Any], sandbox: Sandbox, connect: Callable[..., Organization]
) -> None:
    """A run that somebody else drives is not driven twice: the lease decides, the command follows the rows."""
    organization = connect(sandbox)
    run = request_sync(organization=organization, actor=Actor.system())

    def work() -> None:
        run_sync(run.pk, budget_seconds=None, wait_here=True)
        connection.close()

    worker = threading.Thread(target=work)
    worker.start()
    result = aum("sync", "--wait")
    worker.join()

    assert "under way already" in result.err
    assert "No worker took it" not in result.err
