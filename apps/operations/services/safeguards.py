"""Loosening a safeguard: proposed by one person, approved by another, in force an hour later (P5).

Tightening is immediate. Every function locks the organisation first, then the change, so that no two of them wait for
each other.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Field
from django.urls import reverse
from django.utils import timezone

from apps.audit.services import record
from apps.operations import hooks
from apps.operations.models import SafeguardChange
from apps.operations.reasons import SAFEGUARD_WORDS, safeguard_lines
from apps.operations.selection import Limits
from apps.operations.services.approvals import Refusal
from apps.operations.services.gate import limits_can_trip
from apps.operators.models import Operator
from apps.operators.permissions import Permission
from apps.operators.selectors import approvers, permissions_of
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.organizations.services import (
    LOOSER_WHEN_GREATER,
    SETTINGS_FIELDS,
    raise_alert,
    resolve_alert,
    update_settings,
)
from apps.users.models import Account, AccountKind, Group, ProtectedGroup
from apps.users.services import release_kind, set_licence_only, unprotect_group
from aum.common.errors import DomainError, InvalidInput, NotAllowed

logger = logging.getLogger(__name__)

Status = SafeguardChange.Status
# A set of these of which none could trip is no brake at all.
BRAKES = ("max_count", "max_share_percent", "max_per_day")
MAX_REASON = 500


class NotOpen(DomainError):
    code = "not_open"
    detail = "This change is not waiting any more."


class MayNotDecide(DomainError):
    code = "may_not_decide"
    status = 403
    detail = "You cannot decide about this change."


class ChangeImpossible(DomainError):
    code = "change_impossible"
    detail = "This change is no longer possible. Propose it again."


@dataclass(frozen=True)
class Proposal:
    """What became of wanted settings: those in force at once, the change that waits, and those that it replaces."""

    saved: tuple[str, ...]
    pending: SafeguardChange | None
    superseded: tuple[SafeguardChange, ...]


# --- proposing --------------------------------------------------------------------------------------------------------


@transaction.atomic
def propose_change(
    *, organization: Organization, changes: Mapping[str, Any], reason: str, actor: Actor, operator: Operator | None
) -> Proposal:
    """Save what tightens or is free at once; what loosens becomes one change that waits for another person.

    Raises InvalidInput that names each wrong field; then nothing is saved. `reason` is needed only for loosening.
    """
    row = _lock(organization)
    wanted = _wanted(row, changes)
    differing = [name for name in changes if getattr(wanted, name) != getattr(row, name)]
    looser = [name for name in differing if _is_looser(name, getattr(row, name), getattr(wanted, name))]
    free = {name: getattr(wanted, name) for name in differing if name not in looser}
    if looser:
        _refuse_dead_brakes(wanted, looser)
        reason = _checked_reason(reason)
    superseded = _supersede(
        row,
        actor,
        lambda change: change.kind == SafeguardChange.Kind.SETTINGS and not set(differing).isdisjoint(change.changes),
    )
    before = {name: str(getattr(row, name)) for name in looser}
    if free:
        update_settings(organization=row, changes=free, actor=actor)
    pending = None
    if looser:
        pending = _propose(
            row,
            actor,
            operator,
            reason,
            kind=SafeguardChange.Kind.SETTINGS,
            changes={name: [before[name], str(getattr(wanted, name))] for name in looser},
        )
    return Proposal(tuple(free), pending, superseded)


@transaction.atomic
def propose_unprotect(*, group: Group, reason: str, actor: Actor, operator: Operator | None) -> SafeguardChange:
    """Propose to end a group's protection. Until it is in force the group stays protected. Raises InvalidInput."""
    row = _lock(group.organization)
    if not _is_protected(group):
        raise InvalidInput("This group is not protected.")
    reason = _checked_reason(reason)
    kind = SafeguardChange.Kind.UNPROTECT_GROUP
    _supersede(row, actor, lambda change: change.kind == kind and change.group_id == group.pk)
    return _propose(row, actor, operator, reason, kind=kind, group=group)


@transaction.atomic
def propose_licence_only(*, group: Group, reason: str, actor: Actor, operator: Operator | None) -> SafeguardChange:
    """Propose that a group may be left for the sake of its licence although it grants more. Raises InvalidInput."""
    row = _lock(group.organization)
    if group.is_licence_only:
        raise InvalidInput("This group is marked licence-only already.")
    if group.is_administrative:
        raise InvalidInput(f"{group.name} grants administration. Who is in it is never a matter of licences.")
    reason = _checked_reason(reason)
    kind = SafeguardChange.Kind.LICENCE_ONLY
    _supersede(row, actor, lambda change: change.kind == kind and change.group_id == group.pk)
    return _propose(row, actor, operator, reason, kind=kind, group=group)


@transaction.atomic
def propose_release_kind(*, account: Account, reason: str, actor: Actor, operator: Operator | None) -> SafeguardChange:
    """Propose that cleanups treat a service, bot or app like a person. Raises InvalidInput."""
    row = _lock(account.organization)
    if account.kind == AccountKind.PERSON:
        raise InvalidInput("This account is a person: no kind protects it.")
    if account.is_kind_released:
        raise InvalidInput("This account is treated like a person already.")
    reason = _checked_reason(reason)
    kind = SafeguardChange.Kind.RELEASE_KIND
    _supersede(row, actor, lambda change: change.kind == kind and change.account_id == account.pk)
    return _propose(row, actor, operator, reason, kind=kind, account=account)


@transaction.atomic
def tighten_licence_only(*, group: Group, reason: str, actor: Actor) -> None:
    """Take a group's mark licence-only back at once, and end what would set it anew."""
    row = _lock(group.organization)
    kind = SafeguardChange.Kind.LICENCE_ONLY
    _supersede(row, actor, lambda change: change.kind == kind and change.group_id == group.pk)
    set_licence_only(group=group, value=False, actor=actor, reason=reason)


@transaction.atomic
def tighten_kind(*, account: Account, reason: str, actor: Actor) -> None:
    """Protect a service, bot or app again at once, and end what would release it anew. Raises InvalidInput."""
    row = _lock(account.organization)
    kind = SafeguardChange.Kind.RELEASE_KIND
    _supersede(row, actor, lambda change: change.kind == kind and change.account_id == account.pk)
    release_kind(account=account, value=False, actor=actor, reason=reason)


@transaction.atomic
def propose_rule_change(
    *,
    organization: Organization,
    rule_id: int,
    rule_name: str,
    changes: Mapping[str, Sequence[str]],
    reason: str,
    actor: Actor,
    operator: Operator | None,
) -> SafeguardChange:
    """Propose looser limits or fewer protected groups of a rule, [from, to] each. Raises InvalidInput, NotAllowed.

    What the rule says meanwhile, and how the change is made, is for the layer above (`operations.hooks`).
    """
    row = _lock(organization)
    return _propose(
        row,
        actor,
        operator,
        _checked_reason(reason),
        kind=SafeguardChange.Kind.RULE,
        rule_id=rule_id,
        rule_name=rule_name,
        changes={name: list(values) for name, values in changes.items()},
    )


@transaction.atomic
def end_rule_changes(*, organization: Organization, rule_id: int, fields: Iterable[str], actor: Actor) -> None:
    """End the changes of a rule's safeguards that wait and that are about any of `fields`: newer values count."""
    names = set(fields)
    _supersede(
        _lock(organization),
        actor,
        lambda change: change.rule_id == rule_id and not names.isdisjoint(change.changes),
    )


def _lock(organization: Organization) -> Organization:
    locked: Organization = Organization.objects.select_for_update().get(pk=organization.pk)
    return locked


def _wanted(organization: Organization, changes: Mapping[str, Any]) -> Organization:
    """An unsaved copy with `changes`, validated as saving them would be; raises InvalidInput."""
    unknown = sorted(set(changes) - SETTINGS_FIELDS)
    if unknown:
        raise InvalidInput(fields={name: ["This setting does not exist."] for name in unknown})
    copy = Organization.objects.get(pk=organization.pk)
    for name, value in changes.items():
        setattr(copy, name, value)
    try:
        copy.full_clean()
    except ValidationError as error:
        raise InvalidInput(fields=error.message_dict) from error
    return copy


def _is_looser(name: str, before: Any, after: Any) -> bool:
    if name not in LOOSER_WHEN_GREATER:
        return False
    return bool(after > before if LOOSER_WHEN_GREATER[name] else after < before)


def _refuse_dead_brakes(wanted: Organization, looser: Iterable[str]) -> None:
    brakes = [name for name in looser if name in BRAKES]
    if brakes and not limits_can_trip(organization=wanted, limits=Limits()):
        sentence = "With these limits no run could ever be held. Choose a smaller number for at least one of them."
        raise InvalidInput(fields={name: [sentence] for name in brakes})


def _checked_reason(reason: str) -> str:
    reason = reason.strip()
    if not reason:
        raise InvalidInput(fields={"reason": ["Say why a safeguard becomes looser. Who approves it reads this."]})
    if len(reason) > MAX_REASON:
        raise InvalidInput(fields={"reason": [f"At most {MAX_REASON} characters."]})
    return reason


def _is_protected(group: Group) -> bool:
    return bool(ProtectedGroup.objects.filter(group=group).exists())


def _propose(
    organization: Organization, actor: Actor, operator: Operator | None, reason: str, **fields: Any
) -> SafeguardChange:
    if actor.kind == "token":
        raise NotAllowed("A token cannot loosen a safeguard. Sign in to do it.")
    if operator is None:
        # Without a person nobody could tell the proposer from the one who approves.
        raise NotAllowed("A looser safeguard needs a person who proposes it. Name one with --as.")
    change: SafeguardChange = SafeguardChange.objects.create(
        organization=organization,
        reason=reason,
        proposed_by=operator,
        proposed_by_text=actor.name[:254],
        proposed_at=timezone.now(),
        **fields,
    )
    _record(change, actor, "safeguard.proposed", reason)
    _alert(change, "waits for an approval")
    return change


def _supersede(organization: Organization, actor: Actor, overlaps: Any) -> tuple[SafeguardChange, ...]:
    """End the open changes about the same thing: what was wanted last counts, and it is approved anew."""
    open_changes = (
        SafeguardChange.objects.of(organization).select_for_update(of=("self",)).select_related("group", "account")
    )
    found = [change for change in open_changes.filter(status__in=SafeguardChange.OPEN) if overlaps(change)]
    for change in found:
        _end(change, Status.SUPERSEDED, actor, "A newer change of the same safeguard replaces it.")
    return tuple(found)


# --- deciding ---------------------------------------------------------------------------------------------------------


def decision_refusals(
    *, organization: Organization, changes: Iterable[SafeguardChange], operator: Operator
) -> dict[int, Refusal | None]:
    """Per change (by pk): None when `operator` may approve it, else why not. Two queries, however many changes."""
    if Permission.APPROVE not in permissions_of(operator, organization):
        role = Refusal("role", "Your role does not include approvals. Ask an approver or an owner.")
        return {change.pk: role for change in changes}
    if organization.is_one_operator:
        return {change.pk: None for change in changes}
    new = None
    if not approvers(organization).filter(pk=operator.pk).exists():
        new = Refusal("new", "Your role is younger than 24 hours; until then you cannot approve.")
    own = Refusal("author", "Nobody approves a change of their own. Another approver has to decide.")
    return {change.pk: own if change.proposed_by_id == operator.pk else new for change in changes}


@transaction.atomic
def approve_change(
    *, change: SafeguardChange, operator: Operator, actor: Actor, confirm: str = "", password: str | None = None
) -> SafeguardChange:
    """Approve a pending change: it takes effect after SafeguardChange.EFFECT_WAIT.

    In one-operator mode `confirm` is the organisation's short name, typed, and the password is given again, in the
    browser. Raises NotOpen, MayNotDecide, ChangeImpossible, InvalidInput.
    """
    locked = _lock_change(change, (Status.PENDING,))
    organization = locked.organization
    refusal = decision_refusals(organization=organization, changes=[locked], operator=operator)[locked.pk]
    if refusal:
        raise MayNotDecide(refusal.sentence)
    if organization.is_one_operator:
        _confirm_alone(organization, operator, actor, confirm, password)
    obstacle = _obstacle(locked)
    if obstacle:
        raise ChangeImpossible(f"{obstacle} Propose the change again.")
    now = timezone.now()
    locked.status = Status.APPROVED
    locked.approved_by = operator
    locked.approved_by_text = actor.name[:254]
    locked.approved_at = now
    locked.is_one_operator = organization.is_one_operator
    locked.effective_at = now + SafeguardChange.EFFECT_WAIT
    locked.save()
    _record(locked, actor, "safeguard.approved", locked.reason, effective_at=locked.effective_at.isoformat())
    _resolve_alerts(locked, actor)
    _alert(locked, f"takes effect {locked.effective_at:%H:%M} UTC")
    return locked


def _confirm_alone(
    organization: Organization, operator: Operator, actor: Actor, confirm: str, password: str | None
) -> None:
    if actor.kind != "operator":
        raise MayNotDecide("In one-operator mode the confirmation is given in the browser. Open Approvals.")
    errors: dict[str, list[str]] = {}
    if confirm.strip() != organization.slug:
        errors["confirm"] = [f"Type {organization.slug}, the short name of this organisation."]
    if not password or not operator.check_password(password):
        errors["password"] = ["Enter your password once more."]
    if errors:
        raise InvalidInput(fields=errors)


@transaction.atomic
def reject_change(*, change: SafeguardChange, operator: Operator, actor: Actor, reason: str) -> SafeguardChange:
    """End a change that waits, or that was approved and is not in force yet. Needs the right to approve and a reason.

    It keeps what is stricter, so a new role need not wait for it. Raises NotOpen, MayNotDecide, InvalidInput.
    """
    locked = _lock_change(change, SafeguardChange.OPEN)
    if Permission.APPROVE not in permissions_of(operator, locked.organization):
        raise MayNotDecide("Your role does not include approvals. Ask an approver or an owner.")
    if not reason.strip():
        raise InvalidInput(fields={"reason": ["Say why, so that who proposed it can do better."]})
    _end(locked, Status.REJECTED, actor, reason.strip())
    return locked


@transaction.atomic
def withdraw_change(*, change: SafeguardChange, operator: Operator, actor: Actor, reason: str = "") -> SafeguardChange:
    """Take back one's own proposal before it is in force. Raises NotOpen, MayNotDecide."""
    locked = _lock_change(change, SafeguardChange.OPEN)
    if locked.proposed_by_id != operator.pk:
        raise MayNotDecide("Only who proposed a change withdraws it. An approver can reject it.")
    _end(locked, Status.WITHDRAWN, actor, reason.strip())
    return locked


def _lock_change(change: SafeguardChange, wanted: Iterable[str]) -> SafeguardChange:
    organization = _lock(change.organization)
    locked: SafeguardChange = (
        SafeguardChange.objects.select_for_update(of=("self",)).select_related("group", "account").get(pk=change.pk)
    )
    locked.organization = organization
    if locked.status not in wanted:
        raise NotOpen(f"This change is not waiting any more: {locked.get_status_display().lower()}.")
    return locked


def _obstacle(change: SafeguardChange) -> str:
    """Why a change cannot be made as it was approved; empty when it can."""
    if change.kind == SafeguardChange.Kind.LICENCE_ONLY and change.group is not None:
        return f"{change.group.name} is no longer in Atlassian." if change.group.vanished_at else ""
    if change.account is not None:
        return f"{change.account} is no longer in Atlassian." if change.account.vanished_at else ""
    if change.group is not None:
        return "" if _is_protected(change.group) else f"The group {change.group.name} is not protected any more."
    if change.kind == SafeguardChange.Kind.RULE:
        return next((sentence for ask in hooks.rule_change_obstacles if (sentence := ask(change))), "")
    organization = change.organization
    for name, (before, _after) in change.changes.items():
        if _value(name, before) != getattr(organization, name):
            return f"“{SAFEGUARD_WORDS[name][0]}” was changed since it was proposed."
    try:
        wanted = _wanted(organization, {name: after for name, (_before, after) in change.changes.items()})
        _refuse_dead_brakes(wanted, change.changes)
    except InvalidInput as error:
        # Several brakes share one sentence.
        return " ".join(dict.fromkeys(text for texts in error.fields.values() for text in texts))
    return ""


def _value(name: str, text: str) -> Any:
    field = Organization._meta.get_field(name)
    assert isinstance(field, Field)
    return field.to_python(text)


# --- taking effect ----------------------------------------------------------------------------------------------------


def apply_due_changes() -> int:
    """Put in force what was approved an hour ago or earlier; how many. What became impossible ends, with an alert."""
    due = SafeguardChange.objects.filter(status=Status.APPROVED, effective_at__lte=timezone.now())
    return sum(_apply(change) for change in due.select_related("organization").order_by("effective_at", "id"))


@transaction.atomic
def _apply(change: SafeguardChange) -> bool:
    """False when another process was first, when somebody objected meanwhile, or when it became impossible."""
    try:
        locked = _lock_change(change, (Status.APPROVED,))
    except NotOpen:
        return False
    scheduler = Actor.scheduler()
    obstacle = _obstacle(locked)
    if obstacle:
        _end(locked, Status.VOID, scheduler, obstacle)
        _alert(locked, "could not take effect", detail=obstacle, kind="safeguard_void")
        return False
    locked.status, locked.applied_at = Status.APPLIED, timezone.now()
    locked.save(update_fields=["status", "applied_at"])
    if locked.kind == SafeguardChange.Kind.LICENCE_ONLY and locked.group is not None:
        set_licence_only(group=locked.group, value=True, actor=scheduler, reason=locked.reason)
    elif locked.account is not None:
        release_kind(account=locked.account, value=True, actor=scheduler, reason=locked.reason)
    elif locked.group is not None:
        unprotect_group(group=locked.group, actor=scheduler, reason=locked.reason)
    elif locked.kind == SafeguardChange.Kind.RULE:
        for make in hooks.on_rule_change_due:
            make(locked)
    else:
        values = {name: _value(name, after) for name, (_before, after) in locked.changes.items()}
        update_settings(organization=locked.organization, changes=values, actor=scheduler)
    _record(
        locked,
        scheduler,
        "safeguard.applied",
        locked.reason,
        proposed_by=locked.proposed_by_text,
        approved_by=locked.approved_by_text,
    )
    _resolve_alerts(locked, scheduler)
    logger.info("safeguard.applied", extra={"safeguard_change_id": locked.pk})
    return True


# --- what all of them share -------------------------------------------------------------------------------------------


def _end(change: SafeguardChange, status: Status, actor: Actor, reason: str) -> None:
    change.status = status
    change.ended_at, change.ended_by_text, change.ending_reason = timezone.now(), actor.name[:254], reason
    change.save(update_fields=["status", "ended_at", "ended_by_text", "ending_reason"])
    _record(change, actor, f"safeguard.{status}", reason)
    _resolve_alerts(change, actor)


def _record(change: SafeguardChange, actor: Actor, action: str, reason: str, **after: str) -> None:
    """One audit row. Before and after name the values that the change is about, whether in force or not."""
    record(
        organization=change.organization,
        actor=actor,
        action=action,
        target_kind="safeguard_change",
        target_ref=str(change.pk),
        target_name="; ".join(line.sentence for line in safeguard_lines(change)),
        group_name=change.group.name if change.group else "",
        rule_id=change.rule_id,
        rule_name=change.rule_name,
        outcome="warning" if change.status == Status.VOID else "success",
        before={name: values[0] for name, values in change.changes.items()},
        after={**{name: values[1] for name, values in change.changes.items()}, **after},
        reason=reason,
    )


def _alert(change: SafeguardChange, state: str, *, detail: str = "", kind: str = "safeguard") -> None:
    sentences = "; ".join(line.sentence for line in safeguard_lines(change))
    raise_alert(
        organization=change.organization,
        kind=kind,
        severity="warning",
        title=f"A looser safeguard {state}",
        detail=f"{sentences}. Proposed by {change.proposed_by_text}: {change.reason} {detail}".strip(),
        link=reverse("operations:approvals", args=[change.organization.slug]),
        dedup_key=f"{kind}:{change.pk}:{change.status}",
    )


def _resolve_alerts(change: SafeguardChange, actor: Actor) -> None:
    for status in SafeguardChange.OPEN:
        resolve_alert(organization=change.organization, dedup_key=f"safeguard:{change.pk}:{status}", by=actor.name)
