"""Ninety days of an organisation whose people come, go and return, left alone with two rules (S3, S166).

The documented example (suspend, Jira, 60 days, jira-admins protected, Safe first, then Live) and its next rung
(deactivate after 90 days) fire by their schedule while the clock moves on. What may happen to whom is worked out anew
at each step from the pretend Atlassian alone, and what happened there is compared with it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
import time_machine
from django.utils import timezone

from apps.audit.services.partitions import ensure_partitions
from apps.operations import services as operations
from apps.operations.models import Operation
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.rules import services as rules
from apps.rules.models import CleanupRule, DueSlot
from apps.rules.values import RuleInput
from apps.sandbox.server import Sandbox
from apps.sandbox.world import Person
from apps.users.models import Group
from apps.users.services import request_sync, run_sync

DAYS, LIVE_FROM = 91, 28
SUSPEND_AFTER, DEACTIVATE_AFTER = timedelta(days=60), timedelta(days=90)
MARGIN = timedelta(hours=48)
AT = time(6, 0)


@dataclass
class World:
    """The pretend Atlassian, its people's habits, and what another administrator did to them."""

    sandbox: Sandbox
    protected: str
    random: random.Random = field(default_factory=lambda: random.Random(7))
    given_back: dict[str, datetime] = field(default_factory=dict)

    def people(self) -> Iterator[Person]:
        return (person for person in self.sandbox.core.world.people if person.listed)

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.sandbox.control.get("state")
        return {
            account: (one["account_status"], tuple(sorted(one["directories"].items())))
            for account, one in found.items()
        }

    def last_active(self, person: Person, product: str | None) -> datetime | None:
        resources = self.sandbox.core.world.resources
        held = self.sandbox.core.world.held_mask(person)
        times = [
            at
            for index, at in person.activity
            if not resources[index].platform
            and (product is None or resources[index].key.startswith(product))
            and (held >> index & 1 or product is None)
        ]
        return datetime.fromtimestamp(max(times) / 1000, UTC) if times else None

    def may_be_touched(self, person: Person) -> bool:
        """Nobody who is protected, whatever else is true of them."""
        world = self.sandbox.core.world
        groups = {world.groups[index].name for index in person.groups}
        return person.kind == "person" and not world.platform_roles(person) and self.protected not in groups

    def idle_since(self, person: Person, product: str | None) -> datetime | None:
        last = self.last_active(person, product)
        if last is None:
            return None
        added = datetime.fromtimestamp((self.sandbox.core.world.added_at(person) or 0) / 1000, UTC)
        return max(last, added, self.given_back.get(person.account_id, last))

    def idle(self, now: datetime, product: str | None, after: timedelta) -> set[str]:
        """Who has been idle for longer than `after` and the margin, and may be touched."""
        found = set()
        for person in self.people():
            since = self.idle_since(person, product)
            if since is not None and self.may_be_touched(person) and now - since > after + MARGIN:
                found.add(person.account_id)
        return found

    def a_day(self, day: int, step: int) -> None:
        """What people do on `day`: most work, some stop, some pause for weeks, one joins the protected group."""
        world = self.sandbox.core.world
        for person in list(self.people()):
            is_in = person.account_status == "active" and any(m.status == "active" for m in person.memberships)
            habit = person.index % 6
            works = habit in (0, 1) or (habit == 2 and day < 20) or (habit == 3 and self.random.random() < step / 40)
            if is_in and works and world.held_mask(person):
                self.sandbox.control.post("touch", {"account": person.account_id})


def connected(
    sandbox: Sandbox, connect: Callable[..., Organization], operators: Callable[..., Operator]
) -> tuple[Organization, Operator]:
    organization = connect(
        sandbox,
        max_count=5000,
        max_share_percent=90,
        max_group_share_percent=100,
        max_per_day=5000,
        activity_margin_hours=MARGIN.total_seconds() // 3600,
        calls_in_flight=8,
        max_people_lost_percent=100,
        max_data_age_hours=24 * 15,
        max_regret_percent=100,
    )
    return organization, operators(organization, "author@aum.example", "admin")


def synced(organization: Organization) -> None:
    run = request_sync(organization=organization, actor=Actor.system())
    finished = run_sync(run.pk, budget_seconds=None, wait_here=True)
    assert finished is not None
    assert finished.is_trusted, finished.distrust_reasons


def run_what_is_open() -> list[Operation]:
    """Do a worker's work: plan what was asked for, run what may run."""
    # The database's clock stays where it is while ours moves on.
    Operation.objects.filter(status="planning").update(created_at=timezone.now())
    done = []
    for operation in Operation.objects.filter(status__in=["planning", "queued"]).order_by("pk"):
        operations.run_planning(operation.pk)
        operation.refresh_from_db()
        if operation.status == Operation.Status.QUEUED:
            operations.execute_operation(operation.pk)
        operation.refresh_from_db()
        done.append(operation)
    return done


def simulate(
    organization: Organization, author: Operator, world: World, step: int, read_every: int
) -> dict[str, set[str]]:
    """Let 90 days pass; after each run, what changed in Atlassian is exactly what had to. Who was taken, by action.

    `step`: days between two runs; `read_every`: days between two syncs, before which people move.
    """
    by: dict[str, Any] = {"actor": Actor.operator(author), "operator": author}
    synced(organization)
    group = Group.objects.of(organization).get(name=world.protected)
    weekly: dict[str, Any] = {"recurrence": "daily"} if step == 1 else {"recurrence": "weekly"}
    start = datetime.now(UTC).replace(hour=5, minute=59, second=0, microsecond=0) + timedelta(days=1)
    if step == 7:
        weekly["weekdays"] = (start.weekday(),)
    suspend = rules.create_rule(
        organization=organization,
        values=RuleInput(
            name="Suspend after 60 days without Jira",
            inactive_products=("jira",),
            inactive_days=60,
            protected_groups=(group.pk,),
            run_at=AT,
            **weekly,
        ),
        **by,
    )
    deactivate = rules.create_rule(
        organization=organization,
        values=RuleInput(
            name="Deactivate after 90 days",
            action="deactivate",
            inactive_days=90,
            protected_groups=(group.pk,),
            run_at=time(6, 30),
            **weekly,
        ),
        **by,
    )
    taken: dict[str, set[str]] = {"suspend": set(), "deactivate": set()}
    joined = ""
    for day in range(0, DAYS + 1, step):
        if day % read_every == 0:
            with time_machine.travel(start + timedelta(days=day), tick=True):
                ensure_partitions()
                world.a_day(day, read_every)
                if day == 14:
                    joined = join_protected(world)
                if day == 70:
                    give_back(world, taken["suspend"] - taken["deactivate"])
                synced(organization)
        for at, rule, action in ((AT, suspend, "suspend"), (time(6, 30), deactivate, "deactivate")):
            with time_machine.travel(datetime.combine((start + timedelta(days=day)).date(), at, UTC), tick=True):
                before, now = world.state(), datetime.now(UTC)
                rules.sweep()
                runs = run_what_is_open()
                assert [run.rule_id for run in runs] == [rule.pk], (day, [run.name for run in runs])
                changed = {account for account, state in world.state().items() if state != before[account]}
                expected = expected_now(world, action, now, before) if rule.mode == "live" else set()
                assert changed == expected, (day, action, changed ^ expected)
                assert runs[0].mode == rule.mode
                if rule.mode == "safe":
                    planned = set(runs[0].items.values_list("subject", flat=True))
                    assert planned == expected_now(world, action, now, before, is_planned=True), (
                        "the report names who would be taken"
                    )
                taken[action] |= changed
        if day == LIVE_FROM:
            with time_machine.travel(start + timedelta(days=day, hours=1), tick=True):
                suspend, deactivate = (made_live(rule, **by) for rule in (suspend, deactivate))
    assert joined not in taken["suspend"] | taken["deactivate"]
    assert set(DueSlot.objects.values_list("state", flat=True)) == {"fired"}
    assert DueSlot.objects.count() == 2 * len(range(0, DAYS + 1, step))
    return taken


def expected_now(
    world: World, action: str, now: datetime, before: dict[str, Any], *, is_planned: bool = False
) -> set[str]:
    """Who has to be taken, or planned, at `now`, worked out from the pretend Atlassian."""
    found = set()
    idle = world.idle(now, *(("jira", SUSPEND_AFTER) if action == "suspend" else (None, DEACTIVATE_AFTER)))
    for person in world.people():
        status, directories = before[person.account_id]
        is_active = status == "active" and any(state == "active" for _directory, state in directories)
        if action == "suspend":
            fits = is_active
        else:
            # Whom the identity provider owns is planned, and handed over to it at the write.
            fits = status == "active" and person.managed and (is_planned or person.locked_by is None)
        if fits and person.account_id in idle:
            found.add(person.account_id)
    return found


def join_protected(world: World) -> str:
    """Somebody who no longer works becomes a member of the protected group."""
    person = next(p for p in world.people() if p.index % 6 == 2 and world.may_be_touched(p) and p.activity)
    world.sandbox.control.post("mutate", {"account": person.account_id, "add_group": world.protected})
    return person.account_id


def give_back(world: World, suspended: set[str]) -> None:
    """Another administrator restores some of those whom the rule suspended: their idle clock starts anew."""
    for account in sorted(suspended)[:3]:
        world.sandbox.control.post("mutate", {"account": account, "status": "active"})
        world.given_back[account] = datetime.now(UTC)


def made_live(rule: CleanupRule, actor: Actor, operator: Operator) -> CleanupRule:
    """Preview, then switch: everything else stays as it was."""
    operations.run_planning(rules.preview_rule(rule=rule, actor=actor, operator=operator).pk)
    rule.refresh_from_db()
    before = RuleInput.of(rule)
    live: CleanupRule = rules.update_rule(
        rule=rule,
        values=RuleInput(**{**before.__dict__, "mode": "live"}),
        expected_version=rule.version,
        actor=actor,
        operator=operator,
    )
    assert RuleInput.of(live) == RuleInput(**{**before.__dict__, "mode": "live"})
    return live


@pytest.mark.parametrize(
    ("people", "step", "read_every"),
    [(50, 7, 14), pytest.param(250, 1, 1, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])],
    ids=["weekly", "daily"],
)
def test_two_rules_left_alone_for_90_days_take_exactly_who_had_to_go(
    transactional_db: None,
    connect: Callable[..., Organization],
    operators: Callable[..., Operator],
    people: int,
    step: int,
    read_every: int,
) -> None:
    with Sandbox(people=people, seed=11) as sandbox:
        organization, author = connected(sandbox, connect, operators)
        world = World(sandbox, protected="jira-administrators")

        taken = simulate(organization, author, world, step, read_every)

        assert taken["suspend"], "nobody became idle: the days proved nothing"
        assert taken["deactivate"]
        assert world.given_back
        assert not set(world.given_back) & taken["deactivate"], "who was given back starts anew on every rung"
