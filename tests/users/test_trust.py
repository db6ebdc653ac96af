"""Data trust (P11): what a poor sync does to live rules, and how a new baseline is accepted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.organizations.models import Alert, Organization
from apps.organizations.recorder import Actor
from apps.sandbox.server import Sandbox
from apps.users.models import Account, GroupMembership, SyncRun
from apps.users.selectors import data_trust
from apps.users.services import BaselineRefused, accept_baseline, mirror_vanished
from apps.users.services.merge import recompute_accounts
from aum.common.errors import InvalidInput
from tests.users.test_sync import assert_mirrors, listed

pytestmark = pytest.mark.django_db

Sync = Callable[[], SyncRun]
ANNA = Actor("operator", "1", "Anna", "anna@example.com")


def vanish(sandbox: Sandbox, share: float) -> None:
    """Take people out of the organisation so that Atlassian's own count goes down with them."""
    people = listed(sandbox)
    for person in people[: int(len(people) * share)]:
        person.kind = "customer"


def test_nothing_is_trusted_when_never_synced(organization: Organization) -> None:
    judged = data_trust(organization)

    assert (judged.ok, judged.code, judged.sync_run) == (False, "never_synced", None)


def test_trust_ends_when_the_sync_is_too_old(organization: Organization, sync: Sync) -> None:
    run = sync()
    assert run.started_at is not None
    limit = run.started_at + timedelta(hours=organization.max_data_age_hours)

    assert data_trust(organization, now=limit).ok
    judged = data_trust(organization, now=limit + timedelta(seconds=1))

    assert (judged.ok, judged.code) == (False, "too_old")
    assert "36 hours" in judged.reasons[0]


def test_sync_is_not_trusted_when_many_dates_are_lost(organization: Organization, sandbox: Sandbox, sync: Sync) -> None:
    sync()
    dated = Account.objects.filter(last_active_at__isnull=False).count()
    sandbox.core.faults.add({"kind": "drop_activity", "percent": 30})

    run = sync()

    judged = data_trust(organization)
    assert (run.status, run.is_trusted, judged.ok, judged.code) == ("succeeded", False, False, "distrusted")
    assert f"of {dated:,} people lost a date of last activity" in judged.reasons[0]
    lost = Account.objects.filter(activity_lost_in_run=run.pk)
    assert dated * 0.2 < lost.count() < dated * 0.4
    # what was known stays on record, as unknown: never would be a lie
    assert not lost.exclude(last_active_at__isnull=False).exists()
    assert not lost.filter(has_unknown_activity=False).exists()
    alert = Alert.objects.get(kind="data_trust")
    assert (alert.repeats, alert.resolved_at) == (1, None)


def test_loss_is_still_a_loss_when_the_next_sync_shows_the_same(
    organization: Organization, sandbox: Sandbox, sync: Sync
) -> None:
    first = sync()
    sandbox.core.faults.add({"kind": "drop_activity", "percent": 30})
    sync()

    third = sync()

    assert (third.is_trusted, third.trust["base_run"]) == (False, first.pk)
    assert Alert.objects.filter(kind="data_trust").count() == 1


def test_trust_returns_when_the_dates_are_back(organization: Organization, sandbox: Sandbox, sync: Sync) -> None:
    sync()
    sandbox.core.faults.add({"kind": "drop_activity", "percent": 30})
    sync()
    sandbox.core.faults.clear()

    assert sync().is_trusted

    assert data_trust(organization).ok
    assert_mirrors(organization, sandbox)
    assert not Account.objects.filter(activity_lost_in_run__isnull=False).exists()
    assert not Alert.objects.filter(kind="data_trust", resolved_at__isnull=True).exists()


def test_few_lost_dates_are_trusted(organization: Organization, sandbox: Sandbox, sync: Sync) -> None:
    sync()
    sandbox.core.faults.add({"kind": "drop_activity", "percent": 4})

    assert sync().is_trusted


def test_sync_is_not_trusted_when_many_people_are_gone(
    organization: Organization, sandbox: Sandbox, sync: Sync
) -> None:
    sync()
    vanish(sandbox, 0.3)

    run = sync()

    assert (run.status, run.is_trusted) == ("succeeded", False)
    assert "people are no longer in Atlassian's answers" in run.distrust_reasons[0]
    assert run.people_vanished == Account.objects.filter(vanished_in_run=run.pk).count() == 75


def test_people_back_from_a_glitch_were_never_gone(organization: Organization, sandbox: Sandbox, sync: Sync) -> None:
    sync()
    vanish(sandbox, 0.3)
    sync()
    for person in sandbox.core.world.people:
        if person.kind == "customer" and (person.memberships or person.managed):
            person.kind = "person"

    assert sync().is_trusted

    assert not Account.objects.filter(idle_floor_at__isnull=False).exists()


def test_changes_of_our_own_are_no_loss(organization: Organization, sandbox: Sandbox, sync: Sync) -> None:
    sync()
    through_groups = Account.objects.filter(last_active_at__isnull=False).exclude(product_access__group_ids=[])
    accounts = list(through_groups.order_by("pk")[:80])
    for account in accounts[:40]:
        mirror_vanished(account)
        person = sandbox.core.world.person(account.account_id)
        assert person is not None
        person.kind = "customer"
    for account in accounts[40:]:
        person = sandbox.core.world.person(account.account_id)
        assert person is not None
        for index in person.groups:
            sandbox.core.world.apply(["group-", account.account_id, sandbox.core.world.groups[index].id])
        person.direct = person.activity = ()
        GroupMembership.objects.filter(account=account).delete()
    recompute_accounts(organization.pk, [a.pk for a in accounts[40:]], now=timezone.now())

    run = sync()

    assert run.trust["people_lost"] == 0
    assert run.trust["activity_lost"] == 0


def test_new_baseline_is_accepted_once_with_a_reason(organization: Organization, sandbox: Sandbox, sync: Sync) -> None:
    first = sync()
    vanish(sandbox, 0.3)
    run = sync()

    with pytest.raises(InvalidInput):
        accept_baseline(sync_run=run, reason=" ", actor=ANNA)
    accepted = accept_baseline(sync_run=run, reason="A company was sold", actor=ANNA)

    assert (accepted.is_trusted, accepted.baseline_accepted_by) == (True, "Anna")
    assert data_trust(organization).ok
    event = AuditEvent.objects.get(action="sync.baseline_accepted")
    assert event.reason == "A company was sold"
    with pytest.raises(BaselineRefused):
        accept_baseline(sync_run=run, reason="Again", actor=ANNA)
    with pytest.raises(BaselineRefused):
        accept_baseline(sync_run=first, reason="The old one", actor=ANNA)
    assert sync().is_trusted  # measured against the accepted one
    assert not Alert.objects.filter(kind="data_trust", resolved_at__isnull=True).exists()
