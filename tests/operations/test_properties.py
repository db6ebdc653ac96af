"""Properties over many random cases: brakes over runs, retries and workers; protection; plan hash; undo of the net."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from apps.operations import planning
from apps.operations.models import LeftOut, Operation, OperationItem
from apps.operations.selection import AccountsSelection, IdleSelection, Limits
from apps.operations.services import claims, gate, limits_can_trip
from apps.organizations.models import CapabilityCheck, Credential, Directory, Organization
from apps.users.models import Account, Exemption, Group, ProtectedGroup, SyncRun
from tests.examples import OVER_ROWS

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(3600)]  # 2,000 examples take minutes
PEOPLE = 40


@pytest.fixture
def acme(db: None) -> Organization:
    """Usable credentials, a trusted sync, and people who each hold a licence."""
    organization = Organization.objects.create(slug="acme", name="Acme", org_id="a-1", api_url="http://127.0.0.1:1")
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
    SyncRun.objects.create(organization=organization, status="succeeded", is_trusted=True, started_at=now)
    Account.objects.bulk_create(
        Account(
            organization=organization,
            account_id=f"p{number:03}",
            name=f"Person {number}",
            sort_name=f"person {number}",
            account_status=1,
            membership_status=1,
            claim_status=1,
            products=1,
        )
        for number in range(PEOPLE)
    )
    return organization


class _Undone(Exception):
    """Ends an example, whose rows are taken back with its transaction."""


def each_example_alone(run: Callable[[], None]) -> None:
    try:
        with transaction.atomic():
            run()
            raise _Undone
    except _Undone:
        pass


def live_operation(organization: Organization, **fields: Any) -> Operation:
    number = Operation.objects.count() + 1
    given: dict[str, Any] = {
        "kind": "manual_operation",
        "mode": "live",
        "status": "queued",
        "initiator": "manual",
        "name": "x",
        "actor_text": "x",
        "action": "suspend",
        "number": number,
        **fields,
    }
    return Operation.objects.create(organization=organization, **given)


def add_items(operation: Operation, accounts: list[Account], action: str = "suspend", **fields: Any) -> None:
    OperationItem.objects.bulk_create(
        OperationItem(
            organization_id=operation.organization_id,
            operation=operation,
            account=account,
            subject=account.account_id,
            action=action,
            target="directory:d1",
            parameters={"directory": "d1"},
            **fields,
        )
        for account in accounts
    )


# --- brakes -----------------------------------------------------------------------------------------------------------

# Small and close to each other, so that many cases lie on a limit or one beyond it.
sizes = st.integers(1, 8)
of_all = st.sampled_from([10, 25, 30, 100, 100])
what_becomes = st.sampled_from(["write", "write", "fail", "give back"])
limits_of_rule = st.tuples(st.one_of(st.none(), sizes), st.one_of(st.none(), of_all))


@OVER_ROWS
@given(
    st.tuples(sizes, of_all, sizes),
    st.lists(st.tuples(limits_of_rule, sizes), min_size=1, max_size=3),
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 10), st.sampled_from(["write", "write", "fail", "give back"])),
        max_size=6,
    ),
)
def test_no_accepted_limits_let_more_through_than_the_strictest(
    acme: Organization,
    of_organization: tuple[int, int, int],
    runs: list[tuple[tuple[int | None, int | None], int]],
    steps: list[tuple[int, int, str]],
) -> None:
    """Several runs claimed in turn by several workers, with failures that are retried as runs of their own."""

    def run() -> None:
        count, share, day = of_organization
        Organization.objects.filter(pk=acme.pk).update(max_count=count, max_share_percent=share, max_per_day=day)
        organization = Organization.objects.get(pk=acme.pk)
        if not limits_can_trip(organization=organization, limits=Limits()):
            return
        everybody = list(Account.objects.order_by("pk"))
        operations = []
        for (rule_count, rule_share), people in runs:
            limits = Limits(rule_count, None if rule_share is None else Decimal(rule_share))
            operation = live_operation(
                organization, people_count=people, licensed_count=PEOPLE, frozen={"limits": limits.to_json()}
            )
            add_items(operation, everybody[:people])
            operation.held_reasons = gate.gate_plan(operation)
            operation.status = "held" if operation.held_reasons else "queued"
            operation.save()
            operations.append((operation, limits))
        for which, size, becomes in [*steps, *((n, 50, "write") for n in range(3))]:
            operation, limits = operations[which % len(operations)]
            claim = claims.claim_chunk(operation.pk, size)
            items = OperationItem.objects.filter(lease_token=claim.token)
            if becomes == "give back":
                claims.release(list(items), claim.token)
                continue
            for item in items:
                assert claims.may_write(item, claim.token)
            outcome = "done" if becomes == "write" else "failed"
            items.update(status="finished", outcome=outcome, finished_at=timezone.now(), lease_token=None)
            failed = [item.account for item in operation.items.filter(outcome="failed").select_related("account")]
            if becomes == "fail" and failed and len(operations) < 6:
                retry = live_operation(
                    organization, people_count=len(failed), licensed_count=PEOPLE, frozen=operation.frozen
                )
                add_items(retry, [account for account in failed if account is not None])
                retry.held_reasons = gate.gate_plan(retry)
                retry.status = "held" if retry.held_reasons else "queued"
                retry.save()
                operations.append((retry, limits))
        written = OperationItem.objects.filter(written_at__isnull=False)
        for operation, limits in operations:
            taken = written.filter(operation=operation).count()
            brakes = gate.Brakes.of(organization, limits)
            assert taken <= brakes.max_count
            assert Decimal(taken) * 100 <= brakes.max_share_percent * PEOPLE
        assert written.values("operation", "subject").distinct().count() <= day

    each_example_alone(run)


# --- protection -------------------------------------------------------------------------------------------------------

marks = st.fixed_dictionaries(
    {
        "is_org_admin": st.booleans(),
        "is_site_admin": st.booleans(),
        "is_connection_owner": st.booleans(),
        "kind": st.sampled_from([1, 1, 1, 2, 3, 4]),
        "is_kind_released": st.booleans(),
        "group": st.sampled_from(["none", "none", "protected", "of the rule", "plain"]),
        "exempt": st.booleans(),
    }
)


@OVER_ROWS
@given(
    st.lists(marks, min_size=1, max_size=12),
    st.sampled_from(["suspend", "deactivate", "delete", "remove_from_directory", "remove_from_group"]),
    st.booleans(),
)
def test_protected_and_exempt_people_are_in_no_plan_that_takes(
    acme: Organization, people: list[dict[str, Any]], action: str, is_idle: bool
) -> None:
    def run() -> None:
        now = timezone.now()
        directory = Directory.objects.create(organization=acme, directory_id="d1", name="d1", seen_at=now)
        groups = {
            name: Group.objects.create(organization=acme, directory=directory, group_id=name, name=name)
            for name in ("protected", "of the rule", "plain")
        }
        ProtectedGroup.objects.create(organization=acme, group=groups["protected"], added_at=now, added_by="x")
        expected = set()
        for account, mark in zip(Account.objects.order_by("pk"), people, strict=False):
            group = groups.get(mark["group"])
            fields = {name: value for name, value in mark.items() if name not in ("group", "exempt")}
            old = now - timedelta(days=400)
            Account.objects.filter(pk=account.pk).update(
                group_ids=[group.pk] if group else [],
                last_active_at=old,
                jira_last_active_at=old,
                jira_activity=1,
                added_to_org_at=old,
                **fields,
            )
            if mark["exempt"]:
                Exemption.objects.create(
                    organization=acme, account=account, reason="x", starts_at=now - timedelta(days=1), set_by="x"
                )
            is_protected = (
                mark["is_org_admin"]
                or mark["is_site_admin"]
                or mark["is_connection_owner"]
                or (mark["kind"] != 1 and not mark["is_kind_released"])
                or mark["group"] in ("protected", "of the rule")
            )
            if not is_protected and not mark["exempt"]:
                expected.add(account.account_id)
        asked = [account.account_id for account in Account.objects.order_by("pk")[: len(people)]]
        own = (groups["of the rule"].pk,)
        selection = (
            IdleSelection(inactive_days=60, protected_group_ids=own)
            if is_idle
            else AccountsSelection(tuple(asked), protected_group_ids=own)
        )
        rows = planning.candidates(acme, selection, action, now)

        found = set(rows.filter(out=planning.IN, account_id__in=asked).values_list("account_id", flat=True))

        if action == "remove_from_directory":
            expected.clear()  # all of them are managed
        if is_idle:
            assert found <= expected
        else:
            assert found == expected

    each_example_alone(run)


# --- the hash of a plan ---------------------------------------------------------------------------------------------

texts = st.text(st.characters(codec="ascii", exclude_characters="\x00"), min_size=1, max_size=8)
rows_of_plan = st.lists(
    st.tuples(texts, st.sampled_from(["suspend", "restore"]), texts, st.dictionaries(texts, texts, max_size=2)),
    min_size=1,
    max_size=6,
    unique_by=lambda row: row[:3],
)


@OVER_ROWS
@given(rows_of_plan, st.randoms(use_true_random=False), st.integers(0, 3), texts)
def test_hash_of_a_plan_is_of_exactly_its_rows_in_any_order(
    acme: Organization, rows: list[tuple[str, str, str, dict[str, str]]], random: Any, field: int, other: str
) -> None:
    def hash_of(given: list[tuple[str, str, str, dict[str, str]]]) -> str:
        operation = live_operation(acme)
        OperationItem.objects.bulk_create(
            OperationItem(
                organization=acme, operation=operation, subject=subject, action=action, target=target, parameters=values
            )
            for subject, action, target, values in given
        )
        return planning.freeze(operation)[0]

    def run() -> None:
        shuffled = list(rows)
        random.shuffle(shuffled)
        subject, action, target, values = rows[0]
        changed = [
            (subject + other, action, target, values),
            (subject, "restore" if action == "suspend" else "suspend", target, values),
            (subject, action, target + other, values),
            (subject, action, target, {**values, "new" + other: other}),
        ][field]

        assert hash_of(shuffled) == hash_of(rows)
        assert hash_of(rows[1:]) != hash_of(rows)
        if changed[:3] not in [row[:3] for row in rows[1:]]:
            assert hash_of([changed, *rows[1:]]) != hash_of(rows)

    each_example_alone(run)


# --- undo -------------------------------------------------------------------------------------------------------------

SWITCHES = {
    "suspend": ("membership", False),
    "restore": ("membership", True),
    "deactivate": ("account", False),
    "activate": ("account", True),
    "add_to_group": ("group", True),
    "remove_from_group": ("group", False),
}
TARGETS = {"membership": "directory:d1", "account": "", "group": "group:d1/g"}
steps_of_runs = st.lists(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(sorted(SWITCHES))), min_size=1, max_size=5),
    min_size=1,
    max_size=5,
)


@OVER_ROWS
@given(steps_of_runs, st.data())
def test_undo_of_the_last_runs_leads_back_to_the_state_before_them(
    acme: Organization, runs: list[list[tuple[int, str]]], data: st.DataObject
) -> None:
    """Runs that switch things on and off; the undo of the last of them is applied to where they led."""
    first = data.draw(st.integers(0, len(runs) - 1))

    def run() -> None:
        people = list(Account.objects.order_by("pk")[:4])
        state = {(number, axis): axis != "group" for number in range(4) for axis in TARGETS}
        at = timezone.now() - timedelta(days=1)
        operations, before = [], dict(state)
        for index, steps in enumerate(runs):
            if index == first:
                before = dict(state)
            operation = live_operation(acme, status="succeeded")
            operations.append(operation)
            done: set[tuple[int, str]] = set()
            for number, action in steps:
                axis, wanted = SWITCHES[action]
                at += timedelta(seconds=1)
                if state[number, axis] == wanted or (number, axis) in done:
                    continue
                done.add((number, axis))
                state[number, axis] = wanted
                finished(operation, people[number], action, TARGETS[axis], at)
        undo = live_operation(acme, status="planning")

        planning.insert_inverse(undo, operations[first:], None)

        changes = list(undo.items.order_by("rank", "pk").select_related("account"))
        for item in changes:
            axis, wanted = SWITCHES[item.action]
            number = people.index(item.account)
            assert state[number, axis] != wanted, "an undo does only what is not so already"
            state[number, axis] = wanted
        assert state == before
        assert not LeftOut.objects.filter(operation=undo).exists()
        assert len({(item.subject, item.target) for item in changes}) == len(changes)

    each_example_alone(run)


def finished(operation: Operation, account: Account, action: str, target: str, at: datetime) -> None:
    OperationItem.objects.create(
        organization_id=operation.organization_id,
        operation=operation,
        account=account,
        subject=account.account_id,
        action=action,
        target=target,
        rank=50,
        status="finished",
        outcome="done",
        written_at=at,
        finished_at=at,
    )
