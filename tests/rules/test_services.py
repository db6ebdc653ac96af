from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
import time_machine
from django.utils import timezone
from django_celery_beat.models import PeriodicTask, PeriodicTasks

from apps.audit.models import AuditEvent
from apps.operations.models import Operation
from apps.operations.services import OperationAlreadyRunning, PlanExpired, apply_preview, run_planning
from apps.operators.models import Operator
from apps.organizations.models import Alert, Credential, Organization
from apps.organizations.services import turn_kill_switch_on
from apps.rules import selectors
from apps.rules.models import CleanupRule, RuleVersion
from apps.rules.services import (
    GroupMissing,
    RuleChanged,
    RuleInput,
    RulePaused,
    WritesStopped,
    delete_rule,
    duplicate_rule,
    pause_rule,
    preview_rule,
    resume_rule,
    run_rule,
    update_rule,
)
from apps.users.models import Account, Group, ProtectedGroup, SyncRun
from aum.common.errors import DomainError, InvalidInput, Missing
from tests.rules.conftest import ACTOR, WEDNESDAY, make_organization


def edit(rule: CleanupRule, operator: Operator | None = None, **fields: Any) -> CleanupRule:
    values = dataclasses.replace(RuleInput.of(rule), **fields)
    return update_rule(rule=rule, values=values, expected_version=rule.version, actor=ACTOR, operator=operator)


def actions(organization: Organization) -> list[str]:
    return list(AuditEvent.objects.of(organization).order_by("id").values_list("action", flat=True))


# --- create, edit ---------------------------------------------------------------------------------------------------


@time_machine.travel(WEDNESDAY, tick=False)
def test_creating_a_rule_stores_all_of_it(make_rule: Callable[..., CleanupRule], operator: Operator) -> None:
    rule = make_rule(recurrence="weekly", weekdays=(3,), timezone="Europe/Vienna", max_count=20)

    stored = CleanupRule.objects.get()
    assert stored == rule
    assert (stored.mode, stored.action, stored.inactive_days, stored.max_count) == ("safe", "suspend", 60, 20)
    assert (stored.edited_by, stored.edited_by_text, stored.edited_at) == (operator, "Ada", WEDNESDAY)
    assert stored.next_run_at == datetime(2026, 11, 26, 5, tzinfo=UTC)
    assert (stored.last_run_at, stored.scheduled_from) == (None, WEDNESDAY)


def test_creating_a_rule_writes_a_version_and_an_audit_row(make_rule: Callable[..., CleanupRule]) -> None:
    rule = make_rule()

    version = RuleVersion.objects.get()
    assert (version.rule, version.version, version.content["inactive_days"]) == (rule, 1, 60)
    event = AuditEvent.objects.get()
    assert (event.action, event.rule_id, event.rule_version, event.target_ref) == (
        "rule.created",
        rule.pk,
        1,
        str(rule.pk),
    )


def test_nothing_is_stored_of_a_rule_that_is_refused(make_rule: Callable[..., CleanupRule]) -> None:
    with pytest.raises(InvalidInput):
        make_rule(inactive_days="0")

    assert not CleanupRule.objects.exists()
    assert not PeriodicTask.objects.exists()
    assert not AuditEvent.objects.exists()


@pytest.mark.parametrize(
    ("fields", "crontab"),
    [
        ({"run_at": time(6, 30)}, ("30", "6", "*", "*", "UTC")),
        ({"recurrence": "weekly", "weekdays": (0, 6), "timezone": "Asia/Tokyo"}, ("0", "6", "*", "1,0", "Asia/Tokyo")),
        ({"recurrence": "monthly", "month_day": 28}, ("0", "6", "28", "*", "UTC")),
        ({"recurrence": "monthly", "month_day": 31}, ("0", "6", "28-31", "*", "UTC")),
    ],
)
def test_a_rule_owns_one_periodic_task(
    make_rule: Callable[..., CleanupRule], fields: dict[str, Any], crontab: tuple[str, ...]
) -> None:
    rule = make_rule(**fields)

    task = PeriodicTask.objects.get()
    assert rule.periodic_task == task
    assert (task.task, json.loads(task.kwargs), task.enabled) == ("rules.fire", {"rule_id": rule.pk}, True)
    cron = task.crontab
    assert (cron.minute, cron.hour, cron.day_of_month, cron.day_of_week, str(cron.timezone)) == crontab


def test_editing_makes_a_new_version_and_says_what_changed(
    make_rule: Callable[..., CleanupRule], organization: Organization
) -> None:
    rule = edit(make_rule(), inactive_days=90, include_never_active=True, never_active_days=14)

    assert (rule.version, rule.inactive_days, rule.never_active_days) == (2, 90, 14)
    assert list(RuleVersion.objects.values_list("version", flat=True)) == [2, 1]
    event = AuditEvent.objects.get(action="rule.updated")
    assert event.before == {"inactive_days": 60, "include_never_active": False, "never_active_days": None}
    assert event.after == {"inactive_days": 90, "include_never_active": True, "never_active_days": 14}


def test_switching_to_live_keeps_everything_else(
    make_rule: Callable[..., CleanupRule], make_group: Callable[..., Group], operator: Operator
) -> None:
    rule = make_rule(inactive_products=("jira",), protected_groups=(make_group("jira-admins").pk,))
    before = RuleInput.of(rule)
    run_planning(preview_rule(rule=rule, actor=ACTOR, operator=operator).pk)

    edit(rule, mode="live")

    assert RuleInput.of(CleanupRule.objects.get()) == dataclasses.replace(before, mode="live")


def test_saving_unchanged_values_changes_nothing(
    make_rule: Callable[..., CleanupRule], make_group: Callable[..., Group], organization: Organization
) -> None:
    group = make_group("jira-admins")
    rule = make_rule(protected_groups=(group.pk,))
    Group.objects.filter(pk=group.pk).update(name="jira-administrators")

    assert edit(rule).version == 1
    assert actions(organization) == ["rule.created"]


def test_an_edit_of_an_older_version_is_refused_naming_who_changed_it(make_rule: Callable[..., CleanupRule]) -> None:
    seen = make_rule()
    edit(CleanupRule.objects.get(), inactive_days=90)

    with pytest.raises(RuleChanged) as caught:
        edit(seen, inactive_days=30)

    assert caught.value.status == 409
    assert "Ada changed this rule" in caught.value.detail
    assert CleanupRule.objects.get().inactive_days == 90


def test_editing_a_rule_with_a_group_that_is_gone_names_the_group(
    make_rule: Callable[..., CleanupRule], make_group: Callable[..., Group]
) -> None:
    group = make_group("jira-admins")
    rule = make_rule(protected_groups=(group.pk,))
    Group.objects.filter(pk=group.pk).update(vanished_at=timezone.now())

    with pytest.raises(InvalidInput) as caught:
        edit(rule, inactive_days=90)

    assert "jira-admins" in caught.value.fields["protected_groups"][0]


def test_a_changed_schedule_owes_nothing_from_before(make_rule: Callable[..., CleanupRule]) -> None:
    with time_machine.travel(WEDNESDAY, tick=False):
        rule = make_rule(run_at=time(6))
    later = WEDNESDAY + timedelta(hours=1)

    with time_machine.travel(later, tick=False):
        rule = edit(rule, run_at=time(12, 30))

    assert (rule.scheduled_from, rule.next_run_at) == (later, datetime(2026, 11, 26, 12, 30, tzinfo=UTC))
    assert PeriodicTask.objects.get().crontab.hour == "12"


def test_an_edit_that_keeps_the_schedule_keeps_what_is_owed(make_rule: Callable[..., CleanupRule]) -> None:
    with time_machine.travel(WEDNESDAY, tick=False):
        rule = make_rule()
    with time_machine.travel(WEDNESDAY + timedelta(days=1), tick=False):
        rule = edit(rule, inactive_days=90)

    assert rule.scheduled_from == WEDNESDAY


def test_beat_is_told_of_every_change(make_rule: Callable[..., CleanupRule]) -> None:
    rule = make_rule()
    before = PeriodicTasks.last_change()

    edit(rule, run_at=time(7))

    assert PeriodicTasks.last_change() > before


# --- pause, resume, delete, duplicate -------------------------------------------------------------------------------


def test_a_paused_rule_does_not_run(make_rule: Callable[..., CleanupRule], operator: Operator) -> None:
    rule = pause_rule(rule=make_rule(), reason="Holidays", actor=ACTOR)

    with pytest.raises(RulePaused) as caught:
        run_rule(rule=rule, actor=ACTOR, operator=operator)

    assert "Holidays" in caught.value.detail
    assert not Operation.objects.exists()
    assert not PeriodicTask.objects.get().enabled
    assert (rule.next_run_at, selectors.next_run_at(rule)) == (None, None)


def test_a_paused_rule_can_be_previewed(make_rule: Callable[..., CleanupRule], operator: Operator) -> None:
    rule = pause_rule(rule=make_rule(mode="live"), actor=ACTOR)

    assert preview_rule(rule=rule, actor=ACTOR, operator=operator).mode == "safe"


def test_resuming_owes_nothing_of_the_pause(make_rule: Callable[..., CleanupRule], organization: Organization) -> None:
    with time_machine.travel(WEDNESDAY, tick=False):
        rule = pause_rule(rule=make_rule(), actor=ACTOR)
    later = WEDNESDAY + timedelta(days=10)

    with time_machine.travel(later, tick=False):
        rule = resume_rule(rule=rule, actor=ACTOR)

    assert (rule.is_paused, rule.scheduled_from) == (False, later)
    assert rule.next_run_at == datetime(2026, 12, 6, 6, tzinfo=UTC)
    assert PeriodicTask.objects.get().enabled
    assert actions(organization) == ["rule.created", "rule.paused", "rule.resumed"]


def test_pausing_and_resuming_twice_changes_nothing(
    make_rule: Callable[..., CleanupRule], organization: Organization
) -> None:
    rule = make_rule()
    for _ in range(2):
        pause_rule(rule=rule, reason="First", actor=ACTOR)
    for _ in range(2):
        resume_rule(rule=rule, actor=ACTOR)

    assert actions(organization) == ["rule.created", "rule.paused", "rule.resumed"]


def test_a_run_under_way_pauses_and_goes_on_with_its_rule(
    make_rule: Callable[..., CleanupRule], operator: Operator
) -> None:
    rule = make_rule(mode="live")
    run = run_rule(rule=rule, actor=ACTOR, operator=operator)
    Operation.objects.filter(pk=run.pk).update(status=Operation.Status.RUNNING)

    pause_rule(rule=rule, actor=ACTOR)
    assert Operation.objects.get().status == Operation.Status.PAUSED

    resume_rule(rule=rule, actor=ACTOR)
    assert Operation.objects.get().status == Operation.Status.QUEUED


def test_resuming_a_rule_leaves_a_run_paused_that_was_paused_by_itself(
    make_rule: Callable[..., CleanupRule], operator: Operator
) -> None:
    rule = make_rule(mode="live")
    run = run_rule(rule=rule, actor=ACTOR, operator=operator)
    Operation.objects.filter(pk=run.pk).update(status=Operation.Status.PAUSED)

    pause_rule(rule=rule, actor=ACTOR)
    resume_rule(rule=rule, actor=ACTOR)

    assert Operation.objects.get().status == Operation.Status.PAUSED


@pytest.mark.parametrize("change", ["edit", "pause", "delete"])
def test_a_waiting_plan_is_void_once_its_rule_changes(
    make_rule: Callable[..., CleanupRule], operator: Operator, change: str
) -> None:
    rule = make_rule(mode="live")
    run = run_rule(rule=rule, actor=ACTOR, operator=operator)
    Operation.objects.filter(pk=run.pk).update(status=Operation.Status.HELD)

    if change == "edit":
        edit(rule, inactive_days=90)
    elif change == "pause":
        pause_rule(rule=rule, actor=ACTOR)
    else:
        delete_rule(rule=rule, actor=ACTOR)

    assert Operation.objects.get().status == Operation.Status.SUPERSEDED


@pytest.mark.parametrize("change", ["edit", "delete"])
def test_a_run_under_way_keeps_its_frozen_plan_when_its_rule_changes(
    make_rule: Callable[..., CleanupRule], operator: Operator, change: str
) -> None:
    rule = make_rule(mode="live")
    run = run_rule(rule=rule, actor=ACTOR, operator=operator)
    Operation.objects.filter(pk=run.pk).update(status=Operation.Status.RUNNING)

    edit(rule, inactive_days=90) if change == "edit" else delete_rule(rule=rule, actor=ACTOR)

    kept = Operation.objects.get()
    assert (kept.status, kept.rule_id, kept.rule_version) == (Operation.Status.RUNNING, rule.pk, 1)
    assert kept.frozen["selection"]["inactive_days"] == 60


def test_deleting_keeps_runs_versions_and_audit(
    make_rule: Callable[..., CleanupRule], operator: Operator, organization: Organization
) -> None:
    rule = make_rule()
    run = run_rule(rule=rule, actor=ACTOR, operator=operator)

    delete_rule(rule=rule, actor=ACTOR)

    assert not selectors.rules(organization).exists()
    assert not PeriodicTask.objects.exists()
    assert Operation.objects.get(pk=run.pk).name == rule.name
    assert RuleVersion.objects.count() == 1
    assert "rule.deleted" in actions(organization)


def test_a_deleted_rule_cannot_be_changed_or_run(make_rule: Callable[..., CleanupRule], operator: Operator) -> None:
    rule = make_rule()
    delete_rule(rule=rule, actor=ACTOR)

    attempts: list[Callable[[], Any]] = [
        lambda: edit(rule, inactive_days=90),
        lambda: pause_rule(rule=rule, actor=ACTOR),
        lambda: resume_rule(rule=rule, actor=ACTOR),
        lambda: delete_rule(rule=rule, actor=ACTOR),
        lambda: run_rule(rule=rule, actor=ACTOR, operator=operator),
        lambda: preview_rule(rule=rule, actor=ACTOR, operator=operator),
        lambda: selectors.rule_by_id(rule.organization, rule.pk),
    ]
    for attempt in attempts:
        with pytest.raises(Missing):
            attempt()


def test_the_name_of_a_deleted_rule_is_free(make_rule: Callable[..., CleanupRule]) -> None:
    delete_rule(rule=make_rule(), actor=ACTOR)

    assert make_rule().name == "Suspend after 60 days"


def test_a_copy_is_safe_and_has_a_free_name(make_rule: Callable[..., CleanupRule], operator: Operator) -> None:
    rule = make_rule(name="N" * 120, mode="live", inactive_products=("jira",))

    first = duplicate_rule(rule=rule, actor=ACTOR, operator=operator)
    second = duplicate_rule(rule=rule, actor=ACTOR, operator=operator)

    assert (first.name, second.name) == ("N" * 113 + " (copy)", "N" * 111 + " (copy 2)")
    assert (first.mode, first.inactive_products) == ("safe", ["jira"])


# --- preview, run ---------------------------------------------------------------------------------------------------


def test_run_now_plans_the_rule_in_its_mode(
    make_rule: Callable[..., CleanupRule],
    make_group: Callable[..., Group],
    organization: Organization,
    operator: Operator,
) -> None:
    own, everywhere, target = make_group("jira-admins"), make_group("break-glass"), make_group("contractors")
    ProtectedGroup.objects.create(organization=organization, group=everywhere, added_at=timezone.now(), added_by="Ada")
    rule = make_rule(
        mode="live",
        inactive_products=("jira",),
        target="specified_groups",
        target_groups=(target.pk,),
        protected_groups=(own.pk,),
        include_never_active=True,
        never_active_days=30,
        max_count=20,
    )

    run = run_rule(rule=rule, actor=ACTOR, operator=operator)

    assert (run.kind, run.mode, run.initiator, run.name) == ("automation_rule", "live", "manual", rule.name)
    assert (run.rule_id, run.rule_version, run.actor, run.action) == (rule.pk, 1, operator, "suspend")
    run.refresh_from_db()
    selection = run.frozen["selection"]
    assert selection["protected_group_ids"] == sorted([own.pk, everywhere.pk])
    assert (selection["target_group_ids"], selection["inactive_products"]) == ([target.pk], ["jira"])
    assert (selection["include_never_active"], selection["never_active_days"]) == (True, 30)
    assert run.frozen["limits"]["max_count"] == 20
    assert run.frozen["rule_author_id"] == operator.pk
    assert run.sentence == selectors.sentence(rule)


def test_a_run_is_the_rules_last_run_and_a_preview_is_not(
    make_rule: Callable[..., CleanupRule], operator: Operator
) -> None:
    rule = make_rule(mode="live")
    preview = preview_rule(rule=rule, actor=ACTOR, operator=operator)
    assert CleanupRule.objects.get().last_run_at is None
    run_planning(preview.pk)

    run = run_rule(rule=rule, actor=ACTOR, operator=operator)

    assert CleanupRule.objects.get().last_operation_number == run.number


def test_a_preview_of_a_live_rule_is_safe(make_rule: Callable[..., CleanupRule], operator: Operator) -> None:
    preview = preview_rule(rule=make_rule(mode="live"), actor=ACTOR, operator=operator)

    assert (preview.mode, preview.kind, preview.initiator) == ("safe", "automation_rule", "manual")


def test_the_same_rule_cannot_be_started_twice_at_once(
    make_rule: Callable[..., CleanupRule], operator: Operator
) -> None:
    rule = make_rule()
    run_rule(rule=rule, actor=ACTOR, operator=operator)

    with pytest.raises(OperationAlreadyRunning):
        run_rule(rule=rule, actor=ACTOR, operator=operator)

    assert Operation.objects.count() == 1


def test_a_live_rule_does_not_run_while_the_kill_switch_is_on(
    make_rule: Callable[..., CleanupRule], operator: Operator, organization: Organization
) -> None:
    live, safe = make_rule(mode="live"), make_rule(name="Safe one")
    turn_kill_switch_on(organization=organization, reason="Test", actor=ACTOR)

    with pytest.raises(WritesStopped):
        run_rule(rule=live, actor=ACTOR, operator=operator)

    assert run_rule(rule=safe, actor=ACTOR, operator=operator).mode == "safe"


def test_a_rule_does_not_run_without_a_connection(make_rule: Callable[..., CleanupRule], operator: Operator) -> None:
    rule = make_rule()
    Credential.objects.all().delete()

    with pytest.raises(DomainError):
        run_rule(rule=rule, actor=ACTOR, operator=operator)

    assert not Operation.objects.exists()


@pytest.mark.parametrize("role", ["target", "protected", "organisation-wide protected"])
def test_a_rule_whose_group_is_gone_is_held_back_with_an_alert(
    make_rule: Callable[..., CleanupRule],
    make_group: Callable[..., Group],
    organization: Organization,
    operator: Operator,
    role: str,
) -> None:
    group = make_group("contractors")
    fields_of: dict[str, dict[str, Any]] = {
        "target": {"target": "specified_groups", "target_groups": (group.pk,)},
        "protected": {"protected_groups": (group.pk,)},
    }
    fields = fields_of.get(role, {})
    if not fields:
        ProtectedGroup.objects.create(organization=organization, group=group, added_at=timezone.now(), added_by="Ada")
    rule = make_rule(**fields)
    Group.objects.filter(pk=group.pk).update(vanished_at=timezone.now())

    with pytest.raises(GroupMissing) as caught:
        run_rule(rule=rule, actor=ACTOR, operator=operator)

    assert f"contractors ({role})" in caught.value.detail
    assert not Operation.objects.exists()
    assert Alert.objects.get().kind == "rule_group_missing"

    Group.objects.filter(pk=group.pk).update(vanished_at=None)
    run_rule(rule=rule, actor=ACTOR, operator=operator)
    assert Alert.objects.get().resolved_at


def test_a_protected_group_whose_row_is_gone_protects_by_stopping(
    make_rule: Callable[..., CleanupRule], make_group: Callable[..., Group], operator: Operator
) -> None:
    group = make_group("jira-admins")
    rule = make_rule(protected_groups=(group.pk,))
    group.delete()

    with pytest.raises(GroupMissing):
        run_rule(rule=rule, actor=ACTOR, operator=operator)


def test_the_documented_example_works(
    make_rule: Callable[..., CleanupRule],
    make_group: Callable[..., Group],
    make_account: Callable[..., Account],
    trusted_sync: SyncRun,
    operator: Operator,
) -> None:
    """S166: suspend, Jira, 60 days, protected jira-admins, Safe mode first, then Live."""
    admins = make_group("jira-admins")
    make_account("idle")
    make_account("recent", idle_days=10)
    make_account("admin", groups=[admins])
    make_account("elsewhere", products=("jira", "confluence"), confluence_last_active_at=timezone.now())
    make_account("outsider", products=("confluence",))
    rule = make_rule(inactive_products=("jira",), protected_groups=(admins.pk,))

    preview = run_rule(rule=rule, actor=ACTOR, operator=operator)
    run_planning(preview.pk)
    live = run_rule(rule=edit(rule, operator, mode="live"), actor=ACTOR, operator=operator)
    run_planning(live.pk)

    for run in (preview, live):
        run.refresh_from_db()
        assert sorted(run.items.values_list("subject", flat=True)) == ["elsewhere", "idle"]
        assert run.left_out == {"protected": 1}
    assert (preview.status, live.mode) == ("previewed", "live")
    assert live.status in ("held", "queued")


def test_a_preview_cannot_be_applied_after_an_edit(
    make_rule: Callable[..., CleanupRule], make_account: Callable[..., Account], operator: Operator
) -> None:
    make_account("idle")
    rule = make_rule()
    preview = run_rule(rule=rule, actor=ACTOR, operator=operator)
    run_planning(preview.pk)
    edit(rule, inactive_days=90)
    preview.refresh_from_db()

    with pytest.raises(PlanExpired):
        apply_preview(operation=preview, plan_hash=preview.plan_hash, actor=ACTOR, operator=operator)


def test_rules_of_another_organisation_are_out_of_sight(make_rule: Callable[..., CleanupRule]) -> None:
    rule, other = make_rule(), make_organization("other")

    with pytest.raises(Missing):
        selectors.rule_by_id(other, rule.pk)
    assert not selectors.rules(other).exists()
