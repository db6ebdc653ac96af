"""Undo gives back the net of what runs changed, to the state before, and shows what somebody else changed since."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from apps.operations import services
from apps.operations.models import LeftOut, Operation, OperationItem
from apps.operations.selection import AccountsSelection, ActionSpec
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.sandbox.server import Sandbox
from apps.users.models import Account
from tests.operations.test_bulk_actions import groups_without, people

Run = Callable[[Operation], Operation]
Do = Callable[..., Operation]


@pytest.fixture
def do(organization: Organization, author: Operator, execute: Run) -> Do:
    """Plan actions on people and run them at once."""

    def make(accounts: Sequence[Account], *actions: ActionSpec) -> Operation:
        operation = services.plan_operation(
            organization=organization,
            kind="manual_operation",
            mode="live",
            initiator="manual",
            actor=Actor.operator(author),
            operator=author,
            name="By hand",
            actions=actions,
            selection=AccountsSelection(tuple(account.account_id for account in accounts)),
        )
        services.run_planning(operation.pk)
        operation.refresh_from_db()
        return execute(operation)

    return make


@pytest.fixture
def by(author: Operator) -> dict[str, Any]:
    return {"actor": Actor.operator(author), "operator": author}


def made(operation: Operation, execute: Run) -> Operation:
    services.run_planning(operation.pk)
    return execute(operation)


def snapshot(sandbox: Sandbox, accounts: Sequence[Account]) -> dict[str, Any]:
    """Statuses, groups and roles of these people as the sandbox has them."""
    return {one.account_id: sandbox.control.get(f"state?account={one.account_id}") for one in accounts}


def refuse_suspending(sandbox: Sandbox, count: int) -> None:
    fault = {"kind": "error", "status": 400, "body": "json", "path": "/suspend", "method": "POST", "count": count}
    sandbox.control.post("faults", fault)


def outcomes(operation: Operation) -> set[tuple[str, str, str]]:
    return set(operation.items.values_list("subject", "action", "outcome"))


def test_day_is_undone_in_one_plan_to_the_state_before_its_first_run(
    sandbox: Sandbox, organization: Organization, do: Do, execute: Run, by: dict[str, Any]
) -> None:
    some = people(organization, 6)
    (group,) = groups_without(organization, some, 1)
    before = snapshot(sandbox, some)
    first = do(some[:4], ActionSpec("suspend"))
    second = do(some[3:], ActionSpec("add_to_group", group_ids=(group.pk,)), ActionSpec("deactivate"))
    # Given back by hand within the day: nothing is left to undo of it.
    third = do(some[:1], ActionSpec("restore"))

    undo = made(services.undo_day(organization=organization, day=timezone.now().date(), **by), execute)

    assert undo.status == Operation.Status.SUCCEEDED, outcomes(undo)
    assert undo.frozen["undo"]["numbers"] == [third.number, second.number, first.number]
    assert some[0].account_id not in undo.items.values_list("subject", flat=True)
    assert snapshot(sandbox, some) == before
    assert undo.verification == {"equal": 5, "different": 0}
    again = made(services.undo_day(organization=organization, day=timezone.now().date(), **by), execute)
    assert again.status == Operation.Status.NO_EFFECT
    assert snapshot(sandbox, some) == before


def test_person_is_undone_over_several_runs_and_others_stay(
    sandbox: Sandbox, organization: Organization, do: Do, execute: Run, by: dict[str, Any]
) -> None:
    some = people(organization, 2)
    (group,) = groups_without(organization, some, 1)
    before = snapshot(sandbox, some)
    do(some, ActionSpec("add_to_group", group_ids=(group.pk,)))
    do(some, ActionSpec("suspend"), ActionSpec("deactivate"))
    # Months later: AUM's own writes are no conflict with its own undo.
    OperationItem.objects.update(finished_at=timezone.now() - timedelta(hours=5))
    Account.objects.filter(pk=some[0].pk).update(status_changed_at=timezone.now() - timedelta(hours=5))

    undo = made(services.undo_person(account=some[0], **by), execute)

    assert undo.status == Operation.Status.SUCCEEDED, outcomes(undo)
    now = snapshot(sandbox, some)
    assert now[some[0].account_id] == before[some[0].account_id]
    assert now[some[1].account_id] != before[some[1].account_id]
    with pytest.raises(services.NotApplicable, match="since then"):
        services.undo_person(account=some[1], since=timezone.now() + timedelta(minutes=1), **by)


def test_previewed_undo_is_applied_as_an_undo(
    sandbox: Sandbox, organization: Organization, do: Do, execute: Run, by: dict[str, Any]
) -> None:
    some = people(organization, 2)
    before = snapshot(sandbox, some)
    run = do(some, ActionSpec("suspend"))
    preview = services.undo_operation(operation=run, mode="safe", **by)
    services.run_planning(preview.pk)
    preview.refresh_from_db()
    writes = snapshot(sandbox, some)

    applied = services.apply_preview(operation=preview, plan_hash=preview.plan_hash, **by)
    assert snapshot(sandbox, some) == writes
    made(applied, execute)

    assert applied.undo_of == run
    applied.refresh_from_db()
    assert applied.status == Operation.Status.SUCCEEDED
    assert snapshot(sandbox, some) == before


def test_later_run_and_somebody_else_are_named_with_what_stands_now(
    sandbox: Sandbox, organization: Organization, do: Do, execute: Run, by: dict[str, Any]
) -> None:
    some = people(organization, 3)
    (group,) = groups_without(organization, some, 1)
    first = do(some, ActionSpec("add_to_group", group_ids=(group.pk,)))
    later = do(some[:1], ActionSpec("remove_from_group", group_ids=(group.pk,)))
    sandbox.control.post("mutate", {"account": some[1].account_id, "status": "deactivated"})

    undo = made(services.undo_operation(operation=first, **by), execute)

    left_out = LeftOut.objects.get(operation=undo)
    assert left_out.account == some[0]
    assert f"#{later.number}" in left_out.detail
    assert (some[2].account_id, "remove_from_group", "done") in outcomes(undo)


def test_undo_says_what_is_not_as_before(
    sandbox: Sandbox, organization: Organization, do: Do, execute: Run, by: dict[str, Any]
) -> None:
    (one,) = people(organization, 1)
    (group,) = groups_without(organization, [one], 1)
    run = do([one], ActionSpec("suspend"))
    do([one], ActionSpec("add_to_group", group_ids=(group.pk,)))

    undo = made(services.undo_operation(operation=run, **by), execute)

    assert undo.verification == {"equal": 0, "different": 1}
    assert f"also in group {group.name}" in undo.items.get().detail


def test_half_failed_run_is_undone_for_those_it_changed_and_one_person_is_retried(
    sandbox: Sandbox, organization: Organization, do: Do, execute: Run, by: dict[str, Any]
) -> None:
    some = people(organization, 4)
    before = snapshot(sandbox, some)
    sandbox.control.post(
        "faults", {"kind": "error", "status": 400, "body": "json", "path": "/suspend", "method": "POST", "count": 2}
    )
    run = do(some, ActionSpec("suspend"))
    failed = list(run.items.filter(outcome="failed").values_list("subject", flat=True))
    assert len(failed) == 2

    retry = made(services.retry_failed(operation=run, account_ids=failed[:1], **by), execute)

    assert outcomes(retry) == {(failed[0], "suspend", "done")}
    done = run.items.filter(outcome="done").values_list("subject", flat=True)
    with pytest.raises(services.NotApplicable, match="for this user"):
        services.retry_failed(operation=run, account_ids=[done[0]], **by)
    undo = made(services.undo_operation(operation=run, **by), execute)
    assert undo.people_count == 2
    made(services.undo_operation(operation=retry, **by), execute)
    assert snapshot(sandbox, some) == before


def test_only_the_paths_that_a_run_took_are_given_back(organization: Organization, do: Do, by: dict[str, Any]) -> None:
    """A path that somebody else had taken between plan and write is not given by the undo."""
    (one,) = people(organization, 1)
    run = do([one], ActionSpec("suspend"))
    item = run.items.get()
    kept = {"kind": "group", "directory": "d", "group": "g1", "name": "kept"}
    gone = {"kind": "group", "directory": "d", "group": "g2", "name": "gone before"}
    role = {"kind": "role", "role": "atlassian/user", "resource": "ari:x"}
    OperationItem.objects.filter(pk=item.pk).update(
        action="remove_product_access",
        target="product:jira@ari:x",
        parameters={"product": "jira", "resource": "ari:x", "site": "x", "paths": [kept, gone, role]},
        before={"groups": [["d", "g1"]], "roles": [["atlassian/user", "ari:x"]], "directories": {}},
    )

    undo = services.undo_operation(operation=run, mode="safe", **by)
    services.run_planning(undo.pk)

    assert undo.items.get().parameters["paths"] == [kept, role]


def test_pages_lead_to_the_preview_of_an_undo(
    client: Client, organization: Organization, author: Operator, do: Do
) -> None:
    client.force_login(author)
    some = people(organization, 2)
    run = do(some, ActionSpec("suspend"))
    day = reverse("operations:undo_day", args=[organization.slug])
    person = reverse("operations:undo_person", args=[organization.slug, some[0].pk])

    assert f"#{run.number}" in client.get(day).content.decode()
    asked = client.get(person).content.decode()
    assert f"#{run.number}" in asked
    assert f"Undo for {escape(some[0])}" in asked
    assert client.get(day, {"day": "2020-01-01"}).status_code == 200
    assert client.get(day, {"day": "tomorrow"}).status_code == 422
    assert client.post(day, {"day": "2020-01-01"}).status_code == 422
    answers = [client.post(day, {"day": timezone.now().date().isoformat()}), client.post(person)]

    found = list(Operation.objects.filter(mode="safe").order_by("pk"))
    assert [answer["Location"] for answer in answers] == [one.get_absolute_url() for one in found]
    for preview in found:
        services.run_planning(preview.pk)
    assert [one.items.count() for one in found] == [2, 1]
    assert "Restore 1 user…" in client.get(answers[1]["Location"]).content.decode()


def test_row_that_failed_offers_a_retry_and_a_done_one_an_undo(
    client: Client, sandbox: Sandbox, organization: Organization, author: Operator, do: Do
) -> None:
    client.force_login(author)
    some = people(organization, 2)
    sandbox.control.post(
        "faults", {"kind": "error", "status": 400, "body": "json", "path": "/suspend", "method": "POST", "count": 1}
    )
    run = do(some, ActionSpec("suspend"))
    page = client.get(run.get_absolute_url()).content.decode()
    assert page.count('<span class="vh"> for') == 2
    failed = run.items.get(outcome="failed")

    answer = client.post(f"{run.get_absolute_url()}retry/", {"account": failed.subject})

    retry = Operation.objects.get(retry_of=run)
    assert answer["Location"] == retry.get_absolute_url()
    services.run_planning(retry.pk)
    assert retry.items.get().subject == failed.subject
