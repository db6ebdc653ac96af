"""What operators decide about single mails: send again, say what became of one in doubt, let the action follow."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from apps.audit.services import record
from apps.notifications.models import Delivery
from apps.notifications.services.sending import accept, queue_waiting
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.organizations.services import resolve_alert
from aum.common.errors import DomainError, InvalidInput

MAX_DAYS = 365


class NotPossible(DomainError):
    code = "mail_state"
    detail = "The mail is no longer in a state in which this can be done."


def send_again(*, delivery: Delivery, actor: Actor) -> Delivery:
    """Queue an undeliverable or bounced mail, or one in doubt, once more. Raises NotPossible.

    For a mail in doubt it is the operator's word that it did not arrive; it keeps its message id, by which mail systems
    drop a second copy.
    """
    states = [*Delivery.FAILED, Delivery.Status.IN_DOUBT]
    with transaction.atomic():
        changed = Delivery.objects.filter(pk=delivery.pk, status__in=states).update(
            status=Delivery.Status.QUEUED,
            problem="",
            failed_at=None,
            release_at=None,
            released_by="",
            released_reason="",
            refusals=0,
            accepted_at=None,
            next_attempt_at=None,
            lease_token=None,
            priority=3,
        )
        if not changed:
            raise NotPossible
        _record(delivery, actor, "mail.queued_again")
        queue_waiting(delivery.organization)
    _close_alerts(delivery.organization)
    delivery.refresh_from_db()
    return delivery


def say_arrived(*, delivery: Delivery, actor: Actor, reason: str = "") -> Delivery:
    """An operator found in the mail server's log that a mail in doubt was taken. Raises NotPossible."""
    with transaction.atomic():
        row = (
            Delivery.objects.select_for_update(of=("self",))
            .select_related("organization", "account", "template")
            .get(pk=delivery.pk)
        )
        if row.status != Delivery.Status.IN_DOUBT:
            raise NotPossible
        accept(row, f"Confirmed by {actor.name}. {reason}".strip(), row.handed_at or timezone.now())
        _record(row, actor, "mail.confirmed", reason=reason)
    _close_alerts(delivery.organization)
    delivery.refresh_from_db()
    return delivery


def let_follow(*, delivery: Delivery, days: int | str, reason: str, actor: Actor) -> Delivery:
    """An Admin's recorded decision: the action follows `days` from now although the notice could not be delivered.

    At least as many days as the notice announces. Raises InvalidInput, NotPossible.
    """
    least = max(1, delivery.days_before or 1)
    text = str(days).strip()
    errors: dict[str, list[str]] = {}
    if not (text.isascii() and text.isdecimal() and len(text) < 5 and least <= int(text) <= MAX_DAYS):
        errors["days"] = [f"Enter a number of days from {least}, as the notice announces, to {MAX_DAYS}."]
    if not reason.strip():
        errors["reason"] = ["Say why this person may be acted upon without having been told."]
    if errors:
        raise InvalidInput(fields=errors)
    with transaction.atomic():
        release_at = timezone.now() + timedelta(days=int(text))
        changed = Delivery.objects.filter(pk=delivery.pk, status__in=Delivery.FAILED, kind=Delivery.Kind.NOTICE).update(
            release_at=release_at, released_by=actor.name[:254], released_reason=reason.strip()[:500]
        )
        if not changed:
            raise NotPossible
        _record(delivery, actor, "notice.released", reason=reason.strip(), after={"release_at": release_at.isoformat()})
    _close_alerts(delivery.organization)
    delivery.refresh_from_db()
    return delivery


def requeue_addressed() -> int:
    """Undeliverable notices whose person got another address since are sent again by themselves; returns how many."""
    failed = Delivery.objects.filter(
        kind=Delivery.Kind.NOTICE, status=Delivery.Status.UNDELIVERABLE, audience="person", account__email__isnull=False
    ).exclude(account__email="")
    changed = list(failed.exclude(recipient__iexact=F("account__email")).values_list("pk", flat=True)[:5000])
    if not changed:
        return 0
    return Delivery.objects.filter(pk__in=changed, status=Delivery.Status.UNDELIVERABLE).update(
        status=Delivery.Status.QUEUED,
        problem="",
        failed_at=None,
        refusals=0,
        next_attempt_at=None,
        release_at=None,
        released_by="",
        released_reason="",
    )


def _close_alerts(organization: Organization) -> None:
    """The alerts end when nothing is left that waits for somebody."""
    rows = Delivery.objects.of(organization).filter(kind=Delivery.Kind.NOTICE)
    if not rows.filter(status__in=Delivery.FAILED, release_at__isnull=True).exists():
        resolve_alert(organization=organization, dedup_key="notice_undeliverable")
    if not Delivery.objects.of(organization).filter(status=Delivery.Status.IN_DOUBT).exists():
        resolve_alert(organization=organization, dedup_key="mail_in_doubt")


def _record(row: Delivery, actor: Actor, action: str, **fields: object) -> None:
    account = row.account
    record(
        organization=row.organization,
        actor=actor,
        action=action,
        target_kind="account" if account else "mail",
        target_ref=account.account_id if account else str(row.uuid),
        target_name=account.name if account else row.subject,
        target_email=(account.email or "") if account else row.recipient,
        rule_id=row.rule_id,
        rule_name=row.rule_name,
        **fields,  # type: ignore[arg-type]  # reason and after
    )
