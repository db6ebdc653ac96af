"""Everybody changes between plan and write: nobody is touched, and each row says why (P6, B2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from apps.operations import services
from apps.operations.models import Operation
from apps.operations.selection import ActionSpec, IdleSelection
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.sandbox.server import Sandbox
from apps.users.models import Account, DirectoryMembership, Group
from apps.users.services import protect_group, request_sync, run_sync, set_exemption

CHANGES = ("active", "exempt", "protected", "suspended", "gone")
EXPECTED = {
    "active": {"skipped_active_again"},
    "exempt": {"skipped_exempt"},
    "protected": {"skipped_protected"},
    "suspended": {"already_so"},
    "gone": {"skipped_gone"},
}


@pytest.mark.parametrize(
    ("people", "wanted"), [(250, 20), pytest.param(6000, 1000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
def test_who_changed_between_plan_and_write_is_skipped_with_the_right_code(
    transactional_db: None,
    connect: Callable[..., Organization],
    operators: Callable[..., Operator],
    people: int,
    wanted: int,
) -> None:
    with Sandbox(people=people, seed=11) as sandbox:
        organization = connect(
            sandbox,
            max_count=5000,
            max_share_percent=90,
            max_group_share_percent=100,
            max_per_day=5000,
            activity_margin_hours=0,
            calls_in_flight=8,
        )
        run = request_sync(organization=organization, actor=Actor.system())
        run_sync(run.pk, budget_seconds=None, wait_here=True)
        author = operators(organization, "author@aum.example", "admin")
        operation = services.plan_operation(
            organization=organization,
            kind="automation_rule",
            mode="live",
            initiator="manual",
            actor=Actor.operator(author),
            operator=author,
            name="Idle people",
            actions=[ActionSpec("suspend")],
            selection=IdleSelection(inactive_days=60),
        )
        services.run_planning(operation.pk)
        operation.refresh_from_db()
        changed = change_everybody(sandbox, organization, operation)
        assert len(changed) >= wanted

        services.execute_operation(operation.pk)

        operation.refresh_from_db()
        found: dict[str, set[str]] = {name: set() for name in CHANGES}
        for subject, outcome in operation.items.values_list("subject", "outcome"):
            found[changed[subject]].add(outcome)
        assert found == EXPECTED, Counter(operation.items.values_list("outcome", flat=True))
        assert operation.status == Operation.Status.NO_EFFECT
        written = [e for e in sandbox.control.get("ledger")["entries"] if "/_control/" not in e["path"]]
        assert not [entry for entry in written if entry["effect"] == "changed"]


def change_everybody(sandbox: Sandbox, organization: Organization, operation: Operation) -> dict[str, str]:
    """Account → what became of it meanwhile, in turn over everybody of the plan."""
    subjects = list(dict.fromkeys(operation.items.order_by("pk").values_list("subject", flat=True)))
    accounts = {one.account_id: one for one in Account.objects.filter(account_id__in=subjects)}
    held = {pk for account in accounts.values() for pk in account.group_ids}
    plain = Group.objects.of(organization).filter(is_synced=False, is_administrative=False, granted_products=0)
    guarded = {group.directory_id: group for group in plain.exclude(pk__in=held).order_by("-pk")}
    for group in guarded.values():
        protect_group(group=group, actor=Actor.system())
    memberships = DirectoryMembership.objects.filter(account__in=accounts.values(), directory__in=guarded)
    places = dict(memberships.values_list("account", "directory"))
    found: dict[str, str] = {}
    for number, subject in enumerate(subjects):
        account, change = accounts[subject], CHANGES[number % len(CHANGES)]
        if DirectoryMembership.objects.filter(account=account).count() > 1:
            change = "suspended"  # in one of their directories they may be so already, which the sync cannot see
        elif change == "protected" and account.pk not in places:
            change = "exempt"  # no group of their directory is free to be protected
        found[subject] = change
        body: dict[str, Any] = {"account": subject}
        if change == "active":
            sandbox.control.post("touch", {**body, "at": "now"})
        elif change == "exempt":
            set_exemption(organization=organization, account=account, reason="away", until=None, actor=Actor.system())
        elif change == "suspended":
            sandbox.control.post("mutate", {**body, "status": "suspended"})
        elif change == "gone":
            sandbox.control.post("mutate", {"remove_person": subject})
        else:
            sandbox.control.post("mutate", {**body, "add_group": guarded[places[account.pk]].group_id})
    return found
