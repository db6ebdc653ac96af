"""What a worker does with an event: read again, find out who asks, match rules, start what they give.

An event is claimed under a lease, everything outside is read without a transaction, and the result is written in one
that checks the lease. A worker killed at any point leaves a row that the next sweep takes up; the unique grant of each
event and rule lets nothing happen twice.
"""

from __future__ import annotations

import logging
import uuid
from datetime import timedelta

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from apps.audit.services import record
from apps.autoactivate.inbound.jira import issue_key
from apps.autoactivate.models import AccessGrant, IdentityMapping, InboundEvent, InboundLink, InboundSource
from apps.autoactivate.services import granting, lifetime, links, lookups, mails, receiving, replies
from apps.autoactivate.services.requesters import (
    MustConfirm,
    NobodyFound,
    Ticket,
    account_by_email,
    account_by_id,
    requester_of_message,
)
from apps.autoactivate.services.sources import ensure_source
from apps.autoactivate.values import KnownProject
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.organizations.services import reader_for
from apps.users.models import Account
from aum.atlassian.client import AtlassianReader
from aum.atlassian.errors import (
    AtlassianError,
    Forbidden,
    NotFound,
    RateLimited,
    Unauthorized,
    Unavailable,
    WaitTooLong,
)
from aum.common.errors import DomainError, InvalidInput
from aum.common.tasks import enqueue_again, enqueue_on_commit, lease

logger = logging.getLogger(__name__)

LEASE = timedelta(seconds=90)
# A ticket older than this is no request of today, whoever names it.
MAX_TICKET_AGE = timedelta(days=7)
# Jira's portal shows a ticket a moment after its webhook was sent.
MISSING_TRIES = 4
GIVE_UP_AFTER = timedelta(hours=24)
SWEEP_BATCH = 500
Status, Kind = InboundEvent.Status, InboundEvent.Kind


class Later(Exception):
    """Nothing is decided yet: try again after `seconds`, and say why meanwhile."""

    def __init__(self, seconds: float, sentence: str) -> None:
        super().__init__(sentence)
        self.seconds, self.sentence = seconds, sentence


class Decided(Exception):
    """The event ends here, with a status, a code and a sentence."""

    def __init__(self, status: str, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.code, self.sentence = status, code, sentence


def process_event(event_id: int) -> None:
    """Process one event; a no-op for one that is done, not due, or another worker's. Safe to call twice."""
    token = _claim(event_id)
    if token is None:
        return
    event = InboundEvent.objects.select_related("organization", "source").get(pk=event_id)
    try:
        _see(event)
        _process(event, token)
    except Decided as decided:
        _end(event, token, decided.status, decided.code, decided.sentence)
    except NobodyFound as nobody:
        event.requester = event.requester or nobody.requester[:320]
        _end(event, token, Status.REFUSED, nobody.code, nobody.sentence)
    except Later as later:
        _postpone(event, token, later)
    except (AtlassianError, DomainError) as error:
        _postpone(event, token, _later_for(event, error))


def _claim(event_id: int) -> uuid.UUID | None:
    token, now = uuid.uuid4(), timezone.now()
    taken = (
        InboundEvent.objects.filter(pk=event_id, status__in=InboundEvent.OPEN)
        .filter(Q(lease_until__isnull=True) | Q(lease_until__lte=now))
        .filter(Q(next_try_at__isnull=True) | Q(next_try_at__lte=now))
        .update(lease_token=token, lease_until=now + lease(LEASE), attempts=F("attempts") + 1)
    )
    return token if taken else None


def _see(event: InboundEvent) -> None:
    """The first event of a way in proves that it works (S174)."""
    if event.source is not None and event.source.first_event_at is None:
        InboundSource.objects.filter(pk=event.source.pk, first_event_at__isnull=True).update(
            first_event_at=event.received_at
        )


def _process(event: InboundEvent, token: uuid.UUID) -> None:
    if event.kind == Kind.TEST:
        raise Decided(Status.DONE, "test", "A test event: it asks for nothing.")
    if event.kind == Kind.CONFIRMATION:
        _confirm(event, token)
        return
    if event.kind == Kind.EXTENSION:
        try:
            lifetime.ask_from_link(event)
        except (InvalidInput, lifetime.NotTimed) as error:
            raise Decided(Status.REFUSED, "extension", error.detail) from error
        raise Decided(Status.DONE, "extension", "The person asked for more time. An approver decides.")
    with reader_for(event.organization) as reader:
        account = _requester(event, reader)
        event.account, event.requester_id = account, account.account_id
        event.requester = (account.name or account.account_id)[:320]
        matches = granting.match(event, account, reader)
    if not matches.fitting:
        raise Decided(Status.NO_MATCH, matches.code, matches.why_none)
    _give(event, token, account, matches)


def _give(event: InboundEvent, token: uuid.UUID, account: Account, matches: granting.Matches) -> None:
    """Start what each fitting rule gives, and say on the event how it stands."""
    with transaction.atomic():
        locked = _locked(event, token)
        if locked is None:
            return
        outcome = granting.give(event, account, matches)
        _write(event, outcome.status, outcome.code, outcome.sentence, next_try_at=outcome.next_try_at)


# --- who asks -------------------------------------------------------------------------------------------------------


def _requester(event: InboundEvent, reader: AtlassianReader) -> Account:
    organization, payload = event.organization, event.payload
    if event.kind == Kind.TICKET:
        ticket = _read_ticket(event, reader)
        event.issue_key, event.project_key = ticket.key, ticket.project_key
        event.request_type_id = ticket.request_type_id
        event.request_type_name = _request_type_name(event, ticket.service_desk_id)
        event.requester_id, event.requester = ticket.requester_id, ticket.requester[:320]
        event.identity = "reporter"
        return account_by_id(organization, reader, ticket.requester_id)
    if event.identity == "confirmed":
        return account_by_email(organization, reader, str(payload["confirmed_email"]))
    if event.kind == Kind.FORM:
        return _requester_of_form(event, reader)
    event.requester = (payload.get("user_name") or payload.get("name") or "")[:320]
    try:
        account, event.identity = requester_of_message(event, reader)
    except MustConfirm as must:
        _ask_to_confirm(event, must.email)
    return account


def _requester_of_form(event: InboundEvent, reader: AtlassianReader) -> Account:
    payload = event.payload
    event.requester = str(payload.get("email", ""))[:320]
    if payload.get("link"):
        link = InboundLink.objects.of(event.organization).select_related("account").get(pk=payload["link"])
        InboundLink.objects.filter(pk=link.pk, used_at__isnull=True).update(used_at=event.received_at)
        event.identity = "signed_link"
        assert link.account is not None
        return account_by_id(event.organization, reader, link.account.account_id)
    if payload.get("identity") in ("signed_link", "sign_in"):
        event.identity = payload["identity"]
        return account_by_email(event.organization, reader, str(payload["email"]))
    _ask_to_confirm(event, str(payload["email"]))
    raise AssertionError("asking always decides")


def _read_ticket(event: InboundEvent, reader: AtlassianReader) -> Ticket:
    """The ticket from the API: nothing that the event says about it is believed."""
    key = issue_key(event.payload.get("issue_key"))
    try:
        request = reader.request(key)
    except (NotFound, Forbidden) as error:
        if event.attempts < MISSING_TRIES:
            raise Later(5.0 * event.attempts, f"{key} cannot be read yet. AUM looks again.") from error
        raise Decided(
            Status.REFUSED,
            "no_ticket",
            f"{key} does not exist, is no service request, or AUM’s token may not see it.",
        ) from error
    if request.created_at is not None and timezone.now() - request.created_at > MAX_TICKET_AGE:
        raise Decided(Status.REFUSED, "old_ticket", f"{request.key} is more than 7 days old, so it asks for nothing.")
    reporter = request.reporter
    if reporter is None:
        raise Decided(Status.REFUSED, "no_reporter", f"{request.key} has no reporter.")
    if reporter.account_type == "customer" or reporter.account_id.startswith("qm:"):
        event.issue_key, event.requester = request.key, (reporter.name or reporter.account_id)[:320]
        raise Decided(
            Status.REFUSED,
            "portal_only",
            "The reporter is a portal-only customer without an Atlassian account. Invite the person by e-mail; "
            "then a new request works.",
        )
    return Ticket(
        key=request.key,
        project_key=request.key.rpartition("-")[0],
        request_type_id=request.request_type_id or "",
        service_desk_id=request.service_desk_id or "",
        requester_id=reporter.account_id,
        requester=reporter.name or reporter.account_id,
    )


def _request_type_name(event: InboundEvent, service_desk_id: str) -> str:
    """The name of the ticket's request type; the id where Jira does not tell it."""
    if not service_desk_id or not event.request_type_id:
        return event.request_type_id
    try:
        kinds = lookups.request_types(event.organization, KnownProject("", "", "", service_desk_id))
    except DomainError:
        return event.request_type_id
    return next((kind.name for kind in kinds if kind.id == event.request_type_id), event.request_type_id)[:255]


def _ask_to_confirm(event: InboundEvent, email: str) -> None:
    """Send the mail that decides; always raises, since nothing is given before it is answered."""
    if not receiving.is_allowed("mail", email.lower(), receiving.MAIL_LIMIT, 3600):
        raise Decided(Status.REFUSED, "too_many_mails", "This address was sent too many mails within the hour.")
    link, url = links.make_link(
        organization=event.organization,
        purpose=InboundLink.Purpose.CONFIRM,
        expires_in=timedelta(hours=links.CONFIRM_HOURS),
        email=email,
        event=event,
    )
    try:
        mails.send(
            organization=event.organization,
            to=email,
            subject=f"Confirm your request for access at {event.organization.name}",
            paragraphs=[
                f"Somebody asked through {event.get_channel_display()} for access at {event.organization.name} "
                "and gave this address.",
                f"If it was you, confirm within {links.CONFIRM_HOURS} hours. If not, do nothing: no access is given.",
            ],
            link=url,
            button="Confirm the request",
        )
    except DomainError:
        link.delete()
        raise
    event.requester = event.requester or email[:320]
    raise Decided(Status.CONFIRMING, "confirm", f"A mail to {email} decides. It is valid for 48 hours.")


def _confirm(event: InboundEvent, token: uuid.UUID) -> None:
    """Somebody followed the mailed link and confirmed: the request goes on with that address."""
    with transaction.atomic():
        if _locked(event, token) is None:
            return
        link = InboundLink.objects.select_for_update(of=("self",)).select_related("event").get(pk=event.payload["link"])
        asked = link.event
        assert asked is not None
        link.used_at = link.used_at or event.received_at
        link.save(update_fields=["used_at"])
        went_on = InboundEvent.objects.filter(pk=asked.pk, status=Status.CONFIRMING).update(
            status=Status.RECEIVED,
            identity="confirmed",
            payload={**asked.payload, "confirmed_email": link.email},
            code="",
            detail="",
            next_try_at=None,
            lease_token=None,
            lease_until=None,
        )
        if went_on:
            enqueue_on_commit("autoactivate.process", event_id=asked.pk)
        _write(event, Status.DONE, "confirmed", "The request was confirmed.")


def learn_identity(event: InboundEvent) -> None:
    """A confirmed sender of a chat is known from now on, so that the next request needs no mail."""
    external_id = str(event.payload.get("user_id") or event.payload.get("aad_id") or "").lower()
    if event.identity == "confirmed" and event.kind == Kind.MESSAGE and external_id and event.account_id:
        IdentityMapping.objects.update_or_create(
            organization=event.organization,
            channel=event.channel,
            external_id=external_id,
            defaults={"account_id": event.account_id, "set_at": timezone.now(), "set_by": "confirmed by mail"},
        )


# --- how an attempt ends --------------------------------------------------------------------------------------------


def _locked(event: InboundEvent, token: uuid.UUID) -> InboundEvent | None:
    """The event's row, locked, unless its lease is another worker's by now."""
    found: InboundEvent | None = (
        InboundEvent.objects.select_for_update(of=("self",)).filter(pk=event.pk, lease_token=token).first()
    )
    return found


def _end(event: InboundEvent, token: uuid.UUID, status: str, code: str, sentence: str) -> None:
    with transaction.atomic():
        if _locked(event, token) is not None:
            _write(event, status, code, sentence)


def _write(event: InboundEvent, status: str, code: str, sentence: str, *, next_try_at: object = None) -> None:
    """What was found out, in the caller's transaction, which holds the row."""
    learn_identity(event)
    is_over = status not in (*InboundEvent.OPEN, Status.WORKING, Status.CONFIRMING)
    InboundEvent.objects.filter(pk=event.pk).update(
        status=status,
        code=code,
        detail=sentence,
        next_try_at=next_try_at,
        lease_token=None,
        lease_until=None,
        processed_at=timezone.now() if is_over else None,
        issue_key=event.issue_key,
        project_key=event.project_key,
        request_type_id=event.request_type_id,
        request_type_name=event.request_type_name,
        requester=event.requester,
        requester_id=event.requester_id,
        identity=event.identity,
        account=event.account,
    )
    event.status, event.code, event.detail = status, code, sentence
    replies.queue(event)
    logger.info("inbound.processed", extra={"event_id": event.pk, "status": status, "code": code})


def _postpone(event: InboundEvent, token: uuid.UUID, later: Later) -> None:
    if timezone.now() - event.received_at > GIVE_UP_AFTER and event.status == Status.RECEIVED:
        _end(event, token, Status.FAILED, "gave_up", f"Given up after a day. {later.sentence}")
        return
    with transaction.atomic():
        if _locked(event, token) is not None:
            at = timezone.now() + timedelta(seconds=later.seconds)
            _write(event, Status.RECEIVED, "later", later.sentence, next_try_at=at)


def _later_for(event: InboundEvent, error: AtlassianError | DomainError) -> Later:
    """When to try again after trouble that is not the requester's."""
    back_off = min(10.0 * 2 ** min(event.attempts, 6), 600.0)
    if isinstance(error, RateLimited | WaitTooLong):
        return Later(max(error.wait_seconds, 1.0), "Atlassian asked AUM to slow down. It goes on by itself.")
    if isinstance(error, Unauthorized):
        return Later(back_off, "Atlassian does not accept the saved credentials. It goes on once they are replaced.")
    if isinstance(error, Unavailable):
        return Later(back_off, "Atlassian could not be reached. It goes on by itself.")
    if isinstance(error, AtlassianError):
        return Later(back_off, f"{error.detail.strip().rstrip('.')}. {error.advice} AUM tries again.")
    return Later(back_off, error.detail)


# --- what lies around -----------------------------------------------------------------------------------------------


def sweep() -> None:
    """Take up events that are due and nobody's: those of a killed worker, of a lost message, of the public surface."""
    now = timezone.now()
    due = (
        InboundEvent.objects.filter(status__in=InboundEvent.OPEN)
        .filter(Q(lease_until__isnull=True) | Q(lease_until__lte=now))
        .filter(Q(next_try_at__isnull=True) | Q(next_try_at__lte=now))
        # What has just arrived has its own message on the way.
        .filter(Q(next_try_at__isnull=False) | Q(attempts__gt=0) | Q(received_at__lt=now - timedelta(seconds=5)))
    )
    for pk in due.order_by("id").values_list("pk", flat=True)[:SWEEP_BATCH]:
        enqueue_again("autoactivate.process", event_id=pk)
    overdue = now - timedelta(hours=links.CONFIRM_HOURS)
    InboundEvent.objects.filter(status=Status.CONFIRMING, received_at__lt=overdue).update(
        status=Status.REFUSED,
        code="not_confirmed",
        detail="Nobody confirmed the request within 48 hours.",
        processed_at=now,
    )


@transaction.atomic
def process_again(*, event: InboundEvent, actor: Actor) -> InboundEvent:
    """Judge an event anew, after a rule or the directory changed. Raises NotRepeatable for one that gave something."""
    locked = InboundEvent.objects.select_for_update(of=("self",)).select_related("organization")
    current: InboundEvent = locked.get(pk=event.pk)
    is_over = current.status in (Status.NO_MATCH, Status.REFUSED, Status.FAILED, Status.WAITING, Status.RECEIVED)
    if not is_over or current.kind in (Kind.TEST, Kind.CONFIRMATION, Kind.EXTENSION):
        raise NotRepeatable
    current.grants.filter(status=AccessGrant.Status.FAILED).delete()
    current.status, current.code, current.detail = Status.RECEIVED, "", ""
    current.attempts, current.next_try_at = 0, None
    current.processed_at, current.lease_token, current.lease_until = None, None, None
    current.save()
    _record(current, actor, "inbound.processed_again")
    enqueue_on_commit("autoactivate.process", event_id=current.pk)
    return current


def _record(event: InboundEvent, actor: Actor, action: str) -> None:
    record(
        organization=event.organization,
        actor=actor,
        action=action,
        target_kind="inbound_event",
        target_ref=str(event.pk),
        target_name=(event.issue_key or event.requester or str(event))[:200],
    )


class NotRepeatable(DomainError):
    code = "not_repeatable"
    detail = "This event needs nothing more: it is being worked on, or it gave what it asked for."


@transaction.atomic
def dismiss_event(*, event: InboundEvent, actor: Actor) -> InboundEvent:
    """End an event that waits. Raises NotRepeatable for one that does not."""
    waits = [*InboundEvent.OPEN, Status.CONFIRMING]
    changed = InboundEvent.objects.filter(pk=event.pk, status__in=waits).update(
        status=Status.REFUSED,
        code="dismissed",
        detail=f"Dismissed by {actor.name}.",
        processed_at=timezone.now(),
        next_try_at=None,
        lease_token=None,
        lease_until=None,
    )
    if not changed:
        raise NotRepeatable("Only an event that waits can be dismissed.")
    event.refresh_from_db()
    _record(event, actor, "inbound.dismissed")
    return event


def submit_signed_in(*, organization: Organization, email: str, ip_address: str | None) -> InboundEvent:
    """A request of somebody who is signed in here, from the form below the organisation's pages."""
    source = ensure_source(organization=organization, kind=InboundSource.Kind.INTRANET)
    event = InboundEvent.objects.create(
        organization=organization,
        source=None,  # from inside: it does not prove that the way in from outside works
        source_kind=source.kind,
        channel=source.channel,
        kind=Kind.FORM,
        dedup_key=f"form:{uuid.uuid4()}",
        payload={"email": email, "identity": "sign_in"},
        ip_address=ip_address,
    )
    enqueue_on_commit("autoactivate.process", event_id=event.pk)
    return event
