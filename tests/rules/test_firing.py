from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
import time_machine
from django.conf import settings
from django_celery_beat.models import PeriodicTask

from apps.audit.models import AuditEvent
from apps.operations.models import Operation
from apps.operators.models import Operator
from apps.organizations.models import Alert, Credential, Installation, Organization
from apps.organizations.services import turn_kill_switch_on
from apps.rules import tasks
from apps.rules.models import CleanupRule, DueSlot
from apps.rules.services import RuleInput, fire, fire_due, pause_rule, resume_rule, sweep, update_rule
from apps.users.models import Group
from tests.rules.conftest import ACTOR, WEDNESDAY

DUE = datetime(2026, 11, 26, 6, tzinfo=UTC)  # the first time of a daily rule made on WEDNESDAY


@pytest.fixture
def rule(make_rule: Callable[..., CleanupRule]) -> CleanupRule:
    """Daily at 06:00 UTC, made on Wednesday at noon."""
    with time_machine.travel(WEDNESDAY, tick=False):
        return make_rule()


CATCH_UP = timedelta(hours=6)


def at(moment: datetime) -> Any:
    return time_machine.travel(moment, tick=False)


def finish_runs() -> None:
    Operation.objects.update(status=Operation.Status.PREVIEWED)


def slots() -> list[tuple[datetime, str]]:
    return list(DueSlot.objects.order_by("due_at").values_list("due_at", "state"))


def test_beat_fires_a_due_rule(rule: CleanupRule, operator: Operator) -> None:
    with at(DUE + timedelta(seconds=2)):
        tasks.fire(rule.pk)

    run = Operation.objects.get()
    assert (run.kind, run.initiator, run.mode) == ("scheduled_cleanup", "automated", "safe")
    assert run.actor_text == "Scheduler"
    assert run.actor == operator  # the author: who last edited the rule
    assert slots() == [(DUE, "fired")]
    assert DueSlot.objects.get().operation_number == run.number
    rule.refresh_from_db()
    assert (rule.last_operation_number, rule.next_run_at) == (run.number, DUE + timedelta(days=1))


def test_nothing_fires_before_its_time(rule: CleanupRule) -> None:
    with at(DUE - timedelta(seconds=1)):
        fire(rule_id=rule.pk)
        assert sweep() == 0
        assert fire_due(rule_id=rule.pk, due_at=DUE) is None

    assert slots() == []


def test_the_sweep_fires_what_beat_did_not(rule: CleanupRule) -> None:
    with at(DUE + timedelta(minutes=1)):
        assert sweep() == 1

    assert slots() == [(DUE, "fired")]


def test_whoever_comes_second_does_nothing(rule: CleanupRule) -> None:
    with at(DUE + timedelta(seconds=2)):
        tasks.fire(rule.pk)
        tasks.fire(rule.pk)
        tasks.sweep()
        assert fire_due(rule_id=rule.pk, due_at=DUE) is None

    assert Operation.objects.count() == 1
    assert slots() == [(DUE, "fired")]


def test_a_run_within_the_catch_up_window_is_made_up_for_once(rule: CleanupRule) -> None:
    with at(DUE + CATCH_UP):
        assert sweep() == 1
        assert sweep() == 0

    assert slots() == [(DUE, "caught_up")]
    assert not Alert.objects.exists()


def test_a_run_beyond_the_window_is_reported_as_missed(rule: CleanupRule) -> None:
    with at(DUE + CATCH_UP + timedelta(seconds=1)):
        assert sweep() == 0

    assert not Operation.objects.exists()
    assert slots() == [(DUE, "missed")]
    alert = Alert.objects.get()
    assert (alert.kind, alert.title) == ("rule_missed", "Suspend after 60 days should have run and did not")
    assert "2026-11-26 06:00 UTC" in alert.detail
    assert AuditEvent.objects.filter(action="rule.missed", outcome="warning", rule_id=rule.pk).count() == 1
    rule.refresh_from_db()
    assert rule.next_run_at == DUE + timedelta(days=1)


def test_after_days_of_silence_only_the_last_time_runs(rule: CleanupRule) -> None:
    with at(DUE + timedelta(days=5, hours=2)):
        assert sweep() == 1
        assert sweep() == 0

    states = [state for _due, state in slots()]
    assert states == ["missed"] * 5 + ["caught_up"]
    assert Operation.objects.count() == 1
    assert "5 times" in Alert.objects.get().detail


def test_a_paused_rule_neither_runs_nor_misses(rule: CleanupRule) -> None:
    pause_rule(rule=rule, actor=ACTOR)

    with at(DUE + timedelta(days=3)):
        assert fire(rule_id=rule.pk) is None
        assert fire_due(rule_id=rule.pk, due_at=DUE) is None
        sweep()
        resume_rule(rule=rule, actor=ACTOR)
        sweep()

    assert slots() == []
    assert not Operation.objects.exists()


def test_a_deleted_rule_does_not_run_and_leaves_beat(rule: CleanupRule) -> None:
    CleanupRule.objects.all().delete()  # as when its organisation is deleted

    with at(DUE):
        tasks.fire(rule.pk)
        tasks.sweep()

    assert not Operation.objects.exists()
    assert not PeriodicTask.objects.filter(task="rules.fire").exists()


def test_an_edit_of_the_schedule_at_the_last_minute_counts(rule: CleanupRule) -> None:
    with at(DUE - timedelta(minutes=1)):
        later = dataclasses.replace(RuleInput.of(rule), run_at=time(7))
        update_rule(rule=rule, values=later, expected_version=1, actor=ACTOR, operator=None)
    with at(DUE + timedelta(minutes=1)):
        assert sweep() == 0
    with at(DUE + timedelta(hours=1)):
        assert sweep() == 1

    assert slots() == [(DUE + timedelta(hours=1), "fired")]


def test_a_monthly_rule_rings_more_often_than_it_runs(make_rule: Callable[..., CleanupRule]) -> None:
    """The crontab of the 31st rings on the 28th to the 31st; only the month's last day is due."""
    with at(datetime(2027, 2, 1, tzinfo=UTC)):
        rule = make_rule(recurrence="monthly", month_day=31)

    for day in (datetime(2027, 2, 28, 6, tzinfo=UTC), *(datetime(2027, 3, n, 6, tzinfo=UTC) for n in range(28, 32))):
        with at(day):
            tasks.fire(rule.pk)
        finish_runs()

    assert [due.date().isoformat() for due, _state in slots()] == ["2027-02-28", "2027-03-31"]


@pytest.mark.parametrize(
    ("day", "due"),
    [
        (datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 3, 29, 1, tzinfo=UTC)),
        (datetime(2026, 10, 25, tzinfo=UTC), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
    ],
)
def test_across_a_clock_change_a_rule_runs_once(
    make_rule: Callable[..., CleanupRule], day: datetime, due: datetime
) -> None:
    """02:30 in Vienna: skipped in spring, twice in autumn. Beat and sweep both look every quarter of an hour."""
    with at(day - timedelta(hours=12)):
        rule = make_rule(run_at="02:30", timezone="Europe/Vienna")

    for quarter in range(24 * 4):
        with at(day - timedelta(hours=2) + timedelta(minutes=15 * quarter)):
            tasks.fire(rule.pk)
            tasks.sweep()

    assert slots() == [(due, "fired")]


def test_a_clock_set_back_does_not_fire_again(rule: CleanupRule) -> None:
    with at(DUE + timedelta(minutes=1)):
        sweep()
    finish_runs()

    for minutes in range(-120, 5, 5):
        with at(DUE + timedelta(minutes=minutes)):
            tasks.fire(rule.pk)
            tasks.sweep()

    assert slots() == [(DUE, "fired")]
    assert Operation.objects.count() == 1


def test_a_clock_that_ran_ahead_costs_no_run_once_it_is_right_again(rule: CleanupRule) -> None:
    with at(DUE + timedelta(days=30, minutes=1)):
        sweep()  # reports 30 times as missed and runs the last one
    finish_runs()

    with at(WEDNESDAY + timedelta(hours=1)):
        sweep()
    rule.refresh_from_db()
    assert rule.next_run_at == DUE
    with at(DUE + timedelta(minutes=1)):
        assert sweep() == 1

    assert slots() == [(DUE, "fired"), (DUE + timedelta(days=30), "fired")]


def test_a_rule_edited_under_a_clock_that_ran_ahead_runs_once_it_is_right_again(rule: CleanupRule) -> None:
    with at(DUE + timedelta(days=30)):
        pause_rule(rule=rule, actor=ACTOR)
        resume_rule(rule=rule, actor=ACTOR)
    with at(WEDNESDAY + timedelta(hours=1)):
        sweep()
    with at(DUE + timedelta(minutes=1)):
        assert sweep() == 1


# --- refusals -------------------------------------------------------------------------------------------------------


def refused(kind: str) -> tuple[DueSlot, Alert]:
    slot, alert = DueSlot.objects.get(), Alert.objects.get()
    assert slot.state == DueSlot.State.REFUSED
    assert alert.kind == kind
    assert AuditEvent.objects.filter(action="rule.refused", outcome="warning").count() == 1
    return slot, alert


def test_a_live_rule_is_refused_while_the_kill_switch_is_on(
    make_rule: Callable[..., CleanupRule], organization: Organization
) -> None:
    with at(WEDNESDAY):
        make_rule(mode="live")
    turn_kill_switch_on(organization=organization, reason="Test", actor=ACTOR)

    with at(DUE):
        assert sweep() == 0
        assert sweep() == 0

    slot, alert = refused("rule_refused")
    assert "kill switch" in slot.detail
    assert "2026-11-26 06:00 UTC" in alert.detail


def test_a_rule_is_refused_without_a_connection(rule: CleanupRule) -> None:
    Credential.objects.all().delete()

    with at(DUE):
        sweep()

    refused("rule_refused")


def test_a_rule_is_refused_while_its_last_run_goes_on(rule: CleanupRule) -> None:
    with at(DUE):
        sweep()
    with at(DUE + timedelta(days=1)):
        sweep()

    assert [state for _due, state in slots()] == ["fired", "refused"]
    assert "not finished" in Alert.objects.get().detail


def test_the_next_run_that_works_resolves_the_alert(rule: CleanupRule) -> None:
    with at(DUE):
        sweep()
    with at(DUE + timedelta(days=1)):
        sweep()
    finish_runs()
    with at(DUE + timedelta(days=2)):
        sweep()

    assert Alert.objects.get().resolved_at


def test_a_rule_whose_group_is_gone_is_refused_with_one_alert(
    make_rule: Callable[..., CleanupRule], make_group: Callable[..., Group]
) -> None:
    group = make_group("jira-admins")
    with at(WEDNESDAY):
        make_rule(protected_groups=(group.pk,))
    Group.objects.update(vanished_at=WEDNESDAY)

    with at(DUE):
        sweep()

    slot, _alert = refused("rule_group_missing")
    assert "jira-admins" in slot.detail


def test_nothing_runs_in_a_copied_database(rule: CleanupRule) -> None:
    Installation.objects.update_or_create(pk=1, defaults={"instance_id": "another"})

    with at(DUE):
        sweep()

    slot, _alert = refused("rule_refused")
    assert "copy" in slot.detail


def test_one_broken_rule_does_not_stop_the_others(rule: CleanupRule, make_rule: Callable[..., CleanupRule]) -> None:
    with at(WEDNESDAY):
        other = make_rule(name="Other")
    rule.versions.update(content={})  # no release writes this

    with at(DUE), pytest.raises(ExceptionGroup) as caught:
        sweep()

    assert len(caught.value.exceptions) == 1
    assert DueSlot.objects.get().rule == other
    with at(DUE + timedelta(hours=1)), pytest.raises(ExceptionGroup):
        sweep()  # nothing was claimed for the broken one, so it is tried again


def test_the_number_of_queries_of_an_idle_sweep_does_not_grow(
    make_rule: Callable[..., CleanupRule], django_assert_num_queries: Any
) -> None:
    with at(WEDNESDAY):
        for number in range(20):
            make_rule(name=f"Rule {number}")

        with django_assert_num_queries(1):
            sweep()


def test_beat_runs_the_sweep_every_minute() -> None:
    assert settings.CELERY_BEAT_SCHEDULE["rules.sweep"] == {"task": tasks.sweep.name, "schedule": 60}
