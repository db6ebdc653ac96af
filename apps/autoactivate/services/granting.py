"""From a known requester to operations: which rules fit, whether they may, and what each starts.

Giving is never held by count or trust (P11). It is bound by seats, by a rule's own limits, by P15 and, where the rule
or the person's history asks for it, by an approval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.core.cache import cache
from django.db import transaction
from django.utils import timezone

from apps.autoactivate import matching, selectors
from apps.autoactivate.models import AccessGrant, AssignmentRule, InboundEvent
from apps.autoactivate.services import replies
from apps.autoactivate.services.rules import group_refusals
from apps.operations.models import Operation, OperationItem
from apps.operations.selection import AccountsSelection, ActionSpec, InviteSelection, Selection
from apps.operations.services import plan_operation
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.organizations.services import raise_alert
from apps.users.models import (
    Account,
    AccountKind,
    AccountStatus,
    ClaimStatus,
    DirectoryMembership,
    Group,
    MembershipStatus,
)
from apps.users.products import ADMIN_ROLES, role_name
from aum.atlassian.client import AtlassianReader
from aum.atlassian.errors import NotFound

# How long a reading of what a group grants may serve before the next write (P6, P15).
ROLES_SECONDS = 60
# Access that AUM's own rule took comes back by itself for so long (DECISIONS.md §17).
RETURN_WITHIN = timedelta(days=30)
BUDGET_RETRY = timedelta(minutes=10)
Status = InboundEvent.Status


@dataclass(frozen=True)
class Fit:
    """One rule that meets the request: which groups are missing, what comes first, whether somebody must approve."""

    rule: AssignmentRule
    missing: tuple[Group, ...]
    first: tuple[str, ...] = ()
    needs_approval: bool = False
    why_approval: str = ""


@dataclass(frozen=True)
class Matches:
    """Rules that fit, and of the others why not, in words."""

    fitting: list[Fit] = field(default_factory=list)
    others: list[tuple[str, str]] = field(default_factory=list)
    code: str = "no_rule"

    @property
    def why_none(self) -> str:
        """Why nothing was given."""
        if not self.others:
            return "No assignment rule is switched on."
        return "No rule matched. " + " ".join(f"“{name}”: {why}." for name, why in self.others)


@dataclass(frozen=True)
class Given:
    """How an event stands after its rules were asked."""

    status: str
    code: str
    sentence: str
    next_try_at: datetime | None = None


# --- matching -------------------------------------------------------------------------------------------------------


def match(event: InboundEvent, account: Account, reader: AtlassianReader) -> Matches:
    """Which rules fit this event and person. Reads what the groups to add grant at this moment (P15)."""
    request = matching.Request(event.channel, event.project_key, event.request_type_id, event.request_type_name)
    fitting: list[Fit] = []
    others: list[tuple[str, str]] = []
    code = "no_rule"
    for rule in selectors.active_rules(event.organization):
        why = matching.why_not_place(rule, request) or matching.why_not_method(rule, account)
        if why:
            others.append((rule.name, why))
            continue
        code = "not_possible"
        fit, why = _fit(rule, account, reader)
        if fit is not None:
            fitting.append(fit)
        else:
            others.append((rule.name, why))
    return Matches(fitting, others, code)


def _fit(rule: AssignmentRule, account: Account, reader: AtlassianReader) -> tuple[Fit | None, str]:
    """(what the rule would do for the person, or None with the reason)."""
    if account.kind != AccountKind.PERSON:
        return None, "the account is an app or a bot, not a person"
    groups = list(rule.groups.all())
    _read_grants(rule.organization, groups, reader)
    refusals = group_refusals(groups)
    if refusals or not groups:
        _alert_group(rule, " ".join(refusals) or "It adds to no group.")
        return None, " ".join(refusals).rstrip(".") or "it adds to no group"
    first, why = _comes_first(rule, account)
    if why:
        return None, why
    missing = tuple(group for group in groups if group.pk not in account.group_ids)
    if first == ("invite",):
        missing = tuple(groups)
    elif outside := _outside(account, missing):
        return None, f"not a member of the directory of {outside.name}; invite the person there first"
    needs_approval, why_approval = rule.needs_approval, "The rule asks for an approval." if rule.needs_approval else ""
    if first and not _was_taken_by_a_rule(account):
        needs_approval = True
        why_approval = "AUM’s own rules did not take this person’s access within 30 days, so somebody decides."
    return Fit(rule, missing, first, needs_approval, why_approval), ""


def _comes_first(rule: AssignmentRule, account: Account) -> tuple[tuple[str, ...], str]:
    """(invite, or restore and activate, where they are needed; why not)."""
    if account.is_for_deletion or account.account_status == AccountStatus.CLOSED:
        return (), "the account is deleted or waits for its deletion"
    if account.vanished_at is not None or account.membership_status == MembershipStatus.NO_MEMBERSHIP:
        if not rule.restores or not account.email or account.account_status == AccountStatus.INACTIVE:
            return (), "the person was removed from the directory; invite them first"
        return ("invite",), ""
    first: list[str] = []
    if account.account_status == AccountStatus.INACTIVE:
        if not rule.restores:
            return (), "the account is deactivated, and the rule does not restore people"
        if account.claim_status != ClaimStatus.MANAGED:
            return (), "the account is deactivated and managed by another organisation"
        first.append("activate")
    if account.directory_memberships.filter(status=MembershipStatus.SUSPENDED).exists():
        if not rule.restores:
            return (), "the person is suspended, and the rule does not restore people"
        first.append("restore")
    return tuple(first), ""


def _outside(account: Account, groups: Sequence[Group]) -> Group | None:
    """A group whose directory the person is not in: Atlassian refuses such an add."""
    inside = set(
        DirectoryMembership.objects.filter(account=account)
        .exclude(status=MembershipStatus.NO_MEMBERSHIP)
        .values_list("directory_id", flat=True)
    )
    return next((group for group in groups if group.directory_id not in inside), None)


def _was_taken_by_a_rule(account: Account) -> bool:
    """Whether a cleanup rule took the access within 30 days and nobody changed the account since."""
    taken = (
        OperationItem.objects.filter(
            account=account, action__in=["suspend", "deactivate"], outcome=OperationItem.Outcome.DONE
        )
        .select_related("operation")
        .order_by("-finished_at")
        .first()
    )
    if taken is None or taken.finished_at is None or taken.operation.rule_id is None or taken.operation.undo_of_id:
        return False
    if timezone.now() - taken.finished_at > RETURN_WITHIN:
        return False
    changed_at = account.status_changed_at
    return changed_at is None or changed_at <= taken.finished_at + timedelta(seconds=60)


def _read_grants(organization: Organization, groups: Sequence[Group], reader: AtlassianReader) -> None:
    """What the groups grant now: one that became administrative since the last sync is no target any more (P15)."""
    for group in groups:
        key = f"group-roles:{organization.pk}:{group.pk}"
        roles: list[str] | None = cache.get(key)
        if roles is None:
            try:
                found = reader.group_role_assignments(group.directory.directory_id, group.group_id)
            except NotFound:
                Group.objects.filter(pk=group.pk, vanished_at__isnull=True).update(vanished_at=timezone.now())
                group.vanished_at = timezone.now()
                continue
            roles = sorted({role_name(role.role) for role in found})
            cache.set(key, roles, ROLES_SECONDS)
        is_administrative = not ADMIN_ROLES.isdisjoint(roles)
        if is_administrative != group.is_administrative and is_administrative:
            Group.objects.filter(pk=group.pk).update(is_administrative=True)
            group.is_administrative = True


def _alert_group(rule: AssignmentRule, why: str) -> None:
    raise_alert(
        organization=rule.organization,
        kind="activation_group",
        severity="error",
        title=f"Assignment rule “{rule.name}” cannot give access",
        detail=f"{why} Edit the rule.",
        link=rule.get_absolute_url(),
        dedup_key=f"activation_group:{rule.pk}",
    )


# --- giving ---------------------------------------------------------------------------------------------------------


def give(event: InboundEvent, account: Account, matches: Matches) -> Given:
    """Start what each fitting rule gives, in the caller's transaction. Asked again, it starts only what is missing."""
    sentences: list[str] = []
    waits: list[datetime] = []
    is_working = is_done = False
    for fit in matches.fitting:
        rule = AssignmentRule.objects.select_for_update(of=("self",)).get(pk=fit.rule.pk)
        existing = event.grants.filter(rule=rule).first()
        if existing is not None:
            is_working = is_working or existing.status == AccessGrant.Status.GIVING
            is_done = is_done or existing.status in (AccessGrant.Status.GIVEN, AccessGrant.Status.HAD_IT)
            sentences.append(_grant_sentence(existing))
            continue
        if other := _under_way(rule, account):
            _had_it(event, fit, account, f"Already being given since event {other.event_id}.")
            sentences.append(f"“{rule.name}”: already being given.")
            is_done = True
            continue
        if not fit.missing and not fit.first:
            names = ", ".join(group.name for group in fit.rule.groups.all())
            _had_it(event, fit, account, f"Already in {names}.")
            sentences.append(f"“{rule.name}”: already in {names}.")
            is_done = True
            continue
        wait = _limit(rule, account)
        if wait is not None:
            sentences.append(f"“{rule.name}”: {wait[1]}")
            waits.append(wait[0])
            continue
        grant = _start(event, fit, account)
        assert grant.operation is not None
        sentences.append(f"“{rule.name}”: run #{grant.operation.number}.")
        is_working = True
    sentence = " ".join(sentences)
    if waits:
        return Given(Status.WAITING, "limit", sentence, min(waits))
    if is_working:
        return Given(Status.WORKING, "giving", sentence)
    return Given(Status.DONE if is_done else Status.FAILED, "already" if is_done else "failed", sentence)


def _under_way(rule: AssignmentRule, account: Account) -> AccessGrant | None:
    found: AccessGrant | None = rule.grants.filter(account=account, status=AccessGrant.Status.GIVING).first()
    return found


def _had_it(event: InboundEvent, fit: Fit, account: Account, detail: str) -> None:
    AccessGrant.objects.create(
        organization=event.organization,
        event=event,
        rule=fit.rule,
        rule_version=fit.rule.version,
        account=account,
        status=AccessGrant.Status.HAD_IT,
        detail=detail,
        created_at=timezone.now(),
    )


def _limit(rule: AssignmentRule, account: Account) -> tuple[datetime, str] | None:
    """(when to ask again, why) where a limit of the rule's is used up; None where it may give. The rule is locked."""
    now = timezone.now()
    if rule.max_per_day is not None:
        today = selectors.used_today(rule, now)
        if today.count() >= rule.max_per_day:
            oldest = today.first()
            assert oldest is not None
            again = oldest.created_at + timedelta(days=1)
            why = f"the limit of {rule.max_per_day:,} a day is used up; it goes on at {again:%d %b, %H:%M} UTC."
            _alert_limit(rule, why)
            return again, why
    if rule.seat_budget is not None:
        holds = rule.grants.filter(account=account, status__in=AccessGrant.HELD).exists()
        if not holds and selectors.held_seats(rule) >= rule.seat_budget:
            why = f"its {rule.seat_budget:,} seats are taken; it goes on when one is free or the budget is raised."
            _alert_limit(rule, why)
            return now + BUDGET_RETRY, why
    return None


def _alert_limit(rule: AssignmentRule, why: str) -> None:
    raise_alert(
        organization=rule.organization,
        kind="activation_limit",
        severity="warning",
        title=f"Assignment rule “{rule.name}” has used up a limit",
        detail=f"{why[0].upper()}{why[1:]} Requests wait.",
        link=rule.get_absolute_url(),
        dedup_key=f"activation_limit:{rule.pk}",
    )


def _start(event: InboundEvent, fit: Fit, account: Account) -> AccessGrant:
    """The operation and its grant, in one transaction. Raises the refusals of `plan_operation`."""
    rule, organization = fit.rule, event.organization
    group_ids = tuple(group.pk for group in fit.missing)
    actions = [ActionSpec(name) for name in fit.first]
    selection: Selection = AccountsSelection((account.account_id,))
    if fit.first == ("invite",):
        # Groups come with the invitation: an account outside the directory cannot be added to any.
        actions = [ActionSpec("invite", group_ids=group_ids)]
        selection = InviteSelection(emails=((account.email or "").lower(),), notify=True)
    elif group_ids:
        actions.append(ActionSpec("add_to_group", group_ids=group_ids))
    where = event.issue_key or event.get_channel_display()
    reason = f"Rule “{rule.name}”, version {rule.version}: {where}, asked by {event.requester or account.name}."
    if fit.why_approval:
        reason += f" {fit.why_approval}"
    operation = plan_operation(
        organization=organization,
        kind=Operation.Kind.AUTOMATION_RULE,
        mode=Operation.Mode.LIVE,
        initiator=Operation.Initiator.AUTOMATED,
        actor=Actor.inbound(event.channel, where, f"{where}: {account.name}"[:254], account.email or ""),
        operator=None,
        name=f"Activation: {rule.name}"[:200],
        actions=actions,
        selection=selection,
        reason=reason[:2000],
        sentence=f"Gives {account.name or account.account_id} what “{rule.name}” grants.",
    )
    # Whoever wrote the rule does not approve what it gives (DECISIONS.md §11).
    operation.frozen["rule_author_id"] = rule.edited_by_id
    operation.save(update_fields=["frozen"])
    grant: AccessGrant = AccessGrant.objects.create(
        organization=organization,
        event=event,
        rule=rule,
        rule_version=rule.version,
        account=account,
        operation=operation,
        needs_approval=fit.needs_approval,
        detail=fit.why_approval,
        created_at=timezone.now(),
        expires_after_days=rule.expires_after_days,
    )
    return grant


def _grant_sentence(grant: AccessGrant) -> str:
    return f"“{grant.rule.name}”: {grant.get_status_display().lower()}. {grant.detail}".strip()


# --- what operations tell -------------------------------------------------------------------------------------------


def approval_gate(operation: Operation) -> tuple[str, str] | None:
    """Holds what a rule may only give with an approval; registered with operations."""
    grant = AccessGrant.objects.filter(operation=operation, needs_approval=True).first()
    if grant is None:
        return None
    return "activation_approval", grant.detail or "The rule asks for an approval."


@transaction.atomic
def settle_event(event_id: int) -> None:
    """Sum up an event whose runs have ended: done when anything was given or there, else failed."""
    event = InboundEvent.objects.select_for_update(of=("self",)).select_related("account").get(pk=event_id)
    if event.status != Status.WORKING:
        return
    grants = list(event.grants.select_related("rule"))
    if any(grant.status == AccessGrant.Status.GIVING for grant in grants):
        return
    failed = [grant for grant in grants if grant.status == AccessGrant.Status.FAILED]
    is_failed = len(failed) == len(grants)
    InboundEvent.objects.filter(pk=event_id).update(
        status=Status.FAILED if is_failed else Status.DONE,
        code="failed" if is_failed else "partly" if failed else "given",
        detail=" ".join(_outcome_words(grant) for grant in grants),
        processed_at=timezone.now(),
    )
    event.refresh_from_db()
    replies.queue(event)


def _outcome_words(grant: AccessGrant) -> str:
    if grant.status == AccessGrant.Status.GIVEN:
        added = f"added to {grant.group_names}" if grant.added else "given"
        more = f" {grant.detail}" if grant.detail and not grant.needs_approval else ""
        return f"“{grant.rule.name}”: {added}.{more}"
    return _grant_sentence(grant)
