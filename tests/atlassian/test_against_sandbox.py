"""The client against the sandbox, over real HTTP: what is read is what is there, what is written takes effect once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from apps.sandbox.server import Sandbox
from aum.atlassian.client import AtlassianClient
from aum.atlassian.errors import (
    AtlassianError,
    LostAnswer,
    NotFound,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
)
from aum.atlassian.limiter import NullLimiter
from aum.atlassian.schemas import Person
from tests.atlassian.conftest import sandbox_connection


@pytest.fixture(autouse=True)
def no_pause_between_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: 0.0)


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[AtlassianClient]:
    with AtlassianClient(sandbox_connection(sandbox), limiter=NullLimiter()) as client:
        yield client


def directory_of(client: AtlassianClient, account_id: str) -> str:
    return client.directories(account_id=account_id)[0].id


def someone(client: AtlassianClient, **wanted: str) -> Person:
    """An ordinary person with these fields: no administrator, not synced, in a group."""
    for person in client.iter_users():
        fits = all(getattr(person, name) == value for name, value in wanted.items())
        if fits and not person.platform_roles and person.groups and person.management_source != "synced":
            return person
    raise AssertionError(f"nobody with {wanted}")


def effects(sandbox: Sandbox) -> list[tuple[str, str]]:
    return [(entry["effect"], entry["account"]) for entry in sandbox.control.get("ledger")["entries"]]


def test_every_list_is_read_whole(sandbox: Sandbox, client: AtlassianClient) -> None:
    people = list(client.iter_users(limit=17))
    state = sandbox.control.get("state")

    assert len(people) == len({p.account_id for p in people}) == client.count_users()
    assert {p.account_id for p in people} == set(state)
    assert all(p.products is not None and p.groups is not None and p.platform_roles_given for p in people)
    assert not [p.unknown_values for p in people if p.unknown_values]
    assert len(list(client.iter_groups(limit=7))) == client.count_groups()
    assert client.get_org().id == sandbox.credentials.org_id
    assert client.tenant_info() == sandbox.credentials.cloud_id
    assert {w.sandbox_type for w in client.workspaces()}
    assert client.domains()
    assert client.jira_myself().account_id == sandbox.credentials.account_id
    assert client.jira_permissions("ADMINISTER") == {"ADMINISTER": True}
    assert client.jira_server_info().base_url
    assert sum(client.user_stats().account_status.values()) > 0
    assert list(client.iter_jira_users())
    assert client.application_roles()
    assert list(client.projects())
    desk = next(client.service_desks())
    assert list(client.request_types(desk.id))
    assert client.events(limit=5) is not None


def test_one_person_is_the_same_from_every_side(client: AtlassianClient) -> None:
    person = someone(client, status="active", claim_status="managed")

    alone = client.get_user(person.account_id)
    found = client.find_users([person.account_id])[person.account_id]
    active = client.last_active(person.account_id)
    roles = client.role_assignments(person.account_id)

    assert (alone.name, alone.email, alone.status) == (person.name, person.email, person.status)
    assert (alone.products, alone.groups) == (None, None)
    assert found == person
    assert {(p.key, p.last_active_at) for p in active.products} == {
        (p.key, p.last_active_at) for p in person.products or ()
    }
    assert roles.directory_statuses
    assert client.lifecycle_permissions(person.account_id)["lifecycle.enablement"].allowed


def test_each_write_takes_effect_and_is_undone(sandbox: Sandbox, client: AtlassianClient) -> None:
    person = someone(client, status="active", claim_status="managed")
    account, directory = person.account_id, directory_of(client, person.account_id)
    before = sandbox.control.post("state", {"accounts": [account]})
    group = next(
        g for g in client.iter_groups(directory) if g.is_modifiable and g.id not in {r.id for r in person.groups or ()}
    )

    answers = [client.suspend(account, directory)]
    assert client.find_users([account], directory)[account].membership_status == "suspended"
    answers += [
        client.restore(account, directory),
        client.deactivate(account, "Unused"),
        client.activate(account),
        client.delete_account(account),
        client.cancel_delete(account),
        client.add_to_group(account, group.id, directory),
    ]
    assert group.id in {g.id for g in client.find_users([account])[account].groups or ()}
    answers.append(client.remove_from_group(account, group.id, directory))

    assert sandbox.control.post("state", {"accounts": [account]}) == before
    assert all(answer.request_id and not answer.already for answer in answers)
    assert len(effects(sandbox)) == len(answers)


def test_a_group_is_made_found_and_deleted(client: AtlassianClient) -> None:
    directory = client.directories()[0].id

    client.create_group("aum-test", directory, "Made by a test")
    (group,) = client.search_groups(directory, group_names=["aum-test"]).items
    client.delete_group(group.id, directory)

    assert group.description == "Made by a test"
    assert client.search_groups(directory, group_names=["aum-test"]).items == ()


def test_people_are_invited(sandbox: Sandbox, client: AtlassianClient) -> None:
    resource = next(
        w.id
        for w in client.workspaces()
        if w.type_key and w.sandbox_type != "CHILD" and (w.capacity or 10**6) > (w.used or 0)
    )

    (result,) = client.invite(["new.person@example.com"], [(resource, "atlassian/user")])

    assert result.is_invited
    assert result.account_id
    assert client.search_users(emails=["new.person@example.com"]).items[0].account_id == result.account_id


def test_a_lost_answer_is_in_doubt_and_the_write_happened_once(sandbox: Sandbox, client: AtlassianClient) -> None:
    person = someone(client, status="active")
    directory = directory_of(client, person.account_id)
    sandbox.control.post("faults", {"kind": "lost_answer", "path": "suspend", "count": 1})

    with pytest.raises(LostAnswer):
        client.suspend(person.account_id, directory)

    assert len(effects(sandbox)) == 1
    assert client.find_users([person.account_id], directory)[person.account_id].membership_status == "suspended"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"kind": "error", "status": 503, "body": "html"}, Unavailable),
        ({"kind": "error", "status": 500, "body": "none"}, Unavailable),
        ({"kind": "reset"}, Unavailable),
        ({"kind": "html"}, UnexpectedAnswer),
        ({"kind": "malformed"}, UnexpectedAnswer),
        ({"kind": "repeat_cursor"}, UnexpectedAnswer),
        ({"kind": "repeat_page"}, UnexpectedAnswer),
        ({"kind": "key_expires", "after": 1}, Unauthorized),
    ],
    ids=lambda value: value.get("kind") if isinstance(value, dict) else "",
)
def test_a_list_that_goes_wrong_is_an_error_and_never_a_short_list(
    fault: dict[str, Any], error: type[AtlassianError], sandbox: Sandbox, client: AtlassianClient
) -> None:
    sandbox.control.post("faults", {"path": "users/search", **fault})

    with pytest.raises(error) as caught:
        list(client.iter_users(limit=20))

    assert caught.value.call_id


def test_a_passing_failure_in_mid_list_does_not_show(sandbox: Sandbox, client: AtlassianClient) -> None:
    whole = list(client.iter_users(limit=20))
    for kind in ({"kind": "reset"}, {"kind": "error", "status": 502, "body": "html"}, {"kind": "rate_limit"}):
        sandbox.control.post("faults", {"path": "users/search", "skip": 2, "count": 1, **kind})

    assert list(client.iter_users(limit=20)) == whole


def test_odd_values_are_kept_and_reported(sandbox: Sandbox, client: AtlassianClient) -> None:
    for kind in ("unknown_enum", "nulls"):
        sandbox.control.post("faults", {"kind": kind, "path": "users/search"})

    people = list(client.iter_users())

    assert len(people) == client.count_users()
    assert any("=quantum" in value for person in people for value in person.unknown_values)


def test_nobody_by_that_id_is_not_found(client: AtlassianClient) -> None:
    with pytest.raises(NotFound):
        client.get_user("712020:nobody")
    assert client.find_users(["712020:nobody"]) == {}
