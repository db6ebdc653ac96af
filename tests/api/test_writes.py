"""Writes over REST: idempotency, versions of rules, groups by name, and a clear refusal for each wrong value."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from apps.operations import planning
from apps.operations.models import Operation
from apps.operators.models import IdempotencyKey, Operator
from apps.operators.services import create_token
from apps.organizations.models import Alert, CapabilityCheck, Credential, Directory, Organization
from apps.organizations.recorder import Actor
from apps.organizations.services import SETTINGS_FIELDS, raise_alert
from apps.rules.models import CleanupRule
from apps.users.models import Account, Exemption, Group

RULE = {"name": "Idle", "inactive_days": 60, "run_at": "06:00"}


@pytest.fixture
def plain(db: None) -> Organization:
    """With credentials that look checked, two people and three groups, two of one name."""
    organization = Organization.objects.create(
        slug="plain", name="Plain", org_id="p-1", api_url="https://api.atlassian.com"
    )
    now = timezone.now()
    for kind in Credential.Kind.values:
        Credential.objects.create(
            organization=organization,
            kind=kind,
            encrypted_value=b"x",
            set_at=now,
            set_by="x",
            owner_email="a@x.example",
        )
    CapabilityCheck.objects.create(organization=organization, capability="reach", ok=True, checked_at=now)
    for place, names in (("d1", ("jira-administrators", "staff")), ("d2", ("staff",))):
        directory = Directory.objects.create(organization=organization, directory_id=place, name=place, seen_at=now)
        for name in names:
            Group.objects.create(
                organization=organization,
                directory=directory,
                group_id=f"{place}-{name}",
                name=name,
                are_grants_known=True,
            )
    for name in ("anna", "bert"):
        Account.objects.create(
            organization=organization,
            account_id=name,
            name=name.title(),
            sort_name=name,
            account_status=1,
            membership_status=1,
            claim_status=1,
        )
    return organization


@pytest.fixture
def client(plain: Organization, operators: Callable[..., Operator]) -> APIClient:
    client = APIClient()
    client.force_login(operators(plain, "owner@aum.example", "owner"))
    return client


def at(path: str) -> str:
    return f"/api/v1/organizations/plain/{path}"


def make_rule(client: APIClient, **fields: Any) -> dict[str, Any]:
    answer = client.post(at("rules/"), {**RULE, **fields}, format="json")
    assert answer.status_code == 201, answer.content
    return dict(answer.json())


# --- idempotency ------------------------------------------------------------------------------------------------------


def test_a_repeat_with_the_same_key_changes_nothing(client: APIClient) -> None:
    first = client.post(at("rules/"), RULE, format="json", HTTP_IDEMPOTENCY_KEY="k-1")
    again = client.post(at("rules/"), RULE, format="json", HTTP_IDEMPOTENCY_KEY="k-1")

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again["Location"] == first["Location"]
    assert again["Idempotent-Replayed"] == "true"
    assert CleanupRule.objects.count() == 1


def test_a_repeated_delete_gets_its_first_answer(client: APIClient) -> None:
    address = at(f"rules/{make_rule(client)['id']}/")

    answers = [client.delete(address, HTTP_IDEMPOTENCY_KEY="k-1") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [204, 204]
    assert client.delete(address).status_code == 404


def test_another_body_with_the_same_key_is_refused(client: APIClient) -> None:
    client.post(at("rules/"), RULE, format="json", HTTP_IDEMPOTENCY_KEY="k-1")

    answer = client.post(at("rules/"), {**RULE, "name": "Other"}, format="json", HTTP_IDEMPOTENCY_KEY="k-1")

    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_mismatch")
    assert CleanupRule.objects.count() == 1


def test_a_refused_write_can_be_repeated_with_its_key(client: APIClient) -> None:
    refused = client.post(at("rules/"), {**RULE, "inactive_days": 0}, format="json", HTTP_IDEMPOTENCY_KEY="k-1")
    accepted = client.post(at("rules/"), RULE, format="json", HTTP_IDEMPOTENCY_KEY="k-1")

    assert (refused.status_code, accepted.status_code) == (422, 201)


def test_keys_are_ones_own(client: APIClient, plain: Organization, operators: Callable[..., Operator]) -> None:
    client.post(at("rules/"), RULE, format="json", HTTP_IDEMPOTENCY_KEY="k-1")
    other = APIClient()
    other.force_login(operators(plain, "other@aum.example", "admin"))

    answer = other.post(at("rules/"), {**RULE, "name": "Other"}, format="json", HTTP_IDEMPOTENCY_KEY="k-1")

    assert answer.status_code == 201


def test_a_key_that_is_too_long_is_refused(client: APIClient) -> None:
    answer = client.post(at("rules/"), RULE, format="json", HTTP_IDEMPOTENCY_KEY="k" * 300)

    assert (answer.status_code, list(answer.json()["fields"])) == (422, ["Idempotency-Key"])


@pytest.mark.django_db(transaction=True)
def test_two_at_once_with_one_key_act_once(client: APIClient) -> None:
    operator = Operator.objects.get(email="owner@aum.example")
    answers: list[Any] = []

    def send() -> None:
        mine = APIClient()
        mine.force_login(operator)
        answers.append(mine.post(at("rules/"), RULE, format="json", HTTP_IDEMPOTENCY_KEY="k-1"))
        connection.close()

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert CleanupRule.objects.count() == IdempotencyKey.objects.count() == 1


# --- rules ------------------------------------------------------------------------------------------------------------


def test_rules_carry_a_version_and_an_etag(client: APIClient) -> None:
    rule = make_rule(client, protected_groups=["jira-administrators"], products=["jira"])
    address = at(f"rules/{rule['id']}/")
    answer = client.get(address)

    assert answer["ETag"] == '"1"'
    assert answer.json()["run_at"] == "06:00"
    assert answer.json()["inactive_products"] == answer.json()["products"] == ["jira"]
    assert [group["name"] for group in answer.json()["protected_groups"]] == ["jira-administrators"]
    assert answer.json()["next_run_at"].endswith("Z")

    changed = client.patch(address, {"inactive_days": 90}, format="json", HTTP_IF_MATCH='"1"')
    late = client.patch(address, {"inactive_days": 30}, format="json", HTTP_IF_MATCH='"1"')
    late_too = client.patch(address, {"inactive_days": 30, "version": 1}, format="json")

    assert (changed.status_code, changed["ETag"]) == (200, '"2"')
    assert (late.status_code, late.json()["code"]) == (409, "rule_changed")
    assert late_too.status_code == 409
    assert client.get(address).json()["inactive_days"] == 90


def test_what_was_read_can_be_sent_back(client: APIClient) -> None:
    rule = make_rule(
        client, protected_groups=["jira-administrators"], action="remove_product_access", products=["jira"]
    )
    address = at(f"rules/{rule['id']}/")

    same = client.put(address, rule, format="json")
    other = client.put(address, {**rule, "products": ["confluence"]}, format="json")

    assert (same.status_code, same.json()["version"]) == (200, 1), same.content
    assert (other.json()["version"], other.json()["target_products"]) == (2, ["confluence"])


def test_put_goes_back_to_defaults(client: APIClient) -> None:
    rule = make_rule(client, protected_groups=["jira-administrators"], include_never_active=True, never_active_days=9)

    answer = client.put(at(f"rules/{rule['id']}/"), RULE, format="json")

    assert (answer.json()["include_never_active"], answer.json()["protected_groups"]) == (False, [])


def test_a_rule_cannot_begin_in_live_mode(client: APIClient) -> None:
    answer = client.post(at("rules/"), {**RULE, "mode": "live"}, format="json")

    assert (answer.status_code, answer.json()["code"]) == (422, "live_needs_preview")


def test_conditions_owner_and_blackouts_are_given_and_answered_alike(client: APIClient) -> None:
    given = {
        "conditions": [{"name": "domain", "domains": ["Example.com"], "not": True}],
        "blackout_dates": ["2026-12-24..2027-01-06"],
        "notes": "Agreed.\nSee HR-17.",
        "window_minutes": 120,
    }

    rule = make_rule(client, **given)

    assert rule["conditions"] == [{"name": "domain", "domains": ["example.com"], "not": True}]
    assert (rule["blackout_dates"], rule["notes"], rule["window_minutes"]) == (
        given["blackout_dates"],
        given["notes"],
        120,
    )
    assert (rule["owner"], len(rule["next_runs"]), rule["regret"]["percent"]) == ("owner@aum.example", 5, None)
    wrong = client.patch(
        at(f"rules/{rule['id']}/"), {"conditions": [{"name": "domain", "domains": []}]}, format="json"
    ).json()
    assert list(wrong["fields"]) == ["conditions.0"]


def test_a_rule_is_estimated_copied_and_stands_in_its_ladder(client: APIClient) -> None:
    rule = make_rule(client)
    body = {"name": rule["name"], "action": "deactivate", "inactive_days": 90, "recurrence": "daily", "run_at": "03:00"}

    estimate = client.post(at("rules/estimate/"), body, format="json")
    refused = client.post(at("rules/estimate/"), {**body, "inactive_days": 0}, format="json")
    copy = client.post(at(f"rules/{rule['id']}/duplicate/"))
    client.patch(at(f"rules/{copy.json()['id']}/"), {"action": "deactivate"}, format="json")
    ladders = client.get(at("rules/ladders/")).json()["results"]

    assert estimate.status_code == 200, "the name may be that of a rule that exists"
    assert estimate.json()["matches"] == 0
    assert len(estimate.json()["next_runs"]) == 5
    assert "deactivate managed users" in estimate.json()["sentence"]
    assert (refused.status_code, list(refused.json()["fields"])) == (422, ["inactive_days"])
    assert (copy.status_code, copy.json()["mode"], copy.json()["name"]) == (201, "safe", f"{rule['name']} (copy)")
    assert copy["Location"] == at(f"rules/{copy.json()['id']}/")
    assert [[rung["action"] for rung in ladder["rungs"]] for ladder in ladders] == [["suspend", "deactivate"]]


def test_versions_say_what_changed(client: APIClient) -> None:
    rule = make_rule(client)
    client.patch(at(f"rules/{rule['id']}/"), {"inactive_days": 77}, format="json")

    newest, first = client.get(at(f"rules/{rule['id']}/versions/")).json()["results"]

    assert (newest["version"], first["version"]) == (2, 1)
    assert [change["name"] for change in newest["changes"]] == ["inactive_days"]


def test_pausing_is_a_field(client: APIClient) -> None:
    rule = make_rule(client)
    address = at(f"rules/{rule['id']}/")

    paused = client.patch(address, {"is_paused": True, "paused_reason": "Holidays"}, format="json").json()
    resumed = client.patch(address, {"is_paused": False}, format="json").json()

    assert (paused["is_paused"], paused["paused_reason"], paused["next_run_at"]) == (True, "Holidays", None)
    assert (resumed["is_paused"], resumed["version"]) == (False, 1)


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("inactive_days", 0, 422),
        ("inactive_days", -5, 422),
        ("inactive_days", "many", 400),
        ("inactive_days", 10**30, 422),
        ("name", "", 400),
        ("name", "x" * 500, 422),
        ("name", {"a": 1}, 400),
        ("run_at", "25:00", 422),
        ("run_at", 600, 422),
        ("timezone", "Mars/Base", 422),
        ("mode", "dangerous", 400),
        ("action", "explode", 400),
        ("protected_groups", ["no such group"], 422),
        ("protected_groups", ["staff"], 422),
        ("protected_groups", [10**15], 422),
        ("protected_groups", "staff", 400),
        ("max_count", 0, 422),
        ("max_share_percent", 101, 422),
        ("max_share_percent", "NaN", 400),
        ("month_day", 40, None),
        ("recurrence", "hourly", 400),
        ("inactive_dais", 3, 422),
        ("products", ["../../etc"], 422),
    ],
)
def test_wrong_values_of_a_rule_are_named(field: str, value: Any, status: int | None, client: APIClient) -> None:
    body = {**RULE, field: value}
    if field == "month_day":
        body, status = {**body, "recurrence": "monthly"}, 422
    named = "inactive_products" if field == "products" else field

    answer = client.post(at("rules/"), body, format="json")

    assert answer.status_code == status, answer.content
    assert answer.json()["code"] == "invalid"
    assert [name.partition(".")[0] for name in answer.json()["fields"]] == [named]
    assert not CleanupRule.objects.exists()


def test_names_of_several_groups_are_told_apart_by_id(client: APIClient) -> None:
    ids = sorted(Group.objects.filter(name="staff").values_list("pk", flat=True))
    answer = client.post(at("rules/"), {**RULE, "protected_groups": ["staff"]}, format="json")

    assert str(ids[0]) in answer.json()["fields"]["protected_groups"][0]
    assert len(make_rule(client, protected_groups=[ids[0], "d2-staff"])["protected_groups"]) == 2


def test_a_second_rule_of_a_name_is_refused(client: APIClient) -> None:
    make_rule(client)

    answer = client.post(at("rules/"), RULE, format="json")

    assert (answer.status_code, list(answer.json()["fields"])) == (422, ["name"])


def test_a_deleted_rule_is_gone(client: APIClient) -> None:
    rule = make_rule(client)

    assert client.delete(at(f"rules/{rule['id']}/")).status_code == 204
    for method, path in (("get", ""), ("post", "preview/"), ("post", "run/"), ("delete", "")):
        answer = getattr(client, method)(at(f"rules/{rule['id']}/{path}"), format="json")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


# --- bulk actions, operations -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "action"),
        ({"action": "suspend"}, "accounts"),
        ({"accounts": [], "action": "suspend"}, "accounts"),
        ({"accounts": ["nobody"], "action": "suspend"}, "accounts"),
        ({"accounts": ["anna"], "action": "explode"}, "action"),
        ({"accounts": ["anna"], "filter": {}, "action": "suspend"}, "accounts"),
        ({"filter": {"inactive_dais": 60}, "action": "suspend"}, "filter.inactive_dais"),
        ({"filter": {"inactive_days": "x"}, "action": "suspend"}, "filter.inactive_days"),
        ({"filter": {"group": ["nowhere"]}, "action": "suspend"}, "filter.group"),
        ({"filter": {"search": {"a": 1}}, "action": "suspend"}, "filter.search"),
        ({"filter": "everybody", "action": "suspend"}, "filter"),
        ({"accounts": ["anna"], "action": "suspend", "mode": "wild"}, "mode"),
        ({"accounts": ["anna"], "action": "add_to_group"}, "groups"),
        ({"accounts": ["anna"], "action": "add_to_group", "groups": ["nowhere"]}, "groups"),
        ({"accounts": ["anna"], "action": "remove_product_access"}, "products"),
        ({"accounts": ["anna"], "action": "suspend", "actions": ["restore"]}, "actions"),
        ({"accounts": ["anna"], "actoin": "suspend"}, "actoin"),
        ([1, 2], None),
    ],
)
def test_wrong_bulk_actions_are_named(body: Any, field: str | None, client: APIClient) -> None:
    answer = client.post(at("bulk-actions/"), body, format="json")

    assert answer.status_code in (400, 422), answer.content
    if field:
        assert list(answer.json()["fields"]) == [field]
    assert not Operation.objects.exists()


def test_several_actions_are_one_operation(client: APIClient, plain: Organization) -> None:
    body = {"filter": {"search": "ann"}, "actions": ["suspend", "remove_from_group"], "groups": ["d1-staff"]}

    answer = client.post(at("bulk-actions/"), body, format="json")

    assert answer.status_code == 202, answer.content
    assert answer.json()["action"] == "remove_from_group+suspend"
    assert (answer.json()["mode"], answer.json()["status"]) == ("safe", "planning")
    assert answer["Location"] == at(f"operations/{answer.json()['id']}/")


def test_live_needs_the_permission_to_act(plain: Organization, operators: Callable[..., Operator]) -> None:
    operator = operators(plain, "h@aum.example", "helpdesk")
    _row, secret = create_token(
        organization=plain, operator=operator, scopes=["read", "preview"], actor=Actor.operator(operator)
    )
    client = APIClient(HTTP_AUTHORIZATION=f"Bearer {secret}")
    body = {"accounts": ["anna"], "action": "suspend"}

    assert client.post(at("bulk-actions/"), {**body, "mode": "live"}, format="json").status_code == 403
    assert client.post(at("bulk-actions/"), body, format="json").status_code == 202


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("pause/", "wrong_state"),
        ("resume/", "wrong_state"),
        ("undo/", "not_applicable"),
        ("retry-failed/", "not_applicable"),
        ("apply/", "not_applicable"),
        ("approve/", "not_held"),
        ("reject/", "not_held"),
    ],
)
def test_what_the_state_does_not_allow_is_said(path: str, code: str, client: APIClient) -> None:
    operation = client.post(at("bulk-actions/"), {"accounts": ["anna"], "action": "suspend"}, format="json").json()
    body = {"apply/": {"plan_hash": "x"}, "approve/": {"plan_hash": "x"}, "reject/": {"reason": "no"}}.get(path, {})

    answer = client.post(at(f"operations/{operation['id']}/{path}"), body, format="json")

    assert (answer.status_code, answer.json()["code"]) == (409, code)


def test_who_only_looks_holds_nobody_back_and_undoes_nothing(
    client: APIClient, plain: Organization, operators: Callable[..., Operator]
) -> None:
    held = Operation.objects.create(
        organization=plain,
        kind="manual_operation",
        mode="live",
        status="held",
        initiator="manual",
        name="x",
        actor_text="x",
        action="suspend",
        number=77,
    )
    viewer = APIClient()
    viewer.force_login(operators(plain, "viewer@aum.example", "viewer"))
    hold = {"accounts": [Account.objects.get(account_id="anna").pk], "reason": "on leave"}

    answer = viewer.post(at(f"operations/{held.pk}/hold-rows/"), hold, format="json")
    assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")
    assert "Only who may approve, or its author" in answer.json()["detail"]
    assert viewer.post(at("accounts/anna/undo/"), {}, format="json").status_code == 403
    assert client.post(at("accounts/nobody/undo/"), {}, format="json").status_code == 404
    assert client.post(at("accounts/anna/undo/"), {}, format="json").status_code == 409


def test_one_operator_confirms_by_count_and_password_and_never_by_token(client: APIClient, plain: Organization) -> None:
    Organization.objects.filter(pk=plain.pk).update(is_one_operator=True)
    owner = Operator.objects.get(email="owner@aum.example")
    held = Operation.objects.create(
        organization=plain,
        number=1,
        kind="manual_operation",
        mode="live",
        status="held",
        initiator="manual",
        actor=owner,
        actor_text="Owner",
        name="Restore",
        action="restore",
        people_count=3,
        held_reasons=[{"code": "token", "sentence": "Started by a token."}],
    )
    held.plan_hash, _items, _people = planning.freeze(held)
    held.save()
    _row, secret = create_token(
        organization=plain, operator=owner, scopes=["read", "approve"], actor=Actor.operator(owner)
    )
    script = APIClient(HTTP_AUTHORIZATION=f"Bearer {secret}")
    address = at(f"operations/{held.pk}/approve/")
    body = {"plan_hash": held.plan_hash, "confirm_count": 3, "password": "correct horse battery"}

    assert client.get(at(f"operations/{held.pk}/")).json()["can"]["approve"] is True
    assert script.post(address, body, format="json").json()["code"] == "may_not_approve"
    wrong = client.post(address, {**body, "confirm_count": 4, "password": "guess"}, format="json")
    assert (wrong.status_code, set(wrong.json()["fields"])) == (422, {"confirm_count", "password"})
    assert client.post(address, body, format="json").json()["status"] == "queued"


def test_a_planning_can_be_cancelled(client: APIClient) -> None:
    operation = client.post(at("bulk-actions/"), {"accounts": ["anna"], "action": "suspend"}, format="json").json()

    answer = client.post(at(f"operations/{operation['id']}/cancel/"), format="json")

    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")


def test_operations_of_another_organization_are_not_found(client: APIClient) -> None:
    other = Organization.objects.create(slug="other", name="O", org_id="o-1", api_url="https://api.atlassian.com")
    foreign = Operation.objects.create(
        organization=other, number=1, kind="manual_operation", mode="safe", initiator="manual", actor_text="x", name="x"
    )

    for path in ("", "items/", "left-out/"):
        assert client.get(at(f"operations/{foreign.pk}/{path}")).status_code == 404
    assert client.post(at(f"operations/{foreign.pk}/cancel/"), format="json").status_code == 404


# --- exemptions, alerts, kill switch ----------------------------------------------------------------------------------


def test_exemptions_are_set_moved_and_ended(client: APIClient) -> None:
    made = client.post(at("exemptions/"), {"account_id": "anna", "reason": "Parental leave"}, format="json")
    assert made.status_code == 201, made.content
    address = at(f"exemptions/{made.json()['id']}/")

    twice = client.post(at("exemptions/"), {"account_id": "anna", "reason": "Again"}, format="json")
    moved = client.patch(address, {"reason": "Longer", "until": "2099-01-01T00:00:00Z"}, format="json")
    ended = client.delete(address)
    over = client.delete(address)

    assert twice.status_code == 409
    assert moved.json()["until"] == "2099-01-01T00:00:00.000000Z"
    assert ended.json()["ended_at"]
    assert over.status_code == 409
    assert client.get(at("exemptions/?in_force=true")).json()["results"] == []
    assert len(client.get(at("exemptions/?in_force=false&account_id=anna")).json()["results"]) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"account_id": "anna"}, "reason"),
        ({"account_id": "anna", "reason": "  "}, "reason"),
        ({"reason": "x"}, "account_id"),
        ({"account_id": "anna", "reason": "x", "until": "2001-01-01T00:00:00Z"}, "until"),
        ({"account_id": "anna", "reason": "x", "until": "soon"}, "until"),
        ({"account_id": "anna", "reason": "x\u0000"}, "reason"),
    ],
)
def test_wrong_exemptions_are_named(body: dict[str, Any], field: str, client: APIClient) -> None:
    answer = client.post(at("exemptions/"), body, format="json")

    assert answer.status_code in (400, 422)
    assert list(answer.json()["fields"]) == [field]
    assert not Exemption.objects.exists()


def test_an_exemption_needs_a_person_of_this_organization(client: APIClient) -> None:
    answer = client.post(at("exemptions/"), {"account_id": "nobody", "reason": "x"}, format="json")

    assert answer.status_code == 404


def test_alerts_are_resolved(client: APIClient, plain: Organization) -> None:
    alert = raise_alert(organization=plain, kind="k", severity="error", title="Look")

    answer = client.post(at(f"alerts/{alert.pk}/resolve/"), format="json")

    assert answer.json()["resolved_by"]
    assert client.get(at("alerts/")).json()["results"] == []
    assert len(client.get(at("alerts/?state=resolved")).json()["results"]) == 1
    assert Alert.objects.get().resolved_at


def test_the_kill_switch_needs_reasons_both_ways(client: APIClient, plain: Organization) -> None:
    assert client.post(at("kill-switch/"), {}, format="json").status_code == 400
    assert client.post(at("kill-switch/"), {"reason": "Odd numbers"}, format="json").json()["is_killed"]
    assert client.delete(at("kill-switch/")).status_code == 422
    assert client.delete(at("kill-switch/?reason=Checked")).json()["is_killed"] is False


def test_a_sync_that_never_was_is_not_found_and_one_at_a_time_runs(client: APIClient) -> None:
    assert client.get(at("sync/")).status_code == 404
    first, second = (client.post(at("sync/"), format="json") for _ in range(2))

    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["id"] == second.json()["id"]
    assert client.get(at("sync/")).json()["status"] == "queued"


def test_bodies_must_be_json(client: APIClient) -> None:
    broken = client.post(at("rules/"), "{", content_type="application/json")
    other = client.post(at("rules/"), "name=x", content_type="application/x-www-form-urlencoded")

    assert (broken.status_code, broken.json()["code"]) == (400, "parse_error")
    assert (other.status_code, other.json()["code"]) == (415, "unsupported_media_type")


def test_a_secret_is_in_no_answer(client: APIClient, plain: Organization) -> None:
    text = client.get(at("")).content.decode() + client.get("/api/v1/organizations/").content.decode()

    assert "encrypted" not in text
    assert "api_key" not in text


def test_addresses_that_do_not_exist_are_refused_in_json_whatever_they_hold(client: APIClient) -> None:
    for address in ("nothing/", "backfills/T%27%C2%89%0A/retry/", "rules/%0A1/", "a%2F%0Ab/"):
        answer = client.post(at(address), {}, format="json")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), address


# --- settings ---------------------------------------------------------------------------------------------------------


def test_settings_are_read_and_tightened_at_once_and_loosened_by_another_person(
    client: APIClient, plain: Organization, operators: Callable[..., Operator]
) -> None:
    before = client.get(at("settings/")).json()
    assert set(before) == SETTINGS_FIELDS

    answer = client.patch(at("settings/"), {"name": "Plain & Co", "max_count": before["max_count"] - 1}, format="json")
    assert answer.status_code == 200, answer.content
    assert sorted(answer.json()["saved"]) == ["max_count", "name"]
    assert answer.json()["settings"]["max_count"] == before["max_count"] - 1

    looser = {"max_count": before["max_count"] + 1, "timezone": "Europe/Vienna"}
    refused = client.patch(at("settings/"), looser, format="json")
    assert (refused.status_code, list(refused.json()["fields"])) == (422, ["reason"])
    proposed = client.patch(at("settings/"), {**looser, "reason": "We grew"}, format="json").json()
    assert (proposed["saved"], proposed["settings"]["max_count"]) == (["timezone"], before["max_count"] - 1)
    assert (proposed["pending"]["status"], proposed["pending"]["kind"]) == ("pending", "settings")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"max_count": "many"}, "max_count"),
        ({"max_share_percent": 250}, "max_share_percent"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"kill_switch_at": None}, "kill_switch_at"),
        ({"name": ""}, "name"),
    ],
)
def test_a_wrong_setting_is_named_and_saves_nothing(
    client: APIClient, plain: Organization, changes: dict[str, Any], field: str
) -> None:
    answer = client.patch(at("settings/"), {"snooze_days": 60, **changes}, format="json")

    assert answer.status_code in (400, 422)
    assert list(answer.json()["fields"]) == [field]
    plain.refresh_from_db()
    assert plain.snooze_days != 60


def test_a_token_tightens_and_never_loosens(
    plain: Organization, client: APIClient, operators: Callable[..., Operator]
) -> None:
    owner = Operator.objects.get(email="owner@aum.example")
    _row, secret = create_token(organization=plain, operator=owner, scopes=["admin"], actor=Actor.operator(owner))
    script = APIClient()
    script.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")

    tighter = script.patch(at("settings/"), {"max_count": plain.max_count - 1}, format="json")
    looser = script.patch(
        at("settings/"), {"max_count": plain.max_count + 5, "name": "New", "reason": "More"}, format="json"
    )

    assert (tighter.status_code, looser.status_code, looser.json()["code"]) == (200, 403, "not_allowed")
    plain.refresh_from_db()
    assert (plain.name, plain.max_count) == ("Plain", tighter.json()["settings"]["max_count"])


def test_a_group_is_protected_at_once(client: APIClient, plain: Organization) -> None:
    group = Group.objects.get(name="jira-administrators")
    for _ in range(2):
        answer = client.post(at(f"groups/{group.pk}/protect/"))
        assert (answer.status_code, answer.json()["is_protected"]) == (200, True), answer.content
    assert client.post(at("groups/999999/protect/")).status_code == 404
