"""The record of writes: complete, replayed, and proof against kill -9."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from apps.sandbox.ledger import LEDGER_FILE, StateDirError
from apps.sandbox.server import Sandbox
from tests.sandbox.client import Client

ROOT = Path(__file__).resolve().parents[2]


def _write_everything(client: Client) -> None:
    """One of each kind of write."""
    account, other = client.account("Idle Person"), client.account("Two Products One Group")
    client.call("POST", f"{client.primary}/users/{account}/suspend", {})
    client.call("DELETE", f"{client.primary}/groups/{client.group('employees')}/memberships/{account}")
    client.call("POST", f"/users/{other}/manage/lifecycle/disable", {})
    client.call("POST", f"{client.primary}/groups", {"name": "made"})
    made = client.group("made")
    client.call("POST", f"{client.primary}/groups/{made}/memberships", {"accountId": other})
    grant = {"resourceId": client.workspace("confluence"), "roleId": "atlassian/user"}
    client.call("POST", f"{client.primary}/groups/{made}/role-assignments/assign", grant)
    rule = {"resource": client.workspace("jira-software"), "role": "atlassian/user"}
    client.call(
        "POST", f"{client.v2}/users/invite", {"emails": ["replayed@larkspur.example"], "permissionRules": [rule]}
    )
    client.call("DELETE", f"{client.primary}/users/{client.account('Direct And Group')}")
    client.call("POST", f"/users/{client.account('Never Active')}/manage/lifecycle/delete")
    body = {"requestTypeId": "11", "serviceDeskId": "1", "requestFieldValues": {"summary": "Kept"}}
    key = client.call("POST", "/rest/servicedeskapi/request", body).body["issueKey"]
    client.call("POST", f"/rest/servicedeskapi/request/{key}/comment", {"body": "Kept too"})
    control = client.sandbox.control
    control.post("touch", {"account": client.account("Active Person"), "at": None})
    control.post("mutate", {"add_person": {"email": "outside@larkspur.example", "groups": ["employees"]}})
    control.post("advance", {"days": 20})


def test_entry_names_who_did_what_to_whom(client: Client) -> None:
    account = client.account("Idle Person")
    client.call("POST", f"{client.primary}/users/{account}/suspend", {})
    answer = client.call("DELETE", f"{client.primary}/groups/{client.group('employees')}/memberships/{account}")

    entry = client.sandbox.control.get("ledger?since=1")["entries"][0]

    assert (entry["seq"], entry["method"], entry["actor"], entry["effect"]) == (2, "DELETE", "api_key", "changed")
    assert (entry["account"], entry["group"]) == (account, client.group("employees"))
    assert entry["request_id"] == answer.headers["x-request-id"]


def test_reads_and_refusals_leave_no_entry(client: Client) -> None:
    client.everybody()
    client.call("POST", f"{client.primary}/users/nobody/suspend", {})
    client.call("POST", f"{client.primary}/users/{client.account('Idle Person')}/suspend", {}, key="expired_key")

    assert client.sandbox.control.get("ledger")["last"] == 0


def test_restart_brings_back_the_same_organisation(tmp_path: Path) -> None:
    with Sandbox(people=200, seed=3, state_dir=tmp_path) as sandbox:
        _write_everything(Client(sandbox))
        before = sandbox.control.get("state")
        requests, info = Client(sandbox).call("GET", "/rest/servicedeskapi/request").body, sandbox.control.get("info")

    with Sandbox(state_dir=tmp_path) as sandbox:
        again = sandbox.control.get("info")
        assert sandbox.control.get("state") == before
        assert (again["seats"], again["as_of"], again["ledger"]) == (info["seats"], info["as_of"], info["ledger"])
        now = Client(sandbox).call("GET", "/rest/servicedeskapi/request").body
        assert [r["issueKey"] for r in now["values"]] == [r["issueKey"] for r in requests["values"]]


def test_reset_forgets_the_writes_on_disk_too(tmp_path: Path) -> None:
    with Sandbox(people=60, seed=3, state_dir=tmp_path) as sandbox:
        before = sandbox.control.get("state")
        _write_everything(Client(sandbox))
        sandbox.control.post("reset")
        assert sandbox.control.get("state") == before

    with Sandbox(state_dir=tmp_path) as sandbox:
        assert sandbox.control.get("state") == before


def test_line_cut_short_is_dropped(tmp_path: Path) -> None:
    with Sandbox(people=60, seed=3, state_dir=tmp_path) as sandbox:
        client = Client(sandbox)
        client.call("POST", f"{client.primary}/users/{client.account('Active Person')}/suspend", {})
        before = sandbox.control.get("state")
    with (tmp_path / LEDGER_FILE).open("ab") as file:
        file.write(b'{"seq":2,"operations":[["gro')

    with Sandbox(state_dir=tmp_path) as sandbox:
        assert sandbox.control.get("state") == before
        assert sandbox.control.get("ledger")["last"] == 1


def test_folder_of_another_organisation_is_refused(tmp_path: Path) -> None:
    with Sandbox(people=60, seed=3, state_dir=tmp_path), pytest.raises(StateDirError, match="another sandbox"):
        Sandbox(state_dir=tmp_path)

    with pytest.raises(StateDirError, match="people=60"):
        Sandbox(people=61, state_dir=tmp_path)


def _start(*options: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "apps.sandbox", "--port", "0", *options], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    found = re.fullmatch(r"sandbox ready on (http://127\.0\.0\.1:\d+) org=(\S+)\n", process.stdout.readline())
    assert found is not None
    return process, found[1]


def test_confirmed_writes_survive_kill_9(tmp_path: Path) -> None:
    process, url = _start("--people", "60", "--seed", "3", "--state-dir", str(tmp_path))
    try:
        with Sandbox(people=60, seed=3) as twin:
            client = Client(twin)
            accounts = [p["accountId"] for p in client.search(limit=40, status=["active"]).rows[1:]]
            client.sandbox.url, client.sandbox.port = url, int(url.rpartition(":")[2])
            confirmed = [
                account
                for account in accounts
                if client.call("POST", f"{client.primary}/users/{account}/suspend", {}).status == 204
            ]
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=5)

    with Sandbox(state_dir=tmp_path) as sandbox:
        state = sandbox.control.get("state")
    assert confirmed
    assert all("suspended" in state[account]["directories"].values() for account in confirmed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_process_ends_at_once_when_told(number: signal.Signals) -> None:
    process, url = _start("--people", "60", "--latency-ms", "20000")
    urllib.request.urlopen(f"{url}/_control/info", timeout=5).close()

    started = time.monotonic()
    process.send_signal(number)

    assert process.wait(timeout=5) == 0
    assert time.monotonic() - started < 2


def test_wrong_start_values_are_told() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "apps.sandbox", "--port", "0", "--people", "7"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=30,
        check=False,
    )

    assert done.returncode == 2
    assert "between 50 and 1000000" in done.stderr
