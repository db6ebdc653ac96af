"""What the internet may reach below /hooks/: verify, store one row, answer. A worker does the rest.

No session, no cookie, no cross-site token: each request carries its own proof.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
import uuid
from collections.abc import Callable
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST

from apps.autoactivate import selectors
from apps.autoactivate.crypto import hash_of
from apps.autoactivate.domains import clean_email
from apps.autoactivate.inbound import intranet as intranet_calls
from apps.autoactivate.inbound import jira as jira_calls
from apps.autoactivate.inbound import slack as slack_calls
from apps.autoactivate.inbound import teams as teams_calls
from apps.autoactivate.inbound.base import MAX_BODY_BYTES, Received, Rejected
from apps.autoactivate.models import InboundEvent, InboundLink, InboundSource
from apps.autoactivate.services import receiving, replies
from apps.autoactivate.services.sources import hashes_of, secrets_of
from apps.organizations.crypto import SecretUnreadable

logger = logging.getLogger(__name__)

Kind = InboundSource.Kind
Read = Callable[[InboundSource, bytes], Received]
GOT_IT = "Got it. You are given access within moments if a rule covers you."
AGAIN = "You asked for this already; nothing more is needed."


def ip_of(request: HttpRequest) -> str | None:
    return request.META.get("REMOTE_ADDR") or None


def _body(request: HttpRequest) -> bytes:
    """The raw body, of a size that may be read. Raises Rejected."""
    try:
        size = int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        size = 0
    if size > MAX_BODY_BYTES:
        raise Rejected(413, "too_large", f"Send at most {MAX_BODY_BYTES // 1024} KB.")
    return request.body


def _source(kind: str, key: str) -> InboundSource:
    source = selectors.source_by_key(kind, key)
    if source is None:
        raise Http404
    return source


def _take(request: HttpRequest, kind: str, key: str, read: Read) -> tuple[InboundEvent, bool]:
    """Verify and store; raises Rejected, and Http404 for an address that does not exist."""
    source = _source(kind, key)
    ip_address = ip_of(request)
    try:
        received = read(source, _body(request))
        receiving.allow("source", source.pk, receiving.SOURCE_LIMIT)
    except Rejected as rejected:
        receiving.note_rejection(source, rejected, ip_address)
        if rejected.status == 401:
            receiving.allow("wrong", ip_address, receiving.WRONG_LIMIT)
        raise
    return receiving.receive(source=source, received=received, size_bytes=len(request.body), ip_address=ip_address)


def _answers_json(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Refusals as JSON, with how long to wait."""

    @functools.wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except SecretUnreadable:
            # The sender may be right: it is told to come again, and the log says what is missing.
            logger.exception("inbound.no_key")
            return JsonResponse({"detail": "This cannot be checked now. Try again later."}, status=503)
        except Rejected as rejected:
            response = JsonResponse({"detail": rejected.sentence}, status=rejected.status)
            if rejected.status == 429:
                response["Retry-After"] = "60"
            return response

    return guarded


def _stored(event: InboundEvent, is_new: bool) -> JsonResponse:
    return JsonResponse({"received": True, "repeated": not is_new, "event": event.pk}, status=202)


# --- machines -------------------------------------------------------------------------------------------------------


@csrf_exempt
@require_POST
@_answers_json
def jira(request: HttpRequest, key: str) -> HttpResponse:
    """Jira Automation, "Send web request": a secret in a header; the ticket is read again before it is believed."""

    def read(source: InboundSource, body: bytes) -> Received:
        jira_calls.check_secret(request.headers.get(jira_calls.SECRET_HEADER, ""), hashes_of(source))
        jira_calls.require_json(request.content_type or "")
        return jira_calls.read_automation(body)

    return _stored(*_take(request, Kind.JIRA, key, read))


@csrf_exempt
@require_POST
@_answers_json
def jira_webhook(request: HttpRequest, key: str) -> HttpResponse:
    """A webhook that a Jira admin made, signed with X-Hub-Signature."""

    def read(source: InboundSource, body: bytes) -> Received:
        jira_calls.check_signature(request.headers.get("X-Hub-Signature", ""), body, secrets_of(source))
        return jira_calls.read_webhook(body, request.headers.get("X-Atlassian-Webhook-Identifier", ""))

    return _stored(*_take(request, Kind.JIRA_WEBHOOK, key, read))


@csrf_exempt
@require_POST
@_answers_json
def slack(request: HttpRequest, key: str) -> HttpResponse:
    """Slack's slash command, and the challenge with which Slack checks an address."""
    challenge: list[str] = []

    def read(source: InboundSource, body: bytes) -> Received:
        headers = request.headers
        slack_calls.check(
            headers.get("X-Slack-Request-Timestamp", ""),
            headers.get("X-Slack-Signature", ""),
            body,
            secrets_of(source),
            time.time(),
        )
        asked = slack_calls.challenge_of(request.content_type or "", body)
        if asked:
            challenge.append(asked)
            return Received("test", f"test:slack:{hash_of(asked)[:40]}", {"event": "url_verification"})
        if slack_calls.is_ssl_check(body):
            return Received("test", "test:slack:ssl_check", {"event": "ssl_check"})
        received = slack_calls.read_command(body)
        return dataclasses.replace(received, payload=replies.sealed(received.payload))

    _event, is_new = _take(request, Kind.SLACK, key, read)
    if challenge:
        return JsonResponse({"challenge": challenge[0]})
    return HttpResponse(slack_calls.reply(GOT_IT if is_new else AGAIN), content_type="application/json")


@csrf_exempt
@require_POST
@_answers_json
def teams(request: HttpRequest, key: str) -> HttpResponse:
    """Teams' outgoing webhook."""

    def read(source: InboundSource, body: bytes) -> Received:
        teams_calls.check(request.headers.get("Authorization", ""), body, secrets_of(source))
        return teams_calls.read_message(body)

    event, is_new = _take(request, Kind.TEAMS, key, read)
    return HttpResponse(teams_calls.reply(_said_in_teams(event) if is_new else AGAIN), content_type="application/json")


def _said_in_teams(event: InboundEvent) -> str:
    """The only answer that Teams takes: it says at once what a stranger has to do."""
    if selectors.is_known_sender(event):
        return GOT_IT
    email = event.payload.get("email")
    if email:
        return f"A mail to {email} decides. Open it within 48 hours and confirm that it was you."
    return "AUM does not know you yet. Write your e-mail address behind the name, such as: access you@employer.com"


@csrf_exempt
@require_POST
@_answers_json
def intranet(request: HttpRequest, key: str) -> HttpResponse:
    """The intranet's server asks for somebody; the mail to that person decides."""

    def read(source: InboundSource, body: bytes) -> Received:
        jira_calls.check_secret(request.headers.get(jira_calls.SECRET_HEADER, ""), hashes_of(source))
        jira_calls.require_json(request.content_type or "")
        return intranet_calls.read_request(body, source.domains)

    return _stored(*_take(request, Kind.INTRANET, key, read))


# --- people ---------------------------------------------------------------------------------------------------------


def _page(request: HttpRequest, name: str, context: dict[str, Any], status: int = 200) -> HttpResponse:
    """A page that needs no sign-in: nothing is kept of it, and its address leaves with no link."""
    response = render(request, f"autoactivate/public_{name}.html", context, status=status)
    response["Referrer-Policy"] = "no-referrer"
    response["Cache-Control"] = "no-store"
    response["X-Robots-Tag"] = "noindex, nofollow"
    return response


def _said(request: HttpRequest, title: str, text: str, status: int = 200) -> HttpResponse:
    return _page(request, "said", {"title": title, "text": text}, status)


def _answers_page(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Refusals as a page; each address is limited."""

    @functools.wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            # Apart, so that a mail scanner that looks often does not keep its company from deciding.
            limit = receiving.FORM_LIMIT if request.method == "POST" else receiving.LOOK_LIMIT
            receiving.allow(f"form:{request.method}", ip_of(request), limit)
            return view(request, *args, **kwargs)
        except Rejected as rejected:
            response = _said(request, "This did not work", rejected.sentence, rejected.status)
            if rejected.status == 429:
                response["Retry-After"] = "60"
            return response

    return guarded


def _link(token: str, purpose: str) -> InboundLink:
    link = selectors.link_by_hash(hash_of(token), purpose)
    if link is None:
        raise Rejected(410, "link", "This link was used already, has expired, or does not exist. Ask for access again.")
    return link


@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
@_answers_page
def form(request: HttpRequest, key: str) -> HttpResponse:
    """The hosted form: by an intranet's signed link for the person it names, else the typed address gets a mail."""
    source = _source(Kind.INTRANET, key)
    values = request.GET.dict()
    email, error = "", ""
    is_signed = "signature" in values
    if is_signed:
        email = intranet_calls.check_link(values, secrets_of(source), source.domains, time.time())
    if request.method != "POST":
        return _page(request, "form", {"source": source, "email": email, "is_signed": is_signed})
    if is_signed:
        received = Received(
            "form", intranet_calls.link_key(values["nonce"]), {"email": email, "identity": "signed_link"}
        )
        _event, is_new = receiving.receive(source=source, received=received, size_bytes=0, ip_address=ip_of(request))
        if not is_new:
            raise Rejected(410, "used", "This link was used already. Open it again from your intranet.")
        return _said(request, "Your request has arrived", GOT_IT)
    typed = request.POST.get("email", "")[:400]
    cleaned = clean_email(typed)
    if cleaned is None:
        error = "Enter your e-mail address, such as you@employer.com."
        context = {"source": source, "email": typed, "is_signed": False, "error": error}
        return _page(request, "form", context, 422)
    received = Received("form", f"form:{uuid.uuid4()}", {"email": cleaned, "identity": ""})
    receiving.receive(source=source, received=received, size_bytes=0, ip_address=ip_of(request))
    return _said(
        request,
        "Look into your mail",
        f"A mail is on its way to {cleaned}. Access is given once you confirm in it that you asked.",
    )


@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
@_answers_page
def confirm(request: HttpRequest, token: str) -> HttpResponse:
    """A mailed confirmation: looking changes nothing, pressing the button decides."""
    link = _link(token, InboundLink.Purpose.CONFIRM)
    if request.method != "POST":
        channel = link.event.get_channel_display() if link.event else ""
        return _page(request, "confirm", {"link": link, "channel": channel})
    if not receiving.use_link(link=link, kind="confirmation", payload={}, ip_address=ip_of(request)):
        _link(token, InboundLink.Purpose.CONFIRM)
    return _said(request, "Thank you", "Your request is confirmed. " + GOT_IT[8:])


@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
@_answers_page
def request_access(request: HttpRequest, token: str) -> HttpResponse:
    """A single-use link that an administrator made for one person."""
    link = _link(token, InboundLink.Purpose.REQUEST)
    if request.method != "POST":
        return _page(request, "request", {"link": link})
    payload = {"email": link.email, "identity": "signed_link"}
    if not receiving.use_link(link=link, kind="form", payload=payload, ip_address=ip_of(request)):
        _link(token, InboundLink.Purpose.REQUEST)
    return _said(request, "Your request has arrived", GOT_IT)


@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
@_answers_page
def extend(request: HttpRequest, token: str) -> HttpResponse:
    """The link in a warning: ask for more time, which an approver then grants or not."""
    link = _link(token, InboundLink.Purpose.EXTEND)
    context: dict[str, Any] = {"link": link, "grant": link.grant, "days": 30, "reason": "", "errors": {}}
    if request.method != "POST":
        return _page(request, "extend", context)
    days, reason = request.POST.get("days", "").strip(), request.POST.get("reason", "").strip()[:500]
    if not (days.isascii() and days.isdecimal() and 1 <= int(days[:6]) <= 365):
        context["errors"]["days"] = "Enter 1 to 365 days."
    if not reason:
        context["errors"]["reason"] = "Say why you still need the access."
    if context["errors"]:
        return _page(request, "extend", context | {"days": days, "reason": reason}, 422)
    payload = {"days": int(days), "reason": reason}
    if not receiving.use_link(link=link, kind="extension", payload=payload, ip_address=ip_of(request)):
        _link(token, InboundLink.Purpose.EXTEND)
    return _said(request, "Your request has arrived", "Somebody decides about it before your access ends.")
