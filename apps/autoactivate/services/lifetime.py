"""A grant's life after its operation: settled, warned about, extended, removed on its day, undone (B22)."""

from __future__ import annotations

import logging
from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from apps.audit.services import record
from apps.autoactivate.models import AccessGrant, InboundEvent, InboundLink
from apps.autoactivate.services import links, mails
from apps.autoactivate.services.granting import settle_event
from apps.operations.models import LeftOut, Operation, OperationItem
from apps.operations.reasons import left_out_label, outcome_sentence
from apps.operations.selection import AccountsSelection, ActionSpec
from apps.operations.services import plan_operation, undo_operation
from apps.operators.models import Operator
from apps.organizations.recorder import Actor
from apps.organizations.services import raise_alert, resolve_alert
from apps.users.models import Exemption, Group
from apps.users.services import end_exemption, snooze
from aum.common.errors import DomainError, InvalidInput, NotAllowed

logger = logging.getLogger(__name__)

Outcome = OperationItem.Outcome
Status = AccessGrant.Status
MADE = (Outcome.DONE, Outcome.ALREADY_SO)
GONE = (Outcome.DONE, Outcome.ALREADY_SO, Outcome.SKIPPED_GONE)
MAX_DAYS = 3650
WARNINGS = ((7, "warned_7_at"), (1, "warned_1_at"))
RETRY = timedelta(days=1)


class NotTimed(DomainError):
    code = "not_timed"
    detail = "This access has no end that could be moved."


class NothingAsked(DomainError):
    code = "nothing_asked"
    detail = "Nobody asked for more time, or it was decided already."


# --- what operations tell -------------------------------------------------------------------------------------------


def note_finished(operation: Operation) -> None:
    """An operation ended, in its transaction: settle the grants that it gave, removed or undid."""
    for grant in AccessGrant.objects.filter(operation=operation, status=Status.GIVING).select_related(
        "account", "rule", "organization"
    ):
        _settle_giving(grant, operation)
    for grant in AccessGrant.objects.filter(removal=operation, status=Status.REMOVING).select_related("account"):
        _settle_removal(grant, operation)
    if operation.undo_of_id and operation.is_live:
        _settle_undo(operation)


def _settle_giving(grant: AccessGrant, operation: Operation) -> None:
    # The operation is about this person alone; an invitation's item has no account before it is read back.
    items = list(OperationItem.objects.filter(operation=operation).select_related("account"))
    others = [item for item in items if item.outcome not in MADE]
    done = [item for item in items if item.outcome == Outcome.DONE]
    added = [
        {"pk": path["group_pk"], "name": path["name"]}
        for item in done
        for path in ([item.parameters] if item.action == "add_to_group" else item.parameters.get("paths", ()))
        if "group_pk" in path
    ]
    has_effect = bool(done)
    grant.added = added
    grant.detail = " ".join(outcome_sentence(item) for item in others)
    if not items:
        grant.detail = _why_nothing(operation, grant)
    if has_effect:
        grant.status, grant.given_at = Status.GIVEN, timezone.now()
        if grant.expires_after_days and added:
            grant.expires_at = grant.given_at + timedelta(days=grant.expires_after_days)
        _snooze(grant, operation)
    elif items and not others:
        grant.status = Status.HAD_IT
        grant.detail = "Was already so."
    else:
        grant.status = Status.FAILED
    grant.save(update_fields=["added", "detail", "status", "given_at", "expires_at"])
    settle_event(grant.event_id)


def _why_nothing(operation: Operation, grant: AccessGrant) -> str:
    if operation.status_detail:
        return operation.status_detail
    left = LeftOut.objects.filter(operation=operation, account=grant.account).first()
    return f"Not planned: {left_out_label(left.reason)}." if left else "The run changed nothing."


def _snooze(grant: AccessGrant, operation: Operation) -> None:
    """Who was just given access is no candidate for cleanup (DESIGN.md §12), at most until the access ends anyway."""
    days = grant.organization.snooze_days
    if not days or grant.given_at is None:
        return
    until = grant.given_at + timedelta(days=days)
    snooze(
        organization=grant.organization,
        accounts=[grant.account],
        until=min(until, grant.expires_at) if grant.expires_at else until,
        reason=_snooze_reason(operation),
        actor=Actor.system(),
    )


def _snooze_reason(operation: Operation) -> str:
    return f"Access given by activation, run #{operation.number}."


def _settle_removal(grant: AccessGrant, operation: Operation) -> None:
    items = list(OperationItem.objects.filter(operation=operation, account=grant.account).select_related("account"))
    kept = [item for item in items if item.outcome not in GONE]
    left = LeftOut.objects.filter(operation=operation, account=grant.account).first()
    is_over = operation.status not in (
        Operation.Status.REJECTED,
        Operation.Status.CANCELLED,
        Operation.Status.EXPIRED,
        Operation.Status.SUPERSEDED,
    )
    nothing_left = left is not None and left.reason in ("nothing_to_do", "already_so")
    if is_over and not kept and (items or nothing_left):
        grant.status, grant.ended_at = Status.ENDED, timezone.now()
        grant.detail = "Ended on its day." if items else "Was no longer in the groups."
    else:
        grant.status, grant.next_removal_at = Status.GIVEN, timezone.now() + RETRY
        why = " ".join(outcome_sentence(item) for item in kept) or (
            f"left out: {left_out_label(left.reason)}." if left else operation.status_detail
        )
        grant.detail = f"Not removed yet: {why} AUM tries again in a day."
        raise_alert(
            organization=operation.organization,
            kind="activation_removal",
            severity="warning",
            title="Access that ended could not be removed",
            detail=f"{grant.account.name}: {grant.detail}",
            link=operation.get_absolute_url(),
            dedup_key=f"activation_removal:{grant.pk}",
        )
    grant.save(update_fields=["status", "ended_at", "detail", "next_removal_at"])


def _settle_undo(operation: Operation) -> None:
    """An undo took back what a grant gave, or gave back what its end took."""
    items = OperationItem.objects.filter(operation=operation, outcome__in=MADE)
    done, now = list(items.values_list("account_id", flat=True)), timezone.now()
    is_invitation = Q(operation__action="invite") if items.exists() else Q(pk__in=[])
    AccessGrant.objects.filter(
        Q(account__in=done) | is_invitation, operation=operation.undo_of, status=Status.GIVEN
    ).update(status=Status.UNDONE, ended_at=now, detail=f"Undone by run #{operation.number}.")
    AccessGrant.objects.filter(removal=operation.undo_of, status=Status.ENDED, account__in=done).update(
        status=Status.GIVEN,
        ended_at=None,
        expires_at=None,
        detail=f"Given back by run #{operation.number}, without an end.",
    )


# --- the end --------------------------------------------------------------------------------------------------------


def sweep() -> None:
    """Warn seven days and one day before the end, and remove on the day. Safe to call at any time and often."""
    warn_due()
    remove_due()


def remove_due() -> None:
    """Plan the removal of what has ended, one operation per rule and set of groups. Brakes and protection bind it."""
    now = timezone.now()
    due = (
        AccessGrant.objects.filter(status=Status.GIVEN, expires_at__lte=now)
        .filter(Q(next_removal_at__isnull=True) | Q(next_removal_at__lte=now))
        .select_related("organization", "rule", "account", "operation")
        .order_by("organization_id", "rule_id", "id")
    )
    batches: dict[tuple[int, int, tuple[int, ...]], list[AccessGrant]] = defaultdict(list)
    for grant in due:
        batches[grant.organization_id, grant.rule_id, tuple(sorted(group["pk"] for group in grant.added))].append(grant)
    for (_, _, group_ids), grants in batches.items():
        try:
            _remove(grants, group_ids, now)
        except DomainError as error:
            logger.warning("activation.removal_refused", extra={"rule_id": grants[0].rule_id, "error": error.code})
            AccessGrant.objects.filter(pk__in=[grant.pk for grant in grants], status=Status.GIVEN).update(
                next_removal_at=now + timedelta(hours=1), detail=f"Not removed yet: {error.detail}"
            )


@transaction.atomic
def _remove(grants: list[AccessGrant], group_ids: tuple[int, ...], now: datetime) -> None:
    pks = [grant.pk for grant in grants]
    claimed = set(
        AccessGrant.objects.select_for_update(of=("self",), skip_locked=True)
        .filter(pk__in=pks, status=Status.GIVEN, expires_at__lte=now)
        .values_list("pk", flat=True)
    )
    taken = [grant for grant in grants if grant.pk in claimed]
    if not taken:
        return
    organization, rule = taken[0].organization, taken[0].rule
    present = tuple(
        Group.objects.of(organization).filter(pk__in=group_ids, vanished_at__isnull=True).values_list("pk", flat=True)
    )
    if not present:
        AccessGrant.objects.filter(pk__in=claimed).update(
            status=Status.ENDED, ended_at=now, detail="The groups no longer exist."
        )
        return
    for grant in taken:
        _end_own_snooze(grant)
    operation = plan_operation(
        organization=organization,
        kind=Operation.Kind.AUTOMATION_RULE,
        mode=Operation.Mode.LIVE,
        initiator=Operation.Initiator.AUTOMATED,
        actor=Actor.scheduler(),
        operator=None,
        name=f"End of access: {rule.name}"[:200],
        actions=[ActionSpec("remove_from_group", group_ids=present)],
        selection=AccountsSelection(tuple(sorted({grant.account.account_id for grant in taken}))),
        reason=f"Rule “{rule.name}” gave this access for {taken[0].expires_after_days} days.",
        sentence="Takes back access whose time is over.",
    )
    AccessGrant.objects.filter(pk__in=claimed).update(status=Status.REMOVING, removal=operation)


def _end_own_snooze(grant: AccessGrant) -> None:
    """The snooze that came with the grant, or with the restore in its run, would protect it from its own end."""
    if grant.operation is None:
        return
    reasons = (_snooze_reason(grant.operation), f"Access given back by run #{grant.operation.number}.")
    own = Exemption.objects.filter(
        account=grant.account,
        kind=Exemption.Kind.SNOOZE,
        reason__in=reasons,
        ended_at__isnull=True,
        until__gt=timezone.now(),
    )
    for exemption in own:
        end_exemption(exemption=exemption, actor=Actor.system(), reason="The access was given until today.")


def warn_due() -> None:
    """Tell people whose access ends within seven days, and within one. Each mail is sent once."""
    now = timezone.now()
    for days, column in WARNINGS:
        due = AccessGrant.objects.filter(
            status=Status.GIVEN,
            expires_at__gt=now,
            expires_at__lte=now + timedelta(days=days),
            **{f"{column}__isnull": True},
        ).select_related("organization", "account", "rule")
        for grant in due.order_by("expires_at")[:500]:
            # Given for less than the warning's time: the next one is enough.
            if grant.expires_after_days and grant.expires_after_days <= days:
                AccessGrant.objects.filter(pk=grant.pk).update(**{column: now})
                continue
            _warn(grant, days, column)


def _warn(grant: AccessGrant, days: int, column: str) -> None:
    """One warning: claimed before it is sent, given back when the mail server refuses it, so never sent twice."""
    now = timezone.now()
    if not AccessGrant.objects.filter(pk=grant.pk, **{f"{column}__isnull": True}).update(**{column: now}):
        return
    if not grant.account.email:
        _warning_failed(grant, "Atlassian gives no e-mail for this account.")
        return
    assert grant.expires_at is not None
    _link, url = links.make_link(
        organization=grant.organization,
        purpose=InboundLink.Purpose.EXTEND,
        expires_in=grant.expires_at - now + timedelta(days=1),
        email=grant.account.email,
        grant=grant,
        account=grant.account,
    )
    try:
        mails.send(
            organization=grant.organization,
            to=grant.account.email,
            subject=f"Your access to {grant.group_names} ends on {grant.expires_at:%d %b %Y}",
            paragraphs=[
                f"You were given access to {grant.group_names} at {grant.organization.name} for "
                f"{grant.expires_after_days} days. It ends on {grant.expires_at:%d %b %Y, %H:%M} UTC.",
                "If you still need it, ask for more time. Somebody has to approve it.",
            ],
            link=url,
            button="Ask for more time",
        )
    except DomainError as error:
        AccessGrant.objects.filter(pk=grant.pk).update(**{column: None})
        _warning_failed(grant, error.detail)
        return
    record(
        organization=grant.organization,
        actor=Actor.system(),
        action="access_grant.warned",
        after={"days_before": days, "expires_at": grant.expires_at.isoformat()},
        **_target(grant),
    )


def _warning_failed(grant: AccessGrant, why: str) -> None:
    raise_alert(
        organization=grant.organization,
        kind="activation_warning",
        severity="warning",
        title="Somebody could not be told that their access ends",
        detail=f"{grant.account.name}: {why}",
        link=f"/o/{grant.organization.slug}/activation/grants/",
        dedup_key=f"activation_warning:{grant.pk}",
    )


# --- more time ------------------------------------------------------------------------------------------------------


def ask_for_more(*, grant: AccessGrant, days: Any, reason: str, actor: Actor, operator: Operator | None) -> AccessGrant:
    """Ask that access ends later; an approver who did not ask decides. Raises NotTimed, InvalidInput."""
    number, reason = _whole_days(days), reason.strip()
    if not reason:
        raise InvalidInput(fields={"reason": ["Say why the access is still needed."]})
    with transaction.atomic():
        current = _locked(grant)
        current.asked_days, current.asked_reason = number, reason[:500]
        current.asked_at, current.asked_by, current.asked_by_text = timezone.now(), operator, actor.name[:254]
        current.save(update_fields=["asked_days", "asked_reason", "asked_at", "asked_by", "asked_by_text"])
        record(
            organization=current.organization,
            actor=actor,
            action="access_grant.more_asked",
            reason=current.asked_reason,
            after={"days": number},
            **_target(current),
        )
    raise_alert(
        organization=current.organization,
        kind="activation_extension",
        severity="info",
        title=f"{current.account.name} asks to keep access to {current.group_names}"[:200],
        detail=f"{number} more days, asked by {current.asked_by_text}: {current.asked_reason}",
        link=f"/o/{current.organization.slug}/activation/grants/?view=asked",
        dedup_key=f"activation_extension:{current.pk}",
    )
    return current


def ask_from_link(event: InboundEvent) -> None:
    """The person asked for more time by the link in the warning."""
    link = InboundLink.objects.select_related("grant__organization", "account").get(pk=event.payload["link"])
    InboundLink.objects.filter(pk=link.pk, used_at__isnull=True).update(used_at=event.received_at)
    assert link.grant is not None
    account = link.account
    name = account.name if account else link.email
    actor = Actor.inbound("mail", f"link {link.uuid}", name, link.email)
    ask_for_more(
        grant=link.grant,
        days=event.payload.get("days"),
        reason=str(event.payload.get("reason", "")),
        actor=actor,
        operator=None,
    )


def decide_more(*, grant: AccessGrant, is_granted: bool, reason: str, actor: Actor, operator: Operator) -> AccessGrant:
    """Grant or refuse more time. Raises NothingAsked, and NotAllowed for whoever asked, unless they work alone."""
    with transaction.atomic():
        current = _locked(grant)
        if current.asked_at is None or current.asked_days is None:
            raise NothingAsked
        own = current.asked_by_id == operator.pk or (current.account.email or "").lower() == operator.email.lower()
        if own and not current.organization.is_one_operator:
            raise NotAllowed("Nobody decides about a request of their own. Another approver has to.")
        days = current.asked_days
        before = current.expires_at
        if is_granted:
            assert before is not None
            current.expires_at = max(before, timezone.now()) + timedelta(days=days)
            current.warned_7_at = current.warned_1_at = current.next_removal_at = None
            current.detail = ""
        current.asked_days, current.asked_reason, current.asked_at = None, "", None
        current.asked_by, current.asked_by_text = None, ""
        current.save()
        record(
            organization=current.organization,
            actor=actor,
            action="access_grant.extended" if is_granted else "access_grant.more_refused",
            reason=reason.strip()[:500],
            before={"expires_at": before.isoformat() if before else None},
            after={"expires_at": current.expires_at.isoformat() if current.expires_at else None, "days": days},
            **_target(current),
        )
    resolve_alert(organization=current.organization, dedup_key=f"activation_extension:{current.pk}", by=actor.name)
    return current


def undo_grant(*, grant: AccessGrant, actor: Actor, operator: Operator, is_by_token: bool = False) -> Operation:
    """Take back what a grant gave, by undoing its run, which is about this person alone. Raises NotApplicable."""
    if grant.status != Status.GIVEN or grant.operation is None:
        raise DomainError("Only access that was given can be undone.")
    return undo_operation(
        operation=grant.operation,
        actor=actor,
        operator=operator,
        is_by_token=is_by_token,
    )


def _locked(grant: AccessGrant) -> AccessGrant:
    current: AccessGrant = (
        AccessGrant.objects.select_for_update(of=("self",))
        .select_related("organization", "account", "rule")
        .get(pk=grant.pk)
    )
    if current.status != Status.GIVEN or current.expires_at is None:
        raise NotTimed
    return current


def _whole_days(value: Any) -> int:
    text = str(value).strip()
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0
    if not 1 <= number <= MAX_DAYS:
        raise InvalidInput(fields={"days": [f"Enter 1 to {MAX_DAYS:,} days."]})
    return number


def _target(grant: AccessGrant) -> dict[str, Any]:
    return {
        "target_kind": "account",
        "target_ref": grant.account.account_id,
        "target_name": grant.account.name,
        "target_email": grant.account.email or "",
        "rule_name": grant.rule.name,
        "rule_version": grant.rule_version,
        "group_name": grant.group_names,
    }
