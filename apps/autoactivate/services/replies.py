"""What becomes of a request, told to who asked: in Slack through the command's response address, else by mail.

A ticket answers in Jira by itself, so nobody is told about one. A reply is a row before it is sent, each thing is said
once for an event, and what was said stands on the event's page. Slack takes answers at a command's address for 30
minutes; later, and where a chat cannot be answered at all (Teams, intranet), the mail of the account is used.
"""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from apps.autoactivate import crypto
from apps.autoactivate.models import AccessGrant, Channel, InboundEvent, RequesterReply
from apps.autoactivate.services import mails, receiving
from apps.notifications.content import clean_line, day_text
from apps.notifications.services.sending import back_off
from apps.operations.models import Operation
from apps.organizations.crypto import SecretUnreadable
from apps.organizations.outgoing import AddressRefused, Unreachable, send
from apps.organizations.selectors import is_copy
from aum.common.errors import DomainError
from aum.common.tasks import enqueue, enqueue_on_commit, lease

logger = logging.getLogger(__name__)

TOLD = (Channel.SLACK, Channel.TEAMS, Channel.INTRANET)
# Slack takes answers for 30 minutes; the rest is for clocks that differ.
RESPONSE_FOR = timedelta(minutes=28)
ATTEMPTS = 5
LEASE = timedelta(seconds=60)
# Mails that one address is sent within an hour because somebody asked under its name.
MAIL_LIMIT = 10
Status, Said, Way = RequesterReply.Status, RequesterReply.Said, RequesterReply.Way
Event = InboundEvent.Status
_SAID = {
    Event.CONFIRMING: Said.CONFIRM,
    Event.WAITING: Said.WAITS,
    Event.NO_MATCH: Said.NOTHING,
    Event.REFUSED: Said.REFUSED,
    Event.FAILED: Said.FAILED,
    Event.DONE: Said.GIVEN,
}


# --- the address of an answer -----------------------------------------------------------------------------------------


def is_response_url(url: str) -> bool:
    """Whether this is an address of Slack's for answers (AUM_SLACK_HOOKS_URL): nothing else is ever answered to."""
    base = settings.AUM_SLACK_HOOKS_URL
    try:
        given, allowed = urlsplit(url), urlsplit(base)
    except ValueError:
        return False
    return (
        (given.scheme, given.netloc) == (allowed.scheme, allowed.netloc)
        and url.startswith(f"{base}/")
        and not (given.query or given.fragment)
        and url.isascii()
        and ".." not in given.path
        and len(url) <= 500
    )


def sealed(payload: dict[str, Any]) -> dict[str, Any]:
    """The payload with its response address encrypted by the inbound key, or without one that is not Slack's."""
    kept = dict(payload)
    url = str(kept.pop("response_url", ""))
    if is_response_url(url):
        kept["reply_to"] = crypto.encrypt(url).decode()
    return kept


def _response_url(event: InboundEvent) -> str:
    """The address for an answer in Slack; empty where there is none, or none any more."""
    given = event.payload.get("reply_to")
    if not given or timezone.now() - event.received_at > RESPONSE_FOR:
        return ""
    try:
        url = crypto.decrypt(str(given).encode())
    except SecretUnreadable:
        return ""
    return url if is_response_url(url) else ""


def _mail_address(event: InboundEvent) -> str:
    """The account's own address, once it is known that its holder asked."""
    return (event.account.email or "") if event.identity and event.account else ""


# --- queueing ---------------------------------------------------------------------------------------------------------


def queue(event: InboundEvent, said: str = "") -> None:
    """Tell the requester how the event stands, in the caller's transaction; a no-op where it was said or cannot be."""
    if event.channel not in TOLD or event.kind not in (InboundEvent.Kind.MESSAGE, InboundEvent.Kind.FORM):
        return
    what = said or _SAID.get(Event(event.status), "")
    if not what or not (_response_url(event) or (what != Said.CONFIRM and _mail_address(event))):
        return
    reply, is_new = RequesterReply.objects.get_or_create(
        event=event,
        said=what,
        defaults={
            "organization_id": event.organization_id,
            "text": _words(event, what),
            "next_attempt_at": timezone.now(),
        },
    )
    if is_new:
        enqueue_on_commit("autoactivate.reply", reply_id=reply.pk)


def _words(event: InboundEvent, said: str) -> str:
    """A sentence for the requester: what they got, or what they can do. Names no rule and nobody else."""
    number = f"In AUM’s log it is request {event.pk}."
    if said == Said.GIVEN:
        return _given_words(event)
    if said == Said.CONFIRM:
        return "A mail to the address you gave decides. Open it within 48 hours and confirm that it was you."
    if said == Said.APPROVAL:
        return "Somebody has to approve your request. You are told when it is decided."
    if said == Said.WAITS:
        return "No place is free for your request at the moment. It goes on by itself when there is one."
    if said == Said.NOTHING:
        return f"No rule covers your request, so nothing was given. Ask your administrators for access. {number}"
    if said == Said.FAILED:
        return f"Your request was not granted. Your administrators can say why. {number}"
    return _refused_words(event.code, event.detail) or f"Nothing was given. Your administrators can say why. {number}"


def _refused_words(code: str, detail: str) -> str:
    if code == "not_known":
        return "AUM does not know who you are. Ask again with your e-mail address behind the command."
    if code in ("slack_user", "too_many_mails"):
        return f"Nothing was given. {detail}"
    if code in ("no_account", "not_in_organization"):
        return "Nothing was given: your e-mail address has no account here yet. Ask your administrators to invite you."
    if code == "not_confirmed":
        return "Nothing was given: nobody confirmed the request within 48 hours."
    return ""


def _given_words(event: InboundEvent) -> str:
    grants = list(event.grants.select_related("rule").prefetch_related("rule__groups").order_by("pk"))
    given = [grant for grant in grants if grant.status == AccessGrant.Status.GIVEN]
    groups = list(dict.fromkeys(group["name"] for grant in given for group in grant.added))
    had = list(
        dict.fromkeys(
            group.name for grant in grants if grant.status == AccessGrant.Status.HAD_IT
            for group in grant.rule.groups.all()
        )
    )  # fmt: skip
    parts = []
    if given:
        parts.append(f"You now have access: {', '.join(groups)}." if groups else "You now have your access back.")
        ends = min((grant.expires_at for grant in given if grant.expires_at), default=None)
        if ends is not None:
            parts.append(f"It ends on {day_text(ends)}; you are told before.")
    if had:
        parts.append(f"You have this already: {', '.join(had)}.")
    if any(grant.status == AccessGrant.Status.FAILED for grant in grants):
        parts.append("A part of it was not granted; your administrators can say why.")
    return " ".join(parts) or "Your request is done."


# --- sending ----------------------------------------------------------------------------------------------------------


def sweep() -> None:
    """Queue what approvals hold up, and take up replies that are due and nobody's."""
    now = timezone.now()
    held = (
        InboundEvent.objects.filter(
            channel__in=TOLD,
            status=Event.WORKING,
            grants__status=AccessGrant.Status.GIVING,
            grants__operation__status=Operation.Status.HELD,
        )
        .exclude(replies__said=Said.APPROVAL)
        .select_related("organization", "account")
        .distinct()
    )
    for event in held[:100]:
        with transaction.atomic():
            queue(event, Said.APPROVAL)
    free = Q(lease_until__isnull=True) | Q(lease_until__lte=now)
    due = RequesterReply.objects.filter(
        free, status=Status.QUEUED, next_attempt_at__lte=now, created_at__lt=now - timedelta(seconds=5)
    )
    for pk in due.order_by("pk").values_list("pk", flat=True)[:200]:
        enqueue("autoactivate.reply", reply_id=pk)


def deliver(reply_id: int) -> None:
    """Send one reply; a no-op for one that is sent, not due, or another worker's. Safe to call twice."""
    if is_copy():
        return
    now = timezone.now()
    taken = (
        RequesterReply.objects.filter(pk=reply_id, status=Status.QUEUED, next_attempt_at__lte=now)
        .filter(Q(lease_until__isnull=True) | Q(lease_until__lte=now))
        .update(lease_until=now + lease(LEASE), attempts=F("attempts") + 1)
    )
    if not taken:
        return
    reply = RequesterReply.objects.select_related("event__account", "event__organization").get(pk=reply_id)
    url = _response_url(reply.event)
    if url:
        is_over = _in_slack(reply, url)
        if not is_over and not _response_url(reply.event):
            is_over = _by_mail(reply)
    else:
        is_over = _by_mail(reply)
    if not is_over and reply.attempts >= ATTEMPTS:
        reply.status = Status.FAILED
    reply.lease_until, reply.next_attempt_at = None, timezone.now() + back_off(reply.attempts, first_seconds=15)
    reply.save(update_fields=["status", "way", "answer", "sent_at", "lease_until", "next_attempt_at"])
    logger.info("inbound.replied", extra={"event_id": reply.event_id, "said": reply.said, "status": reply.status})


def _in_slack(reply: RequesterReply, url: str) -> bool:
    """Whether that was the end of it: Slack took the answer, or will not and the mail did."""
    text = reply.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    body = json.dumps({"response_type": "ephemeral", "replace_original": False, "text": text}).encode()
    reply.way = Way.SLACK
    try:
        answer = send("POST", url, body=body, headers={"Content-Type": "application/json; charset=utf-8"})
    except Unreachable as error:
        reply.answer = error.detail[:300]
        return False
    except AddressRefused as error:
        reply.answer = error.detail[:300]
        return _by_mail(reply)
    reply.answer = clean_line(f"{answer.status} {answer.text}", 300)
    if answer.ok:
        _sent(reply)
        return True
    if answer.status == 429 or answer.status >= 500:
        return False
    return _by_mail(reply)  # the address was used five times, or is over


def _by_mail(reply: RequesterReply) -> bool:
    event = reply.event
    address = _mail_address(event)
    if not address or reply.said == Said.CONFIRM:
        reply.status = Status.FAILED
        reply.answer = reply.answer or "Neither Slack nor a mail address can be used for this answer."
        return True
    reply.way = Way.MAIL
    if not receiving.is_allowed("reply", address.lower(), MAIL_LIMIT, 3600):
        reply.status, reply.answer = Status.FAILED, "This address was sent too many mails within the hour."
        return True
    try:
        mails.send(
            organization=event.organization,
            to=address,
            subject=f"Your request for access at {event.organization.name}",
            paragraphs=[
                f"You asked through {event.get_channel_display()} for access at {event.organization.name}.",
                reply.text,
            ],
        )
    except DomainError as error:
        reply.answer = error.detail[:300]
        return False
    reply.answer = "The mail server took it."
    _sent(reply)
    return True


def _sent(reply: RequesterReply) -> None:
    reply.status, reply.sent_at = Status.SENT, timezone.now()
