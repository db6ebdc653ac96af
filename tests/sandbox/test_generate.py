"""The generated organisation: the same for the same seed, and with everything in it that a client must get right."""

from __future__ import annotations

from collections import Counter

import pytest

from apps.sandbox.generate import generate
from apps.sandbox.world import DAY_MS, World

AS_OF = 1_795_500_000_000


@pytest.fixture(scope="module")
def world() -> World:
    return generate(people=1248, seed=7, as_of=AS_OF)


def test_same_seed_gives_same_organisation(world: World) -> None:
    again = generate(people=1248, seed=7, as_of=AS_OF)

    assert again.people == world.people
    assert again.groups == world.groups
    assert again.resources == world.resources


def test_identifiers_do_not_depend_on_the_moment(world: World) -> None:
    later = generate(people=1248, seed=7, as_of=AS_OF + 90 * DAY_MS)

    assert [p.account_id for p in later.people] == [p.account_id for p in world.people]


def test_another_seed_gives_another_organisation(world: World) -> None:
    other = generate(people=1248, seed=8, as_of=AS_OF)

    assert other.org_id != world.org_id
    assert {p.account_id for p in other.people}.isdisjoint(p.account_id for p in world.people)


@pytest.mark.parametrize("people", [50, 1248])
def test_lists_exactly_the_people_asked_for(people: int) -> None:
    made = generate(people=people, seed=1, as_of=AS_OF)

    assert sum(p.listed for p in made.people) == people


@pytest.mark.parametrize("people", [0, 49, 1_000_001])
def test_refuses_a_size_out_of_range(people: int) -> None:
    with pytest.raises(ValueError, match="between 50 and 1000000"):
        generate(people=people, seed=1, as_of=AS_OF)


def test_every_status_occurs_even_in_the_smallest() -> None:
    small = generate(people=50, seed=1, as_of=AS_OF)

    assert {small.status(p) for p in small.people if p.listed} == {
        "active",
        "suspended",
        "not_invited",
        "deactivated",
        "for_deletion",
        None,
    }


def test_activity_has_the_promised_shares(world: World) -> None:
    shares: Counter[str] = Counter()
    licensed = [p for p in world.people if p.listed and world.billable_mask(p)]
    for person in licensed:
        last = max((at for _, at in person.activity), default=None)
        age = "never" if last is None else "recent" if AS_OF - last <= 30 * DAY_MS else "idle"
        shares[age] += 1

    assert 0.6 < shares["recent"] / len(licensed) < 0.75
    assert 0.15 < shares["idle"] / len(licensed) < 0.32
    assert 0.03 < shares["never"] / len(licensed) < 0.12


def test_identifiers_are_unique(world: World) -> None:
    accounts = [p.account_id for p in world.people]
    emails = [p.email.lower() for p in world.people if p.email]
    groups = [(g.directory, g.name) for g in world.groups]

    assert len(set(accounts)) == len(accounts)
    assert len(set(emails)) == len(emails)
    assert len(set(groups)) == len(groups)


def test_nobody_was_active_before_being_added_or_after_now(world: World) -> None:
    for person in world.people:
        for _, at in person.activity:
            assert at <= AS_OF
            if person.memberships:
                assert at >= (world.added_at(person) or 0) // 1000 * 1000


def test_groups_hold_only_members_of_their_directory(world: World) -> None:
    for group in world.groups:
        for index in group.members:
            assert world.membership(world.people[index], group.directory) is not None


def test_seats_in_use_are_those_counted_one_by_one(world: World) -> None:
    for resource in world.resources:
        counted = sum(world.billable_mask(p) >> resource.index & 1 for p in world.people)
        assert world.usage[resource.index] == counted
