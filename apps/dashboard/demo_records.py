"""Three months of syncs, runs, notices, approvals and log entries for the demo, so that each page shows something.

Invented, and named so: every run and every actor carries "(demo)", every log entry the reason below. Never made for
another organisation. The runs follow from the people that the demo has, by the same weeks as its freed licences
(`demo_history`): who is suspended or deactivated there was so by one of these runs. The entries are appended like any
other, sealed and verified; only their times are set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.audit.services import PastEventRow, record_many, seal
from apps.audit.services.partitions import adopt_month, months_in_default
from apps.dashboard.demo_history import DEACTIVATION, RETURNED, SUSPENSION, WEEKS_AGO
from apps.dashboard.demo_rules import DemoRules, make_demo_rules, make_notices
from apps.notifications.models import Delivery
from apps.operations.models import Approval, Operation, OperationItem
from apps.operations.planning import freeze
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.pricing.selectors import local_midnight, today
from apps.rules.models import CleanupRule
from apps.users.models import Account, AccountStatus, DirectoryMembership, MembershipStatus, SyncRun
from apps.users.selectors import latest_merged_sync

DAYS = 90
REASON = "Invented history of the demo organisation."
SCHEDULER = Actor("scheduler", "demo", "Scheduler (demo)")
ROWAN = Actor("operator", "demo-rowan", "Rowan Sample (demo)", "rowan.sample@larkspur.example", "192.0.2.10")
SAGE = Actor("operator", "demo-sage", "Sage Specimen (demo)", "sage.specimen@larkspur.example", "192.0.2.11")
FAILED_DETAIL = "Atlassian answered 500 four times. Retry what failed."


@dataclass
class _Run:
    """One run of the past, with what is logged about it."""

    name: str
    action: str
    at: datetime
    accounts: Sequence[Account]
    kind: str = Operation.Kind.SCHEDULED_CLEANUP
    actor: Actor = SCHEDULER
    mode: str = Operation.Mode.LIVE
    failed: int = 0
    is_approved: bool = False
    row: Operation | None = None
    items: list[OperationItem] = field(default_factory=list)


def make_records_history(organization: Organization) -> bool:
    """Fill the demo's log and timeline once, after its first sync; False for any other or when it is there."""
    if not organization.is_demo or latest_merged_sync(organization) is None:
        return False
    with transaction.atomic():
        Organization.objects.select_for_update().get(pk=organization.pk)
        if Operation.objects.of(organization).filter(name=SUSPENSION).exists():
            return False
        demo = make_demo_rules(organization)
        runs = _runs(organization)
        syncs = _syncs(organization)
        _store(organization, runs, demo)
        events = sorted(_events(runs, syncs), key=lambda event: event.at or timezone.now())
        record_many(organization=organization, rows=events)
    for month in months_in_default():
        with transaction.atomic():
            adopt_month(month)
    seal(organization)
    return True


def _syncs(organization: Organization) -> list[SyncRun]:
    """A sync a day, one of which failed."""
    people = Account.objects.of(organization).filter(vanished_at__isnull=True).count()
    merged = latest_merged_sync(organization)
    # The directory is as it was read: the past must not weigh on how the present is judged.
    trust = merged.trust if merged else {}
    rows = []
    for days in range(DAYS, 0, -1):
        at = local_midnight(organization, today(organization) - timedelta(days=days)) + timedelta(hours=2, minutes=5)
        has_failed = days == 41
        rows.append(
            SyncRun(
                organization=organization,
                status=SyncRun.Status.FAILED if has_failed else SyncRun.Status.SUCCEEDED,
                initiator="automated",
                started_by=SyncRun.DEMO_PAST,
                phase="merge",
                people_seen=0 if has_failed else people,
                people_total=people,
                people_changed=0 if has_failed else 3 + days % 17,
                error_code="unavailable" if has_failed else "",
                error_detail="Atlassian did not answer for ten minutes (demo)." if has_failed else "",
                trust={} if has_failed else trust,
                is_trusted=None if has_failed else True,
                created_at=at,
                started_at=at,
                finished_at=at + timedelta(seconds=38 + days % 9),
            )
        )
    return list(SyncRun.objects.bulk_create(rows))


def _runs(organization: Organization) -> list[_Run]:
    """Suspensions and deactivations of each week by those who are out today, previews before them, some by hand."""
    day = today(organization)
    out = (
        Account.objects.of(organization)
        .filter(vanished_at__isnull=True)
        .exclude(account_status=AccountStatus.ACTIVE, membership_status=MembershipStatus.ACTIVE)
        .order_by("account_id")
    )
    weekly: dict[tuple[str, int], list[Account]] = {}
    for index, account in enumerate(out):
        action = "suspend" if account.membership_status == MembershipStatus.SUSPENDED else "deactivate"
        weekly.setdefault((action, WEEKS_AGO[index % len(WEEKS_AGO)]), []).append(account)
    active = list(
        Account.objects.of(organization)
        .filter(
            account_status=AccountStatus.ACTIVE, membership_status=MembershipStatus.ACTIVE, last_active_at__isnull=False
        )
        .order_by("account_id")[:60]
    )
    # Those whose freed licences came back (demo_history): suspended by a run, restored by hand some days later.
    runs = []
    for index, account in enumerate(active[:RETURNED]):
        weeks = 3 + index % 9
        weekly.setdefault(("suspend", weeks), []).append(account)
        at = _run_at(organization, day, weeks) + timedelta(days=4 + index % 5, minutes=7 * index)
        name = "Restore: 1 selected user (demo)"
        runs.append(_Run(name, "restore", at, [account], Operation.Kind.MANUAL_OPERATION, SAGE))
    for (action, weeks), accounts in sorted(weekly.items(), key=lambda entry: (-entry[0][1], entry[0][0])):
        name = SUSPENSION if action == "suspend" else DEACTIVATION
        at = _run_at(organization, day, weeks)
        preview_at = at - timedelta(days=1)
        kind = Operation.Kind.AUTOMATION_RULE
        runs.append(_Run(name, action, preview_at, accounts, kind, ROWAN, Operation.Mode.SAFE))
        is_large = action == "suspend" and weeks in (12, 6)
        failing = active[20 + weeks : 22 + weeks] if action == "suspend" and weeks in (9, 3) else []
        runs.append(_Run(name, action, at, [*accounts, *failing], failed=len(failing), is_approved=is_large))
    at = _run_at(organization, day, 5) + timedelta(days=1, hours=3)
    name = "Suspend the people of leavers.csv (demo)"
    runs.append(_Run(name, "suspend", at, active[50:54], Operation.Kind.BULK_CSV_ACTION, SAGE, failed=4))
    return sorted(runs, key=lambda run: run.at)


def _run_at(organization: Organization, day: date, weeks_ago: int) -> datetime:
    return local_midnight(organization, day - timedelta(weeks=weeks_ago)) + timedelta(hours=6)


def _store(organization: Organization, runs: list[_Run], demo: DemoRules) -> None:
    """Operations with items, notices and approvals; numbers follow the ones that exist."""
    newest = Operation.objects.of(organization).order_by("-number").values_list("number", flat=True).first() or 0
    rows = []
    for number, run in enumerate(runs, start=newest + 1):
        is_live = run.mode == Operation.Mode.LIVE
        good = len(run.accounts) - run.failed
        status = Operation.Status.PREVIEWED
        if is_live:
            status = Operation.Status.PARTIAL_FAILURE if run.failed and good else Operation.Status.SUCCEEDED
            status = Operation.Status.FAILED if not good else status
        rule = demo.rules.get(run.name)
        outcomes = {"done": good, "failed": run.failed} if is_live else {}
        rows.append(
            Operation(
                organization=organization,
                number=number,
                kind=run.kind,
                mode=run.mode,
                status=status,
                initiator="automated" if run.actor is SCHEDULER else "manual",
                actor_text=run.actor.name,
                actor_ip=run.actor.ip_address,
                name=run.name,
                rule_id=rule.pk if rule else None,
                rule_version=rule.version if rule else None,
                action=run.action,
                reason=REASON,
                sentence=REASON,
                planned_count=len(run.accounts),
                people_count=len(run.accounts),
                licensed_count=len(run.accounts),
                left_out={"protected": 4} if run.action == "suspend" else {},
                outcomes={code: count for code, count in outcomes.items() if count},
                is_approved=run.is_approved,
                created_at=run.at,
                planned_at=run.at + timedelta(seconds=3),
                started_at=run.at + timedelta(seconds=5) if is_live else None,
                first_write_at=run.at + timedelta(seconds=6) if is_live else None,
                finished_at=run.at + timedelta(seconds=_seconds(run)),
            )
        )
    for run, row in zip(runs, Operation.objects.bulk_create(rows), strict=True):
        run.row = row
        if rule := demo.rules.get(run.name):
            rule.last_run_at, rule.last_operation_number = row.created_at, row.number
    CleanupRule.objects.bulk_update(demo.rules.values(), ["last_run_at", "last_operation_number"])
    memberships = DirectoryMembership.objects.of(organization).filter(
        account__in=[account.pk for run in runs for account in run.accounts]
    )
    homes = dict(memberships.order_by("-pk").values_list("account", "directory__directory_id"))
    for run in runs:
        run.items = _items(organization, run, homes)
    OperationItem.objects.bulk_create([item for run in runs for item in run.items], batch_size=1000)
    warned = [run for run in runs if run.name == SUSPENSION and run.mode == Operation.Mode.LIVE]
    notices = [notice for run in warned if run.row for notice in make_notices(demo, run.row, run.items)]
    Delivery.objects.bulk_create(notices, batch_size=1000, ignore_conflicts=True)
    approvals = []
    for run in runs:
        assert run.row is not None
        run.row.plan_hash = freeze(run.row)[0]
        if run.is_approved:
            approvals.append(
                Approval(
                    organization=organization,
                    operation=run.row,
                    plan_hash=run.row.plan_hash,
                    decision=Approval.Decision.APPROVED,
                    decided_by_text=SAGE.name,
                    decided_at=run.at + timedelta(seconds=4),
                    reason=REASON,
                    count=len(run.accounts),
                )
            )
    Operation.objects.bulk_update([run.row for run in runs if run.row is not None], ["plan_hash"])
    Approval.objects.bulk_create(approvals)


def _seconds(run: _Run) -> int:
    return 6 + len(run.accounts) * (2 if run.mode == Operation.Mode.LIVE else 0)


def _items(organization: Organization, run: _Run, homes: dict[int, str]) -> list[OperationItem]:
    is_live = run.mode == Operation.Mode.LIVE
    taken, given = ("active", "suspended") if run.action == "suspend" else ("active", "deactivated")
    if run.action == "restore":
        taken, given = "suspended", "active"
    rows = []
    for place, account in enumerate(run.accounts):
        at = run.at + timedelta(seconds=6 + 2 * place)
        has_failed = place >= len(run.accounts) - run.failed
        directory = homes.get(account.pk, "")
        idle_since = account.last_active_at if account.last_active_at and account.last_active_at < run.at else None
        reason: dict[str, Any] = {"code": "selected"}
        if run.actor is not SAGE:
            since = idle_since or run.at - timedelta(days=75)
            reason = {"code": "idle", "last_active_at": since.isoformat(), "idle_since": since.isoformat()}
        is_done = is_live and not has_failed
        rows.append(
            OperationItem(
                organization=organization,
                operation=run.row,
                account=account,
                subject=account.account_id,
                action=run.action,
                target=f"directory:{directory}" if directory and run.action != "deactivate" else "",
                reason=reason,
                status="finished" if is_live else "pending",
                outcome="" if not is_live else "failed" if has_failed else "done",
                detail=FAILED_DETAIL if is_live and has_failed else "",
                before={"account_status": taken, "directories": {directory: taken}} if is_live else None,
                after={"account_status": given, "directories": {directory: given}} if is_done else None,
                written_at=at if is_done else None,
                is_answered=is_done,
                finished_at=at if is_live else None,
            )
        )
    return rows


def _events(runs: list[_Run], syncs: list[SyncRun]) -> list[PastEventRow]:
    rows = [
        PastEventRow(
            actor=SCHEDULER,
            action="sync.finished",
            target_kind="sync",
            target_ref=str(sync.pk),
            outcome="failed" if sync.status == SyncRun.Status.FAILED else "success",
            reason=REASON,
            after={"people": sync.people_seen, "changed": sync.people_changed},
            at=sync.finished_at,
        )
        for sync in syncs
    ]
    for run in runs:
        row = run.row
        assert row is not None
        about: dict[str, Any] = {
            "correlation_id": row.uuid,
            "operation_id": row.pk,
            "operation_number": row.number,
            "rule_id": row.rule_id,
            "rule_name": row.name if row.rule_id else "",
            "rule_version": row.rule_version,
        }
        of_run = {"target_kind": "operation", "target_ref": str(row.number), "target_name": row.name, **about}
        if run.is_approved:
            rows.append(
                PastEventRow(
                    actor=SAGE,
                    action="operation.approved",
                    reason=REASON,
                    after={"people": len(run.accounts), "plan_hash": row.plan_hash},
                    at=run.at + timedelta(seconds=4),
                    **of_run,
                )
            )
        if run.mode == Operation.Mode.LIVE:
            rows += [
                PastEventRow(
                    actor=run.actor,
                    action=f"account.{item.action}",
                    target_kind="account",
                    target_ref=item.subject,
                    target_name=item.account.name if item.account else "",
                    target_email=(item.account.email or "") if item.account else "",
                    outcome="failed" if item.outcome == "failed" else "success",
                    reason=item.detail or REASON,
                    before=item.before,
                    after={"outcome": item.outcome, "target": item.target, **(item.after or {})},
                    at=item.finished_at,
                    **about,
                )
                for item in run.items
            ]
        rows.append(
            PastEventRow(
                actor=run.actor,
                action=f"operation.{row.status}",
                outcome="failed" if row.status in ("failed", "partial_failure") else "success",
                reason=REASON,
                after={"people": row.people_count, **row.outcomes},
                at=row.finished_at,
                **of_run,
            )
        )
    return rows


def make_by_id(organization_id: int) -> bool:
    """The same by key; False for an organisation that is gone."""
    organization = Organization.objects.filter(pk=organization_id).first()
    return organization is not None and make_records_history(organization)
