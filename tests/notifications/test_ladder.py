"""S221, P10: who is told when, and who waits, over simulated days."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
import time_machine
from django.utils import timezone

from apps.notifications.models import Delivery, EmailTemplate, MailSettings
from apps.operations.models import Operation, SafeguardChange
from apps.operations.reasons import safeguard_lines
from apps.operations.services import run_planning
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.rules.models import CleanupRule
from apps.rules.notice_values import MAX_STEPS
from apps.rules.schedule import next_run
from apps.rules.services import RuleInput, loosened, run_rule, update_rule
from apps.rules.services.notices import owe_notices
from apps.rules.values import clean
from apps.users.models import Account, SyncRun
from aum.common.errors import InvalidInput
from tests.notifications.conftest import ACTOR, Mailbox, send_all
from tests.rules.conftest import rule_input

pytestmark = pytest.mark.django_db
WHEN = datetime(2026, 9, 1, 4, tzinfo=UTC)


def fresh_sync(organization: Organization) -> None:
    now = timezone.now()
    SyncRun.objects.update_or_create(
        organization=organization,
        defaults={"status": SyncRun.Status.SUCCEEDED, "is_trusted": True, "started_at": now, "finished_at": now},
    )


def tell(organization: Organization) -> None:
    """One look of the job, and what it queued sent."""
    fresh_sync(organization)
    owe_notices()
    send_all(organization)


def plan(rule: CleanupRule) -> tuple[set[str], dict[str, int]]:
    """(who is in the plan of a run now, who is left out by reason)."""
    Operation.objects.filter(rule_id=rule.pk).update(status="cancelled")
    operation = run_rule(rule=rule, actor=ACTOR, operator=None)
    # The database's own clock does not travel.
    Operation.objects.filter(pk=operation.pk).update(created_at=timezone.now())
    run_planning(operation.pk)
    operation.refresh_from_db()
    return set(operation.items.values_list("subject", flat=True)), operation.left_out


@pytest.fixture
def make_live(make_rule: Callable[..., CleanupRule]) -> Callable[..., CleanupRule]:
    def make(*steps: str, **fields: Any) -> CleanupRule:
        smallest = {"name": "Idle", "mode": "live", "inactive_days": 30, "run_at": time(6), "notices": steps}
        return make_rule(**(smallest | fields))

    return make


@pytest.mark.parametrize(
    ("zone", "start", "recurrence", "skipped"),
    [
        ("UTC", WHEN, {"recurrence": "daily"}, ()),
        ("UTC", WHEN, {"recurrence": "daily"}, (22, 23, 24)),
        # Clocks go back, and forward, between the mail and the action.
        ("Europe/Vienna", datetime(2026, 9, 28, 4, tzinfo=UTC), {"recurrence": "daily"}, ()),
        ("Europe/Vienna", datetime(2027, 3, 1, 5, tzinfo=UTC), {"recurrence": "daily"}, (22, 23, 24)),
        ("America/New_York", datetime(2026, 10, 4, 9, tzinfo=UTC), {"recurrence": "weekly", "weekdays": (0, 3)}, ()),
        ("Europe/Vienna", datetime(2027, 2, 27, 4, tzinfo=UTC), {"recurrence": "monthly", "month_day": 31}, ()),
    ],
)
def test_the_mail_goes_at_day_23_and_the_action_follows_7_full_days_later(
    zone: str,
    start: datetime,
    recurrence: dict[str, Any],
    skipped: tuple[int, ...],
    organization: Organization,
    mail: MailSettings,
    mailbox: Mailbox,
    make_account: Callable[..., Account],
    make_live: Callable[..., CleanupRule],
    make_template: Callable[..., EmailTemplate],
) -> None:
    acted: datetime | None = None
    with time_machine.travel(start, tick=False) as clock:
        make_account("john", idle_days=0)
        rule = make_live(f"{make_template().pk}:7:person", timezone=zone, **recurrence)
        moment = start + timedelta(days=22)
        slot = next_run(rule, start + timedelta(days=28))
        while acted is None and moment < start + timedelta(days=70):
            # Every four hours around the day of the mail, once a day afterwards.
            step = timedelta(hours=4 if moment < start + timedelta(days=25, hours=8) else 24)
            moment += step
            clock.move_to(moment)
            if (moment - start).days not in skipped:
                tell(organization)
            while acted is None and slot < moment + step:
                clock.move_to(slot)
                fresh_sync(organization)
                people, left_out = plan(rule)
                assert not (people and left_out)
                acted = slot if people else None
                slot = next_run(rule, slot)
    assert acted is not None
    told = Delivery.objects.get(kind="notice")

    assert mailbox.recipients == ["john@example.com"]
    assert told.accepted_at is not None
    day = 25 if skipped else 23
    assert timedelta(days=day, hours=-5) <= told.accepted_at - start <= timedelta(days=day, hours=5)
    assert acted - told.accepted_at >= timedelta(days=7)
    assert acted - start > timedelta(days=30)
    # The very first run that keeps both, and the one that the mail named.
    owed = max(start + timedelta(days=30), told.accepted_at + timedelta(days=7))
    assert acted in (next_run(rule, owed), next_run(rule, owed + timedelta(minutes=2)))
    assert told.announced_at == acted


def test_a_rule_that_is_switched_on_late_tells_first_and_keeps_the_distance_of_each_step(
    organization: Organization,
    mail: MailSettings,
    mailbox: Mailbox,
    make_account: Callable[..., Account],
    make_live: Callable[..., CleanupRule],
    make_template: Callable[..., EmailTemplate],
) -> None:
    with time_machine.travel(WHEN, tick=False) as clock:
        make_account("john", idle_days=400)
        first, last = make_template("First"), make_template("Last")
        rule = make_live(f"{first.pk}:14:person", f"{last.pk}:1:person")
        tell(organization)
        tell(organization)
        at_once = plan(rule)
        sent: list[tuple[int, str]] = [(0, "First")] if mailbox.recipients else []
        acted = None
        for day in (1, 7, 12, 13, 14, 15):
            clock.move_to(WHEN + timedelta(days=day))
            before = len(mailbox.taken)
            tell(organization)
            sent += [(day, "Last")] * (len(mailbox.taken) - before)
            clock.move_to(WHEN + timedelta(days=day, hours=2, minutes=5))
            if acted is None and plan(rule)[0]:
                acted = day

    assert at_once == (set(), {"notice_missing": 1})
    assert sent == [(0, "First"), (13, "Last")]
    assert acted == 14


def test_a_login_between_mail_and_action_begins_a_new_spell_with_a_mail_of_its_own(
    organization: Organization,
    mail: MailSettings,
    mailbox: Mailbox,
    make_account: Callable[..., Account],
    make_live: Callable[..., CleanupRule],
    make_template: Callable[..., EmailTemplate],
) -> None:
    with time_machine.travel(WHEN, tick=False) as clock:
        john = make_account("john", idle_days=25)
        rule = make_live(f"{make_template().pk}:7:person")
        tell(organization)
        Account.objects.filter(pk=john.pk).update(last_active_at=WHEN, jira_last_active_at=WHEN)
        clock.move_to(WHEN + timedelta(days=31))
        fresh_sync(organization)
        too_early = plan(rule)
        tell(organization)
        clock.move_to(WHEN + timedelta(days=38, hours=3))
        fresh_sync(organization)
        in_time = plan(rule)

    assert too_early == (set(), {"notice_missing": 1})
    assert in_time[0] == {"john"}
    assert mailbox.recipients == ["john@example.com"] * 2


def test_nobody_is_told_by_a_rule_in_safe_mode_a_paused_one_or_a_disabled_template(
    organization: Organization,
    mail: MailSettings,
    mailbox: Mailbox,
    make_account: Callable[..., Account],
    make_live: Callable[..., CleanupRule],
    make_template: Callable[..., EmailTemplate],
) -> None:
    make_account("john", idle_days=40)
    template = make_template()
    safe = make_live(f"{template.pk}:7:person", mode="safe", name="Safe")
    paused = make_live(f"{template.pk}:7:person", name="Paused")
    CleanupRule.objects.filter(pk=paused.pk).update(is_paused=True)
    disabled = make_template("Off", is_enabled=False)
    live = make_live(f"{disabled.pk}:7:person", name="Live")

    tell(organization)

    assert mailbox.taken == []
    assert plan(live) == (set(), {"notice_missing": 1})
    # A preview in Safe mode shows whom the rule would act on: it tells nobody, so nobody could be in it otherwise.
    assert plan(safe)[0] == {"john"}


def test_two_products_of_one_person_and_spell_share_one_mail(
    organization: Organization,
    mail: MailSettings,
    mailbox: Mailbox,
    make_account: Callable[..., Account],
    make_live: Callable[..., CleanupRule],
    make_template: Callable[..., EmailTemplate],
) -> None:
    make_account("john", idle_days=25, products=("jira", "confluence"))
    template = make_template(body="<p>{{product}}, {{action}}</p>")
    make_live(f"{template.pk}:7:person", action="remove_product_access", target_products=("jira", "confluence"))

    tell(organization)

    (message,) = mailbox.mails()
    body = message.get_body(("plain",))
    assert body is not None
    assert "Confluence, Jira Software, removal of your access to Confluence, Jira Software" in body.get_content()


def test_fewer_days_of_warning_on_a_live_rule_wait_for_another_person(
    organization: Organization,
    make_live: Callable[..., CleanupRule],
    make_template: Callable[..., EmailTemplate],
    operator: Operator,
    operators: Callable[..., Operator],
) -> None:
    template = make_template()
    rule = make_live(f"{template.pk}:7:person")

    def save(**fields: Any) -> CleanupRule:
        rule.refresh_from_db()
        return update_rule(
            rule=rule,
            values=dataclasses.replace(RuleInput.of(rule), **fields),
            expected_version=rule.version,
            actor=ACTOR,
            operator=operator,
            reason="The works council agreed.",
        )

    stricter = save(notices=(f"{template.pk}:10:person",)).notices
    save(notices=(), undeliverable="act")
    change = SafeguardChange.objects.get(status="pending")
    rule.refresh_from_db()

    assert stricter == [f"{template.pk}:10:person"]
    assert (rule.notices, rule.undeliverable) == (stricter, "ask")
    assert [line.sentence for line in safeguard_lines(change)] == [
        "Rule Idle: warn users: 10 days before → not at all",
        "Rule Idle: when a notice cannot be delivered: ask and wait → act after some days",
    ]
    loosened.apply(change)
    rule.refresh_from_db()
    assert (rule.notices, rule.undeliverable) == ([], "act")


def test_fewer_days_before_acting_without_a_notice_wait_for_another_person_and_more_do_not(
    make_live: Callable[..., CleanupRule], make_template: Callable[..., EmailTemplate], operator: Operator
) -> None:
    rule = make_live(f"{make_template().pk}:7:person", undeliverable="act", undeliverable_days=9)

    def save(days: int) -> int:
        rule.refresh_from_db()
        values = dataclasses.replace(RuleInput.of(rule), undeliverable_days=days)
        changed = update_rule(
            rule=rule,
            values=values,
            expected_version=rule.version,
            actor=ACTOR,
            operator=operator,
            reason="The works council agreed.",
        )
        return changed.undeliverable_days

    assert save(12) == 12
    assert not SafeguardChange.objects.filter(status="pending").exists()
    assert save(11) == 12
    assert SafeguardChange.objects.get(status="pending").changes["undeliverable_days"] == ["12", "11"]


def test_a_ladder_has_a_most_of_notices(
    organization: Organization, make_template: Callable[..., EmailTemplate]
) -> None:
    templates = [make_template(f"T{number}").pk for number in range(MAX_STEPS + 1)]
    steps = tuple(f"{pk}:{days}:person" for days, pk in enumerate(templates, start=1))

    assert len(clean(rule_input(notices=steps[:-1]), organization).notices) == MAX_STEPS
    with pytest.raises(InvalidInput) as refused:
        clean(rule_input(notices=steps), organization)
    assert refused.value.fields["notices"] == [f"Use at most {MAX_STEPS} notices."]
