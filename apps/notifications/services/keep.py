"""What the holder of a keep link may do (DECISIONS.md §17), and how it is carried out.

The link alone can only snooze. Giving access up, and asking for it back, need a code that was sent to the person's
address as Atlassian gives it now. The public surface inserts KeepDecision and KeepCode rows; `apply_decision` and
`mail_code` do the rest in a private process.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from hmac import compare_digest

from django.conf import settings as django_settings
from django.db import IntegrityError, transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from apps.audit.services import record
from apps.notifications.models import Delivery, KeepCode, KeepDecision, MailSettings
from apps.notifications.registry import registry
from apps.notifications.services.messages import code_of
from apps.notifications.services.sending import queue_waiting
from apps.operations.models import Operation, OperationItem
from apps.operations.selection import AccountsSelection, ActionSpec
from apps.operations.services import plan_operation, undo_operation
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.organizations.services import raise_alert
from apps.pricing.selectors import licence_alerts, seats
from apps.users.models import Account
from apps.users.products import label_of
from apps.users.services import snooze
from aum.common.errors import DomainError, InvalidInput
from aum.common.tasks import enqueue_on_commit

logger = logging.getLogger(__name__)

Choice, Status = KeepDecision.Choice, KeepDecision.Status
CODE_MINUTES = 15
CODE_TRIES = 5
CODES_PER_DAY = 5
RETURN_DAYS = 30
YEAR = timedelta(days=365)


class LinkUsed(DomainError):
    code = "link_used"
    status = 410
    detail = "This link was used already. It works once."


class LinkExpired(DomainError):
    code = "link_expired"
    status = 410
    detail = "This link has expired. Ask the administrators of your organisation."


class KeepLimit(DomainError):
    code = "keep_limit"
    detail = "Access was kept as often as allowed within a year. Log in instead, or ask the administrators."


class CodeWrong(DomainError):
    code = "code_wrong"
    status = 422
    detail = "This code is not right, or no longer good. Check the newest mail, or ask for another code."


class TooManyCodes(DomainError):
    code = "too_many_codes"
    status = 429
    detail = "Too many codes were sent today. Try again tomorrow, or ask the administrators."


@dataclass(frozen=True)
class LinkState:
    """What a link can still do at this moment. `until`: how long access would be kept."""

    delivery: Delivery
    is_expired: bool
    decided: KeepDecision | None
    returned: KeepDecision | None
    is_taken: bool
    may_keep: bool
    why_not_keep: str
    until: datetime


def link_state(delivery: Delivery, now: datetime | None = None) -> LinkState:
    """Read only: a GET changes nothing, however often it comes."""
    at = now or timezone.now()
    made = {row.choice == Choice.RETURN: row for row in delivery.decisions.all()}
    decided, returned = made.get(False), made.get(True)
    is_expired = delivery.keep_until is None or delivery.keep_until <= at
    policy = MailSettings.objects.of(delivery.organization).first() or MailSettings()
    taken = taken_item(delivery)
    why = ""
    if policy.keep_per_year == 0:
        why = "Your organisation does not offer this. Log in before the date in the mail instead."
    elif delivery.account_id and _kept_within_year(delivery.account_id, at) >= policy.keep_per_year:
        why = KeepLimit.detail
    return LinkState(
        delivery=delivery,
        is_expired=is_expired,
        decided=decided,
        returned=returned,
        is_taken=taken is not None,
        may_keep=not is_expired and decided is None and taken is None and not why,
        why_not_keep=why,
        until=at + timedelta(days=policy.keep_days),
    )


def _kept_within_year(account_id: int, now: datetime) -> int:
    return (
        KeepDecision.objects.filter(account_id=account_id, choice=Choice.KEEP, decided_at__gt=now - YEAR)
        .exclude(status=Status.REFUSED)
        .count()
    )


def taken_item(delivery: Delivery) -> OperationItem | None:
    """What AUM took from the person after this mail and did not give back; None while they still have it."""
    if delivery.account_id is None:
        return None
    items = (
        OperationItem.objects.of(delivery.organization)
        .filter(
            account_id=delivery.account_id,
            outcome=OperationItem.Outcome.DONE,
            action=delivery.action,
            operation__mode=Operation.Mode.LIVE,
            operation__undo_of__isnull=True,
            finished_at__gte=delivery.created_at,
        )
        .select_related("operation__organization", "account")
        .order_by("-finished_at")
    )
    newest = items.first()
    if newest is None:
        return None
    given_back = OperationItem.objects.filter(
        account_id=delivery.account_id,
        outcome=OperationItem.Outcome.DONE,
        operation__undo_of=newest.operation,
        target=newest.target,
    )
    return None if given_back.exists() else newest


# --- deciding: what the public surface may do -------------------------------------------------------------------------


def keep(*, delivery: Delivery, reason: str, ip_address: str | None) -> KeepDecision:
    """The holder keeps the access: one row, once. Raises LinkUsed, LinkExpired, KeepLimit, InvalidInput."""
    words = " ".join(reason.split())[:500].replace("\x00", "")
    if len(words) < 3:
        raise InvalidInput(fields={"reason": ["Say in a few words why you need the access."]})
    with transaction.atomic():
        account = _locked_account(delivery)
        state = link_state(delivery)
        if state.decided is not None or state.is_taken:
            raise LinkUsed(
                LinkUsed.detail if state.decided else "The access was already taken. Ask for it back instead."
            )
        if state.is_expired:
            raise LinkExpired
        if state.why_not_keep:
            raise KeepLimit(state.why_not_keep)
        decision = _decide(delivery, account, Choice.KEEP, words, ip_address)
        decision.until = state.until
        decision.save(update_fields=["until"])
    return _carry_out(decision)


def ask_code(*, delivery: Delivery, choice: str) -> KeepCode:
    """Have a code sent to the person's current address. Raises LinkUsed, LinkExpired, TooManyCodes."""
    now = timezone.now()
    with transaction.atomic():
        _locked_account(delivery)
        _refuse_choice(link_state(delivery), choice)
        if delivery.codes.filter(created_at__gt=now - timedelta(days=1)).count() >= CODES_PER_DAY:
            raise TooManyCodes
        code: KeepCode = KeepCode.objects.create(
            organization=delivery.organization,
            delivery=delivery,
            choice=choice,
            created_at=now,
            expires_at=now + timedelta(minutes=CODE_MINUTES),
        )
    if django_settings.AUM_SURFACE == "public":
        enqueue_on_commit("notifications.sweep")
    else:
        mail_code(code)
    return code


def confirm(*, delivery: Delivery, choice: str, code: str, reason: str, ip_address: str | None) -> KeepDecision:
    """Give up or ask back, with the code. Raises CodeWrong, LinkUsed, LinkExpired."""
    now = timezone.now()
    typed = "".join(character for character in code if character.isdigit() and character.isascii())[:12]
    with transaction.atomic():
        account = _locked_account(delivery)
        _refuse_choice(link_state(delivery), choice)
        newest = delivery.codes.filter(choice=choice, used_at__isnull=True, expires_at__gt=now).order_by("-pk").first()
        is_right = newest is not None and newest.tries < CODE_TRIES and compare_digest(code_of(newest), typed)
        if newest is not None and is_right:
            KeepCode.objects.filter(pk=newest.pk).update(used_at=now)
            words = " ".join(reason.split())[:500].replace("\x00", "")
            decision = _decide(delivery, account, choice, words, ip_address)
    if not is_right:
        if newest is not None:  # outside of the transaction: a wrong try counts
            KeepCode.objects.filter(pk=newest.pk).update(tries=F("tries") + 1)
        raise CodeWrong
    return _carry_out(decision)


def _refuse_choice(state: LinkState, choice: str) -> None:
    if choice not in (Choice.RELEASE, Choice.RETURN):
        raise InvalidInput(fields={"choice": ["Choose one of the buttons of the page."]})
    if choice == Choice.RELEASE and (state.decided is not None or state.is_taken):
        raise LinkUsed
    if choice == Choice.RETURN and (state.returned is not None or not state.is_taken):
        raise LinkUsed("There is nothing to give back, or it was asked for already.")
    if state.is_expired:
        raise LinkExpired


def _locked_account(delivery: Delivery) -> Account:
    """One decision about a person at a time: limits are counted under this lock."""
    found: Account | None = Account.objects.select_for_update(of=("self",)).filter(pk=delivery.account_id or 0).first()
    if found is None:
        raise LinkExpired
    return found


def _decide(delivery: Delivery, account: Account, choice: str, reason: str, ip_address: str | None) -> KeepDecision:
    try:
        with transaction.atomic():
            decision: KeepDecision = KeepDecision.objects.create(
                organization=delivery.organization,
                delivery=delivery,
                account=account,
                choice=choice,
                reason=reason,
                ip_address=ip_address,
                decided_at=timezone.now(),
            )
    except IntegrityError as error:
        raise LinkUsed from error
    return decision


def _carry_out(decision: KeepDecision) -> KeepDecision:
    """At once where this process may; else a private one does it within moments."""
    if django_settings.AUM_SURFACE == "public":
        enqueue_on_commit("notifications.sweep")
        return decision
    apply_decision(decision.pk)
    decision.refresh_from_db()
    return decision


# --- carrying out: private processes ----------------------------------------------------------------------------------


def carry_out_waiting() -> int:
    """Answers and codes that the public surface left; returns how many. One error does not keep the others."""
    pks = list(KeepDecision.objects.filter(status=Status.WAITING).order_by("pk").values_list("pk", flat=True)[:500])
    done = 0
    for pk in pks:
        try:
            apply_decision(pk)
            done += 1
        except Exception:
            logger.exception("keep.not_applied", extra={"decision_id": pk})
    now = timezone.now()
    for code in KeepCode.objects.filter(mail__isnull=True, used_at__isnull=True, expires_at__gt=now)[:500]:
        mail_code(code)
        done += 1
    settle_returns()
    return done


def mail_code(code: KeepCode) -> None:
    """Queue the mail that carries a code, in front of all others."""
    with transaction.atomic():
        row = (
            KeepCode.objects.select_for_update(of=("self",))
            .select_related("delivery__account", "organization")
            .get(pk=code.pk)
        )
        if row.mail_id is not None:
            return
        row.mail = Delivery.objects.create(
            organization=row.organization,
            kind=Delivery.Kind.CODE,
            account=row.delivery.account,
            copy_of=row.delivery,
            priority=0,
        )
        row.save(update_fields=["mail"])
        queue_waiting(row.organization)


def apply_decision(pk: int) -> None:
    """Carry out one decision; a no-op for one that is done. Raises nothing for what is refused: the row says why."""
    with transaction.atomic():
        decision = (
            KeepDecision.objects.select_for_update(of=("self",))
            .select_related("organization", "delivery__organization", "account")
            .get(pk=pk)
        )
        if decision.status != Status.WAITING:
            return
        try:
            with transaction.atomic():
                {Choice.KEEP: _snooze, Choice.RELEASE: _give_up, Choice.RETURN: _give_back}[Choice(decision.choice)](
                    decision
                )
        except DomainError as error:
            decision.status, decision.detail = Status.REFUSED, error.detail
        decision.applied_at = timezone.now()
        decision.save()
        _record(decision)
    if decision.status == Status.REFUSED:
        raise_alert(
            organization=decision.organization,
            kind="keep_refused",
            severity="warning",
            title="An answer to a notice could not be carried out",
            detail=f"{decision.get_choice_display()}: {decision.detail}",
            link=f"/o/{decision.organization.slug}/emails/answers/",
            dedup_key=f"keep_refused:{decision.pk}",
        )


def _actor(decision: KeepDecision) -> Actor:
    account = decision.account
    name = f"{account.name} by the link of a mail"
    return Actor.inbound("mail", str(decision.delivery.uuid), name, account.email or "")


def _snooze(decision: KeepDecision) -> None:
    now = timezone.now()
    policy = MailSettings.objects.of(decision.organization).first() or MailSettings()
    until = max(decision.until or now, now + timedelta(minutes=1))
    if decision.until is None:
        until = now + timedelta(days=policy.keep_days)
    snooze(
        organization=decision.organization,
        accounts=[decision.account],
        until=until,
        reason=f"Keep my access: {decision.reason}"[:500],
        actor=_actor(decision),
    )
    decision.until, decision.status = until, Status.APPLIED
    decision.detail = f"Access is kept until {until:%d %b %Y}."


def _give_up(decision: KeepDecision) -> None:
    delivery = decision.delivery
    spec = registry.action_of(decision.organization, delivery.rule_id) if delivery.rule_id else None
    if spec is None or spec.name != delivery.action:
        spec = ActionSpec(delivery.action, products=tuple(delivery.products))
    operation = plan_operation(
        organization=decision.organization,
        kind=Operation.Kind.MANUAL_OPERATION,
        mode=Operation.Mode.LIVE,
        initiator=Operation.Initiator.AUTOMATED,
        actor=_actor(decision),
        operator=None,
        name=f"Given up by {decision.account.name}"[:200],
        actions=[spec],
        selection=AccountsSelection((decision.account.account_id,)),
        reason=f"No longer needed, said by the person with a code. {decision.reason}".strip(),
        sentence="Takes what the person said they no longer need.",
    )
    decision.operation_id, decision.status = operation.pk, Status.APPLIED
    decision.detail = f"Run #{operation.number} takes it."


def _give_back(decision: KeepDecision) -> None:
    item = taken_item(decision.delivery)
    if item is None:
        raise LinkUsed("There is nothing to give back: the access is there, or somebody else changed it.")
    decision.needs_approval = why_approval(decision.organization, item)[:300]
    operation = undo_operation(
        operation=item.operation,
        actor=_actor(decision),
        operator=None,
        account_ids=[item.subject],
        initiator=Operation.Initiator.AUTOMATED,
    )
    decision.operation_id = operation.pk
    decision.status = Status.APPROVAL if decision.needs_approval else Status.APPLIED
    decision.detail = decision.needs_approval or f"Run #{operation.number} gives it back."


def why_approval(organization: Organization, item: OperationItem) -> str:
    """Why the return is not automatic; empty when it is: taken by a rule, 30 days, untouched since, a free seat."""
    account, run, now = item.account, item.operation, timezone.now()
    assert account is not None
    assert item.finished_at is not None
    while run.rule_id is None and run.retry_of is not None:
        run = run.retry_of
    if run.rule_id is None:
        return "The access was not taken by a rule."
    if now - item.finished_at > timedelta(days=RETURN_DAYS):
        return f"The access was taken more than {RETURN_DAYS} days ago."
    later = OperationItem.objects.filter(
        account=account, outcome=OperationItem.Outcome.DONE, finished_at__gt=item.finished_at
    ).exclude(operation_id=item.operation_id)
    changed = account.status_changed_at
    if later.exists() or (changed is not None and changed > item.finished_at + timedelta(seconds=60)):
        return "The account was changed by somebody since."
    products = _products_of(organization, item)
    return _over_budget(organization, account, products)


def _products_of(organization: Organization, item: OperationItem) -> list[str]:
    if product := item.parameters.get("product"):
        return [str(product)]
    return list(item.account.product_access.values_list("product", flat=True).distinct()) if item.account else []


def _over_budget(organization: Organization, account: Account, products: list[str]) -> str:
    """The seats of a product are used up to the number that somebody set as its limit."""
    limits, used = licence_alerts(organization), seats(organization)
    for product in products:
        limit = limits.get(product)
        if limit is not None and used.get(product, 0) >= limit.above:
            return f"No free seat of {label_of(product)}: {used.get(product, 0):,} of {limit.above:,} are used."
    return ""


def return_gate(operation: Operation) -> tuple[str, str] | None:
    """Holds a return that is not automatic until somebody approves it. Registered with operations."""
    if operation.initiator != Operation.Initiator.AUTOMATED or operation.undo_of_id is None:
        return None
    decision = KeepDecision.objects.filter(operation_id=operation.pk, choice=Choice.RETURN).first()
    if decision is None or not decision.needs_approval:
        return None
    who = decision.account.name or decision.account.account_id
    return "return_request", f"{who} asks for the access back. {decision.needs_approval}"


def note_finished(operation: Operation) -> None:
    """The access is back, or was not given: the answer says so (median time of returns, B17)."""
    if operation.undo_of_id is None or operation.initiator != Operation.Initiator.AUTOMATED:
        return
    _settle(KeepDecision.objects.filter(operation_id=operation.pk, choice=Choice.RETURN), operation)


def settle_returns() -> None:
    """The same for returns whose operation ended while nobody listened."""
    for decision in KeepDecision.objects.filter(choice=Choice.RETURN, status=Status.APPROVAL)[:200]:
        operation = Operation.objects.filter(pk=decision.operation_id or 0).first()
        if operation is not None and not operation.is_open:
            _settle(KeepDecision.objects.filter(pk=decision.pk), operation)


def _settle(decisions: QuerySet[KeepDecision], operation: Operation) -> None:
    if operation.status == Operation.Status.SUCCEEDED:
        decisions.filter(returned_at__isnull=True).update(
            returned_at=timezone.now(), status=Status.APPLIED, detail=f"Run #{operation.number} gave it back."
        )
    elif operation.status in (Operation.Status.REJECTED, Operation.Status.EXPIRED, Operation.Status.FAILED):
        word = operation.get_status_display().lower()
        decisions.update(status=Status.REFUSED, detail=f"Run #{operation.number}: {word}.")


def _record(decision: KeepDecision) -> None:
    account = decision.account
    outcome = {Status.APPLIED: "success", Status.APPROVAL: "warning"}.get(Status(decision.status), "failed")
    record(
        organization=decision.organization,
        actor=_actor(decision),
        action=f"keep_link.{decision.choice}",
        target_kind="account",
        target_ref=account.account_id,
        target_name=account.name,
        target_email=account.email or "",
        outcome=outcome,
        reason=decision.reason,
        after={"detail": decision.detail, "until": decision.until.isoformat() if decision.until else None},
        rule_id=decision.delivery.rule_id,
        rule_name=decision.delivery.rule_name,
    )
