"""True races: each thread has its own connection and transaction."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import time_machine
from django.db import connection

from apps.operations.models import Operation
from apps.operations.services import OperationAlreadyRunning
from apps.rules.models import CleanupRule, DueSlot, RuleVersion
from apps.rules.services import (
    RuleChanged,
    RuleInput,
    RulePaused,
    create_rule,
    fire,
    fire_due,
    pause_rule,
    run_rule,
    update_rule,
)
from aum.common.errors import DomainError, InvalidInput
from tests.rules.conftest import ACTOR, WEDNESDAY, make_organization, rule_input
from tests.rules.test_firing import DUE

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What the calls return or refuse with, all started at the same moment."""
    gate = threading.Barrier(len(calls))
    results: list[Any] = []

    def run(call: Callable[[], Any]) -> None:
        try:
            gate.wait()
            results.append(call())
        except DomainError as error:
            results.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == len(calls)
    return results


def new_rule(slug: str = "race") -> CleanupRule:
    with time_machine.travel(WEDNESDAY, tick=False):
        return create_rule(organization=make_organization(slug), values=rule_input(), actor=ACTOR, operator=None)


def test_ten_at_once_fire_a_slot_once() -> None:
    rule = new_rule()
    by_beat, by_sweep = (lambda: fire(rule_id=rule.pk)), (lambda: fire_due(rule_id=rule.pk, due_at=DUE))

    with time_machine.travel(DUE + timedelta(seconds=1), tick=False):
        slots = at_once(*[by_beat, by_sweep] * 5)

    assert len([slot for slot in slots if slot]) == 1
    assert (Operation.objects.count(), DueSlot.objects.count()) == (1, 1)


def test_of_two_new_rules_with_one_name_one_is_refused() -> None:
    organization = make_organization("race")

    def create() -> CleanupRule:
        return create_rule(organization=organization, values=rule_input(), actor=ACTOR, operator=None)

    results = at_once(*[create] * 6)

    refused = [result for result in results if isinstance(result, InvalidInput)]
    assert len(refused) == 5
    assert all(list(result.fields) == ["name"] for result in refused)
    assert CleanupRule.objects.count() == 1


def test_of_edits_at_once_one_wins_and_the_others_are_told() -> None:
    rule = new_rule()

    def edit(days: int) -> Callable[[], CleanupRule]:
        values = dataclasses.replace(RuleInput.of(rule), inactive_days=days)
        return lambda: update_rule(rule=rule, values=values, expected_version=1, actor=ACTOR, operator=None)

    results = at_once(*[edit(days) for days in (70, 80, 90, 100)])

    assert len([result for result in results if isinstance(result, RuleChanged)]) == 3
    assert (CleanupRule.objects.get().version, RuleVersion.objects.count()) == (2, 2)


def test_run_now_pressed_by_several_starts_one_run() -> None:
    rule = new_rule()

    results = at_once(*[lambda: run_rule(rule=rule, actor=ACTOR, operator=None)] * 4)

    assert len([result for result in results if isinstance(result, OperationAlreadyRunning)]) == 3
    assert Operation.objects.count() == 1


def test_a_rule_paused_at_the_moment_of_its_run_has_no_open_plan_afterwards() -> None:
    for number in range(5):
        rule = new_rule(f"race-{number}")

        results = at_once(
            partial(pause_rule, rule=rule, actor=ACTOR),
            partial(run_rule, rule=rule, actor=ACTOR, operator=None),
        )

        assert not Operation.objects.filter(status__in=Operation.OPEN).exists()
        assert len([result for result in results if isinstance(result, RulePaused | Operation)]) == 1
