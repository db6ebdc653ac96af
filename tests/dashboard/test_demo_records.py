"""The demo's invented past: labelled, quick, told once, and true to people and chain."""

from __future__ import annotations

import time

import pytest
from django.db import connection

from apps.audit.models import AuditEvent
from apps.audit.services import Actor, PastEventRow, record_many, verify
from apps.autoactivate.models import AssignmentRule
from apps.dashboard.activity import recent_activity
from apps.dashboard.demo_history import SUSPENSION
from apps.dashboard.demo_records import REASON, make_records_history
from apps.notifications.models import Delivery
from apps.operations.models import Approval, Operation, OperationItem
from apps.organizations.models import Organization
from apps.rules.models import CleanupRule
from apps.users.models import Account, AccountStatus, Exemption, MembershipStatus, SyncRun
from apps.users.selectors import data_trust, latest_merged_sync, latest_sync
from apps.users.selectors.imports import product_places


def test_the_demo_gets_a_labelled_past_that_fits_its_people_and_the_chain(synced: Organization) -> None:
    assert make_records_history(synced) is False
    Organization.objects.filter(pk=synced.pk).update(is_demo=True)
    synced.refresh_from_db()
    shown, places = SyncRun.objects.of(synced).get(), product_places(synced)
    assert places
    began = time.monotonic()

    assert make_records_history(synced) is True

    assert time.monotonic() - began < 20
    assert make_records_history(synced) is False
    assert SyncRun.objects.of(synced).count() > 90
    # The past was written down after the sync that the mirror shows, and is older all the same.
    assert latest_merged_sync(synced) == shown
    assert latest_sync(synced) == shown
    assert data_trust(synced).sync_run == shown
    assert product_places(synced) == places
    assert Approval.objects.of(synced).exists()
    rules = CleanupRule.objects.of(synced)
    assert {rule.mode for rule in rules} == {"safe"}
    assert all(rule.last_run_at and rule.last_operation_number for rule in rules)
    assert all(rule.name.endswith("(demo)") for rule in rules)
    assert not AssignmentRule.objects.of(synced).filter(is_active=True).exists()
    assert Exemption.objects.of(synced).count() == 2
    warned = Delivery.objects.of(synced).filter(rule_id=rules.get(name=SUSPENSION).pk, status="accepted")
    assert warned.count() > 5
    assert not warned.filter(account__email__isnull=True).exists()
    live = Operation.objects.of(synced).filter(
        name__endswith="(demo)", mode="live", action__in=["suspend", "deactivate"]
    )
    done = OperationItem.objects.filter(operation__in=live, outcome="done").values("account")
    out = (
        Account.objects.of(synced)
        .filter(vanished_at__isnull=True)
        .exclude(account_status=AccountStatus.ACTIVE, membership_status=MembershipStatus.ACTIVE)
    )
    assert out.exists()
    assert not out.exclude(pk__in=done).exists()
    assert Operation.objects.of(synced).exclude(name__endswith="(demo)").count() == 0
    report = verify(synced)
    assert report.ok
    assert report.unsealed_rows == 0
    assert AuditEvent.objects.of(synced).filter(reason=REASON).count() > 90
    assert recent_activity(synced)[0].name == "Directory sync"
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM audit_auditevent_default")
        assert cursor.fetchone()[0] == 0


def test_no_other_organisation_can_have_a_past(organization: Organization) -> None:
    row = PastEventRow(actor=Actor.system(), action="x.y", at=organization.created_at)

    with pytest.raises(ValueError, match="past of a demo"):
        record_many(organization=organization, rows=[row])
