"""Sending what is queued: one sender per organisation, in batches at a pace, each mail recorded as what happened to it.

Nothing is lost: a mail is a row before it is a mail, and a server that is down only puts rows back. Nothing is sent
twice: a row is marked as handed over, in a transaction of its own, between the server's word that it knows the
recipient and the first byte of the mail. When a process dies or a connection breaks after that and before the answer,
the row is `in_doubt`: it counts as not delivered, is not repeated by itself, and waits for the provider's event or for
a person.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime

from django.db import connection, transaction
from django.db.models import F, Q
from django.utils import timezone

from apps.audit.services import record
from apps.notifications.models import Audience, Delivery, MailSettings
from apps.notifications.registry import registry
from apps.notifications.services.messages import Unaddressed, Unsendable, prepare
from apps.notifications.services.smtp import AnswerLost, Deferred, MailSession, Refused, ServerTrouble
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.organizations.selectors import is_copy
from apps.organizations.services import raise_alert, resolve_alert
from aum.common.tasks import enqueue, enqueue_again, enqueue_on_commit, lease

logger = logging.getLogger(__name__)

Status = Delivery.Status
CHUNK = 20
BATCH_SECONDS = 10.0
# How long a sender that gives no sign of life keeps its rows; longer than the longest wait for an answer.
LEASE = timedelta(seconds=180)
# A refused mail is tried once more after this long; a deferred one with growing pauses, for at most four days.
RETRY_REFUSED = timedelta(minutes=15)
DEFERRED_FOR = timedelta(days=4)
REFUSALS = 2


class Fenced(Exception):
    """Another sender took over meanwhile: this one must not send."""


def mail_settings(organization: Organization) -> MailSettings:
    """The organisation's mail settings; an empty row is made at first."""
    found, _created = MailSettings.objects.get_or_create(organization=organization)
    return found


def back_off(failures: int, *, first_seconds: float = 30.0, most_seconds: float = 3600.0) -> timedelta:
    """How long to wait after so many failures: doubling, capped, with up to a fifth more by chance."""
    seconds = min(most_seconds, first_seconds * 2 ** min(max(failures - 1, 0), 20))
    return timedelta(seconds=seconds * (1 + random.random() / 5))


def queue_waiting(organization: Organization) -> None:
    """Send soon what was just queued, once the transaction has committed."""
    enqueue_on_commit("notifications.send", organization_id=organization.pk)


def sweep() -> int:
    """Wake a sender for each organisation that owes mail or left some in hand; returns how many were woken."""
    now = timezone.now()
    due = Q(status=Status.QUEUED) & (Q(next_attempt_at__isnull=True) | Q(next_attempt_at__lte=now))
    waiting = Delivery.objects.filter(due | Q(status__in=[Status.CLAIMED, Status.SENDING])).order_by()
    organizations = list(waiting.values_list("organization_id", flat=True).distinct())
    for organization_id in organizations:
        enqueue_again("notifications.send", organization_id=organization_id)
    return len(organizations)


def drive(organization_id: int, *, seconds: float = BATCH_SECONDS) -> int:
    """Send a batch; returns how many mails the server accepted. A no-op while another sender works or a pause holds."""
    settings = MailSettings.objects.select_related("organization").filter(organization_id=organization_id).first()
    if settings is None or not settings.is_ready or is_copy():
        return 0
    token, now = uuid.uuid4(), timezone.now()
    free = Q(sender_until__isnull=True) | Q(sender_until__lt=now)
    rested = Q(paused_until__isnull=True) | Q(paused_until__lte=now)
    paced = Q(next_batch_at__isnull=True) | Q(next_batch_at__lte=now)
    taken = MailSettings.objects.filter(free, rested, paced, pk=settings.pk)
    if not taken.update(sender_token=token, sender_until=now + lease(LEASE)):
        return 0
    settings.refresh_from_db()
    sender = _Sender(settings, token, seconds)
    try:
        return sender.run()
    finally:
        sender.release()


class _Sender:
    """One batch of one organisation, under one lease."""

    def __init__(self, settings: MailSettings, token: uuid.UUID, seconds: float) -> None:
        self.settings, self.token = settings, token
        self.organization = settings.organization
        self.deadline = time.monotonic() + seconds
        self.began_at = timezone.now()
        # A batch each ten seconds; slower paces send one mail at a time.
        self.allowance = max(1, int(settings.per_minute * BATCH_SECONDS / 60))
        self.accepted = self.tried = 0
        self.trouble = ""

    def run(self) -> int:
        _recover(self.organization.pk, self.token)
        with MailSession(self.settings) as session:
            while not self.trouble and self.allowance > self.tried and time.monotonic() < self.deadline:
                chunk = self._claim(min(CHUNK, self.allowance - self.tried))
                if not chunk:
                    break
                self._send_chunk(session, chunk)
        return self.accepted

    def release(self) -> None:
        """Give up the lease and whatever is still claimed; go on at once, later, or after a pause."""
        now = timezone.now()
        mine = Delivery.objects.filter(organization_id=self.organization.pk, lease_token=self.token)
        mine.filter(status=Status.CLAIMED).update(status=Status.QUEUED, lease_token=None)
        spent = timedelta(seconds=60 * self.tried / self.settings.per_minute)
        next_at = max(now, self.began_at + spent) if self.tried else None
        MailSettings.objects.filter(pk=self.settings.pk, sender_token=self.token).update(
            sender_token=None, sender_until=None, next_batch_at=next_at
        )
        if self.tried and not self.trouble and _has_due(self.organization.pk, now):
            wait = max(0.0, (next_at - now).total_seconds()) if next_at else 0.0
            enqueue("notifications.send", organization_id=self.organization.pk, countdown_seconds=wait)

    def _claim(self, size: int) -> list[Delivery]:
        now = timezone.now()
        if not MailSettings.objects.filter(pk=self.settings.pk, sender_token=self.token).update(
            sender_until=now + lease(LEASE)
        ):
            return []
        kinds = "AND kind <> 'notice'" if self.organization.is_killed else ""
        with connection.cursor() as cursor:
            cursor.execute(
                # Chosen once: as a subquery of IN it may be asked again for each row, and take more than `size`.
                f"""WITH chosen AS MATERIALIZED (
                        SELECT id FROM notifications_delivery
                        WHERE organization_id = %s AND status = 'queued' {kinds}
                          AND (next_attempt_at IS NULL OR next_attempt_at <= %s)
                        ORDER BY priority, id LIMIT %s FOR UPDATE SKIP LOCKED)
                    UPDATE notifications_delivery d SET status = 'claimed', lease_token = %s
                    FROM chosen WHERE d.id = chosen.id RETURNING d.id""",
                [self.organization.pk, now, size, self.token],
            )
            pks = [row[0] for row in cursor.fetchall()]
        rows = Delivery.objects.filter(pk__in=pks).select_related("organization", "template", "account", "copy_of")
        return list(rows.order_by("priority", "pk"))

    def _send_chunk(self, session: MailSession, chunk: Sequence[Delivery]) -> None:
        notices = [row for row in chunk if row.kind == Delivery.Kind.NOTICE]
        objections = registry.objections(self.organization, notices) if notices else {}
        for row in chunk:
            if self.trouble:
                return
            if row.pk in objections:
                cancel(row, objections[row.pk])
                continue
            self._send(session, row)

    def _send(self, session: MailSession, row: Delivery) -> None:
        try:
            prepare(row, self.settings)
        except Unaddressed as error:
            undeliverable(row, error.problem, str(error))
            return
        except Unsendable as error:
            cancel(row, str(error))
            return
        self.tried += 1
        message = compose(row, self.settings)
        try:
            answer = session.hand_over(message, row.recipient, before_data=lambda: self._mark(row))
        except ServerTrouble as error:
            self._stop(row, str(error))
        except Deferred as error:
            _defer(row, str(error))
        except Refused as error:
            _refuse(row, str(error))
        except AnswerLost as error:
            doubt(row, str(error))
            # The next mail would only share its fate: the server is left alone for a while.
            self._pause(str(error))
        except Fenced:
            self.trouble = "fenced"
        else:
            self.accepted += 1
            accept(row, answer, timezone.now())
            self._server_is_well()

    def _mark(self, row: Delivery) -> None:
        """Committed before the first byte of the mail: from here on it is not repeated without an answer."""
        row.handed_at = timezone.now()
        marked = Delivery.objects.filter(pk=row.pk, status=Status.CLAIMED, lease_token=self.token).update(
            status=Status.SENDING,
            handed_at=row.handed_at,
            attempts=F("attempts") + 1,
            message_id=row.message_id,
            recipient=row.recipient,
            subject=row.subject,
            html=row.html,
            text=row.text,
            announced_at=row.announced_at,
            keep_until=row.keep_until,
        )
        if not marked:
            raise Fenced

    def _stop(self, row: Delivery, said: str) -> None:
        """The server is down or does not let AUM in: rows go back, and it is left alone for a while."""
        Delivery.objects.filter(pk=row.pk, lease_token=self.token, status__in=[Status.CLAIMED, Status.SENDING]).update(
            status=Status.QUEUED, lease_token=None, handed_at=None
        )
        self._pause(said)

    def _pause(self, said: str) -> None:
        self.trouble = said
        now = timezone.now()
        failures = self.settings.failures + 1
        MailSettings.objects.filter(pk=self.settings.pk).update(
            failures=failures, paused_until=now + back_off(failures), last_error=said[:500], last_error_at=now
        )
        raise_alert(
            organization=self.organization,
            kind="mail_server",
            severity="error" if failures >= 3 else "warning",
            title="The mail server does not take mails",
            detail=f"{said} Mails wait and are sent when it answers again; nobody is acted upon without their notice.",
            link=f"/o/{self.organization.slug}/settings/mail/",
            dedup_key="mail_server",
        )
        logger.warning("mail.server_trouble", extra={"organization_id": self.organization.pk, "failures": failures})

    def _server_is_well(self) -> None:
        now = timezone.now()
        last = self.settings.last_ok_at
        if self.settings.failures or last is None or now - last > timedelta(seconds=10):
            if self.settings.failures or self.settings.last_error:
                resolve_alert(organization=self.organization, dedup_key="mail_server")
            MailSettings.objects.filter(pk=self.settings.pk).update(
                failures=0, paused_until=None, last_ok_at=now, last_error="", last_error_at=None
            )
            self.settings.failures, self.settings.last_ok_at, self.settings.last_error = 0, now, ""


def _has_due(organization_id: int, now: datetime) -> bool:
    due = Q(next_attempt_at__isnull=True) | Q(next_attempt_at__lte=now)
    return Delivery.objects.filter(due, organization_id=organization_id, status=Status.QUEUED).exists()


def _recover(organization_id: int, token: uuid.UUID) -> None:
    """Rows of a sender that is gone: what was not handed over goes again, what was handed over is in doubt."""
    left = Delivery.objects.filter(organization_id=organization_id).exclude(lease_token=token)
    left.filter(status=Status.CLAIMED).update(status=Status.QUEUED, lease_token=None)
    for row in left.filter(status=Status.SENDING).select_related("organization", "template", "account"):
        doubt(row, "The process that sent this mail ended before the mail server answered.")


def compose(row: Delivery, settings: MailSettings) -> EmailMessage:
    """The mail itself: text and HTML, a message id of ours, and headers without anything a person could inject."""
    message = EmailMessage()
    domain = settings.from_address.rpartition("@")[2].lower() or "aum.invalid"
    if not row.message_id:
        row.message_id = f"<{row.uuid}@{domain}>"
    message["From"] = Address(settings.from_name, addr_spec=settings.from_address)
    message["To"] = row.recipient
    message["Subject"] = row.subject
    message["Date"] = format_datetime(timezone.now())
    message["Message-ID"] = row.message_id
    if settings.reply_to:
        message["Reply-To"] = settings.reply_to
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    text, html = getattr(row, "wire_text", row.text), getattr(row, "wire_html", row.html)
    message.set_content(text, cte="quoted-printable")
    if html:
        message.add_alternative(html, subtype="html", cte="quoted-printable")
    return message


# --- what became of a mail --------------------------------------------------------------------------------------------


def accept(row: Delivery, answer: str, at: datetime) -> None:
    """The mail server took it: from now on it is evidence. Copies for BCC are queued in the same transaction."""
    with transaction.atomic():
        open_states = [Status.SENDING, Status.IN_DOUBT, Status.CLAIMED]
        changed = Delivery.objects.filter(pk=row.pk, status__in=open_states).update(
            status=Status.ACCEPTED,
            accepted_at=at,
            server_answer=answer[:500],
            lease_token=None,
            problem="",
            failed_at=None,
            release_at=None,
            released_by="",
            released_reason="",
        )
        if not changed:
            return
        row.status, row.accepted_at = Status.ACCEPTED, at
        _record(row, "sent", after={"message_id": row.message_id, "server": answer[:200]})
        if row.kind == Delivery.Kind.NOTICE and row.template is not None and row.template.bcc:
            Delivery.objects.bulk_create(
                Delivery(
                    organization=row.organization,
                    kind=Delivery.Kind.BCC,
                    template=row.template,
                    account=row.account,
                    rule_id=row.rule_id,
                    rule_name=row.rule_name,
                    recipient=address,
                    subject=row.subject,
                    html=row.html,
                    text=row.text,
                    copy_of=row,
                )
                for address in row.template.bcc
            )


def doubt(row: Delivery, why: str) -> None:
    """Nobody knows whether the server took it: it counts as not delivered and is not repeated by itself."""
    with transaction.atomic():
        changed = Delivery.objects.filter(pk=row.pk, status__in=[Status.SENDING, Status.CLAIMED]).update(
            status=Status.IN_DOUBT, server_answer=why[:500]
        )
        if not changed:
            return
        _record(row, "in_doubt", outcome="warning", reason=why)
    raise_alert(
        organization=row.organization,
        kind="mail_in_doubt",
        severity="warning",
        title="Mails whose arrival is not known",
        detail="The mail server's answer was lost. AUM does not send such a mail again by itself: look into the mail "
        "server's log for its message id, then say whether it arrived.",
        link=f"/o/{row.organization.slug}/emails/deliveries/?status=in_doubt",
        dedup_key="mail_in_doubt",
    )


def cancel(row: Delivery, why: str) -> None:
    """It is no longer to be sent."""
    Delivery.objects.filter(pk=row.pk, status__in=Delivery.OPEN).update(
        status=Status.CANCELLED, server_answer=why[:500], lease_token=None
    )


def _defer(row: Delivery, said: str) -> None:
    now = timezone.now()
    if now - row.created_at > DEFERRED_FOR:
        undeliverable(row, Delivery.Problem.REFUSED, said)
        return
    attempts = row.attempts + 1
    Delivery.objects.filter(pk=row.pk, status__in=Delivery.OPEN).update(
        status=Status.QUEUED,
        lease_token=None,
        attempts=attempts,
        server_answer=said[:500],
        next_attempt_at=now + back_off(attempts, first_seconds=60, most_seconds=4 * 3600),
    )


def _refuse(row: Delivery, said: str) -> None:
    """Refused for good: tried once more, since servers err as well; then it is undeliverable."""
    if row.refusals + 1 >= REFUSALS:
        undeliverable(row, Delivery.Problem.REFUSED, said)
        return
    Delivery.objects.filter(pk=row.pk, status__in=Delivery.OPEN).update(
        status=Status.QUEUED,
        lease_token=None,
        refusals=F("refusals") + 1,
        attempts=row.attempts + 1,
        recipient=row.recipient,
        subject=row.subject,
        server_answer=said[:500],
        next_attempt_at=timezone.now() + RETRY_REFUSED,
    )


def undeliverable(
    row: Delivery, problem: str, said: str, *, status: str = Status.UNDELIVERABLE, at: datetime | None = None
) -> None:
    """Onto the undeliverable list; the rule says what follows: somebody is asked, or the action follows after days."""
    now = at or timezone.now()
    is_notice = row.kind == Delivery.Kind.NOTICE
    policy = registry.undeliverable_of(row.organization, row.rule_id)
    values: dict[str, object] = {
        "status": status,
        "problem": problem,
        "server_answer": said[:500],
        "failed_at": now,
        "lease_token": None,
        "recipient": row.recipient,
        "refusals": row.refusals + 1,
        "next_attempt_at": None,
    }
    if is_notice and not policy.is_ask:
        days = max(policy.days, row.days_before or 0)
        values |= {
            "release_at": now + timedelta(days=days),
            "released_by": f"Rule “{row.rule_name}”"[:254],
            "released_reason": f"The rule lets its action follow {days} days after a notice could not be delivered.",
        }
    with transaction.atomic():
        open_states = [*Delivery.OPEN, Status.ACCEPTED, Status.IN_DOUBT]
        if not Delivery.objects.filter(pk=row.pk, status__in=open_states).update(**values):
            return
        _record(row, str(status), outcome="failed", reason=f"{Delivery.Problem(problem).label}. {said}".strip())
        if is_notice and policy.is_ask:
            _ask(row, said)
    if is_notice:
        raise_alert(
            organization=row.organization,
            kind="notice_undeliverable",
            severity="warning",
            title="Notices could not be delivered",
            detail="Those users are not acted upon until their notice is delivered or somebody decides.",
            link=f"/o/{row.organization.slug}/emails/undeliverable/",
            dedup_key="notice_undeliverable",
        )


def _ask(row: Delivery, said: str) -> None:
    """Ask the manager of who cannot be told; owners see the list, the alert and the daily digest."""
    manager = getattr(getattr(row.account, "contact", None), "manager_email", "")
    if not manager or manager == row.recipient:
        return
    Delivery.objects.create(
        organization=row.organization,
        kind=Delivery.Kind.ASK,
        account=row.account,
        rule_id=row.rule_id,
        rule_name=row.rule_name,
        recipient=manager,
        copy_of=row,
    )


def _record(row: Delivery, what: str, **fields: object) -> None:
    """Audit row of a mail: the person is its target, so that it stands on their timeline (S222)."""
    noun = {Delivery.Kind.NOTICE: "notice", Delivery.Kind.BCC: "notice_copy"}.get(Delivery.Kind(row.kind), "mail")
    account = row.account
    after = {"kind": row.kind, "template": row.template.name if row.template else "", "to": row.audience}
    # The address is the person's own, or the mail has no person: a manager's address is not put beside another name.
    email = row.recipient if row.audience == Audience.PERSON or account is None else account.email or ""
    given: dict[str, object] = dict(fields)
    extra = given.pop("after", {})
    assert isinstance(extra, dict)
    record(
        organization=row.organization,
        actor=Actor.system(),
        action=f"{noun}.{what}",
        target_kind="account" if account and noun == "notice" else "mail",
        target_ref=account.account_id if account and noun == "notice" else str(row.uuid),
        target_name=account.name if account and noun == "notice" else row.subject,
        target_email=email,
        rule_id=row.rule_id,
        rule_name=row.rule_name,
        after={**after, **extra},
        **given,  # type: ignore[arg-type]  # outcome and reason
    )
