"""Each fault does what it says, where it was asked to, as often as it was asked to."""

from __future__ import annotations

import http.client
import time
import urllib.error
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.sandbox.client import Answer, Client


def _fault(client: Client, kind: str, **fields: Any) -> None:
    client.sandbox.control.post("faults", {"kind": kind, **fields})


def _suspend(client: Client, account: str) -> Answer:
    return client.call("POST", f"{client.primary}/users/{account}/suspend", {})


def _log(client: Client, path: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = client.sandbox.control.get(f"requests?path={path}")["requests"]
    return entries


def test_latency(client: Client) -> None:
    _fault(client, "latency", ms=150, path="/directories$")

    started = time.monotonic()
    client.call("GET", f"{client.v2}/directories")

    assert time.monotonic() - started >= 0.15


@pytest.mark.parametrize(
    ("style", "retry_after", "reset"),
    [("retry_after", True, True), ("reset", False, True), ("none", False, False), ("html", True, False)],
)
def test_rate_limit_tells_the_wait_in_the_chosen_way(
    client: Client, style: str, retry_after: bool, reset: bool
) -> None:
    _fault(client, "rate_limit", seconds=2, style=style, count=1)

    answer = client.call("GET", f"{client.v2}/directories")

    assert answer.status == 429
    assert ("retry-after" in answer.headers, "x-ratelimit-reset" in answer.headers) == (retry_after, reset)
    if reset:
        until = datetime.strptime(answer.headers["x-ratelimit-reset"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        assert 1 <= until.timestamp() - time.time() <= 3
    assert isinstance(answer.body, str) == (style == "html")
    assert client.call("GET", f"{client.v2}/directories").status == 200


def test_quota_refuses_beyond_the_limit_and_frees_with_the_window(client: Client) -> None:
    _fault(client, "quota", limit=3, window_ms=1500)

    answers = [client.call("GET", f"{client.v2}/directories") for _ in range(4)]
    elsewhere = client.call("GET", client.v1)
    time.sleep(1.6)

    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert elsewhere.status == 200
    assert client.call("GET", f"{client.v2}/directories").status == 200


def test_quota_counts_one_family_for_all_accounts(client: Client) -> None:
    accounts = [row["accountId"] for row in client.search(limit=6, status=["active"]).rows[3:]]
    _fault(client, "quota", limit=2, window_ms=60_000, path="/suspend$")

    assert [_suspend(client, account).status for account in accounts] == [204, 204, 429]


@pytest.mark.parametrize("body", ["json", "html", "none"])
def test_server_error_does_nothing(client: Client, body: str) -> None:
    account = client.account("Idle Person")
    _fault(client, "error", status=503, body=body, retry_after=7, path="/suspend$")

    answer = _suspend(client, account)

    assert (answer.status, answer.headers["retry-after"]) == (503, "7")
    assert client.state(account)["status"] == "active"


def test_reset_does_nothing(client: Client) -> None:
    account = client.account("Idle Person")
    _fault(client, "reset", path="/suspend$")

    with pytest.raises(OSError):
        _suspend(client, account)

    assert client.state(account)["status"] == "active"


def test_lost_answer_has_done_the_work(client: Client) -> None:
    account = client.account("Idle Person")
    _fault(client, "lost_answer", path="/suspend$", count=1)

    with pytest.raises((OSError, http.client.HTTPException)):
        _suspend(client, account)

    assert client.state(account)["status"] == "suspended"
    assert client.sandbox.control.get("ledger")["entries"][0]["effect"] == "changed"
    entry = _log(client, "/suspend$")[0]
    assert (entry["status"], entry["fault"]) == (None, "lost_answer")


def test_reads_lag_behind_writes(client: Client) -> None:
    account, group = client.account("Idle Person"), client.group("employees")
    _fault(client, "lag", ms=600)

    _suspend(client, account)
    client.call("DELETE", f"{client.primary}/groups/{group}/memberships/{account}")
    early = client.named("Idle Person")
    early_members = [row["accountId"] for row in client.everybody(groupIds=[group])]
    time.sleep(0.7)
    late = client.named("Idle Person")

    assert (early["status"], late["status"]) == ("active", "suspended")
    assert account in early_members
    assert "employees" in {g["name"] for g in early["groups"]}
    assert "employees" not in {g["name"] for g in late["groups"]}
    assert client.state(account)["status"] == "suspended"


def test_new_group_is_found_after_the_lag(client: Client) -> None:
    _fault(client, "lag", ms=400)
    client.call("POST", f"{client.primary}/groups", {"name": "slow"})
    search = f"{client.everywhere}/groups/search"

    early = client.call("POST", search, {"groupNames": ["slow"]}).rows
    time.sleep(0.5)
    late = client.call("POST", search, {"groupNames": ["slow"]}).rows

    assert (len(early), len(late)) == (0, 1)


def test_repeated_cursor_never_ends(client: Client) -> None:
    first = client.search(limit=50).body["links"]["next"]
    _fault(client, "repeat_cursor", path="/users/search")

    assert client.search(cursor=first).body["links"]["next"] == first


def test_repeated_page_shows_the_first_rows_again(client: Client) -> None:
    _fault(client, "repeat_page", path="/users/search")
    first = client.search(limit=50)

    second = client.search(limit=50, cursor=first.body["links"]["next"])

    assert second.rows == first.rows


def test_list_is_cut_in_silence(client: Client) -> None:
    _fault(client, "truncated_list", keep=7, path="/users/search")

    page = client.search(limit=50)

    assert (len(page.rows), "next" in page.body["links"]) == (7, False)


def test_unknown_words_and_nulls(client: Client) -> None:
    _fault(client, "unknown_enum", path="/users/search", count=1)
    odd = client.search(limit=1).rows[0]
    _fault(client, "nulls", path="/users/search", count=1)
    empty = client.search(limit=1).rows[0]

    assert (odd["status"], odd["accountStatus"]) == ("quantum", "quantum")
    assert (empty["email"], empty["addedToOrg"]) == (None, None)


def test_html_and_broken_json(client: Client) -> None:
    _fault(client, "html", path="/directories$", count=1)
    page = client.call("GET", f"{client.v2}/directories")
    _fault(client, "malformed", path="/directories$", count=1)
    broken = client.call("GET", f"{client.v2}/directories")

    assert (page.status, page.body[:9]) == (200, "<!DOCTYPE")
    assert isinstance(broken.body, str)


def test_lost_activity_hits_the_same_people_each_time(client: Client) -> None:
    def active() -> set[str]:
        rows = client.everybody(expand=["productAccess"])
        return {row["accountId"] for row in rows if row["productAccess"]}

    before = active()
    _fault(client, "drop_activity", percent=30)
    after = active()

    assert after == active()
    assert after < before
    assert 0.6 < len(after) / len(before) < 0.8


def test_lost_people_are_missing_from_lists_but_counted(client: Client) -> None:
    _fault(client, "drop_people", percent=50)

    listed = len(client.everybody())
    counted = client.call("GET", f"{client.everywhere}/users/count").body["count"]

    assert listed < counted * 0.6


def test_key_expires_in_the_middle(client: Client) -> None:
    _fault(client, "key_expires", after=2)

    statuses = [client.call("GET", client.v1).status for _ in range(4)]

    assert statuses == [200, 200, 401, 401]


def test_skip_and_count_choose_the_requests(client: Client) -> None:
    _fault(client, "error", path="/directories$", skip=1, count=2)

    assert [client.call("GET", f"{client.v2}/directories").status for _ in range(4)] == [200, 503, 503, 200]


def test_probability_repeats_with_its_seed(client: Client) -> None:
    def pattern() -> list[int]:
        client.sandbox.control.post("faults", {"clear": True})
        _fault(client, "error", probability=0.5, seed=9)
        return [client.call("GET", client.v1).status for _ in range(20)]

    first = pattern()

    assert pattern() == first
    assert set(first) == {200, 503}


def test_method_narrows_and_clear_ends(client: Client) -> None:
    _fault(client, "error", method="POST")
    assert client.call("GET", client.v1).status == 200
    assert client.search(limit=1).status == 503

    client.sandbox.control.post("faults", {"clear": True})

    assert client.search(limit=1).status == 200


@pytest.mark.parametrize(
    "wrong", [{"kind": "earthquake"}, {"kind": "latency", "hours": 1}, {"kind": "reset", "path": "("}]
)
def test_unknown_fault_is_refused(client: Client, wrong: dict[str, Any]) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        client.sandbox.control.post("faults", wrong)

    assert refused.value.code == 400


def test_log_tells_when_each_request_started_and_the_wait_it_was_told(client: Client) -> None:
    _fault(client, "rate_limit", seconds=3, path="/directories$", count=1)
    before = time.monotonic() * 1000
    client.call("GET", f"{client.v2}/directories")
    client.call("GET", f"{client.v2}/directories")

    first, second = _log(client, "/directories$")

    assert (first["status"], first["wait_seconds"], second["status"]) == (429, 3.0, 200)
    assert before <= first["started_mono_ms"] <= first["finished_mono_ms"] <= second["started_mono_ms"]
    assert first["key"] == "api_key"


def test_request_during_a_told_wait_is_named(client: Client) -> None:
    _fault(client, "rate_limit", seconds=2, style="reset", path="/directories$", count=1)
    client.call("GET", f"{client.v2}/directories")
    client.call("GET", client.v1)
    time.sleep(0.2)
    client.call("GET", f"{client.v2}/directories")

    found = client.sandbox.control.get("early")
    everywhere = client.sandbox.control.get("early?grace_ms=0&scope=all")

    assert (found["waits"], [entry["told_by"] for entry in found["early"]]) == (1, [1])
    assert len(everywhere["early"]) == 2


def test_changes_from_outside_are_refused_before_they_reach_the_ledger(client: Client) -> None:
    account = client.account("Idle Person")
    for wrong in (
        {"account": account, "add_role": ["ari:cloud:none", "atlassian/user"]},
        {"account": account, "add_group": "no such group"},
        {"add_person": {"email": client.known.email}},
        {},
    ):
        with pytest.raises(urllib.error.HTTPError):
            client.sandbox.control.post("mutate", wrong)

    assert client.sandbox.control.get("ledger")["last"] == 0


def test_changes_from_outside_are_seen_by_everybody(client: Client) -> None:
    account, control = client.account("Idle Person"), client.sandbox.control

    control.post("mutate", {"account": account, "add_group": "c-level", "status": "suspended"})
    added = control.post("mutate", {"add_person": {"email": "walk.in@larkspur.example", "name": "Walk In"}})["account"]

    person = client.named("Idle Person")
    assert person["status"] == "suspended"
    assert "c-level" in {group["name"] for group in person["groups"]}
    assert client.account("Walk In") == added
    control.post("mutate", {"remove_person": added})
    assert client.state(added)["status"] == "closed"
