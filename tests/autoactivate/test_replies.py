"""What a requester is told afterwards: in Slack at the command's address, by mail where that is over (S188–S190)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.core import mail
from django.utils import timezone
from pytest_django import Settings

from apps.autoactivate import crypto
from apps.autoactivate.models import AccessGrant, AssignmentRule, InboundEvent, RequesterReply
from apps.autoactivate.services import deliver_reply, replies, sweep_replies
from apps.operations.models import Operation
from apps.organizations.models import Organization
from apps.users.models import Account
from tests.rules.conftest import make_organization

pytestmark = pytest.mark.django_db


class _Hooks(BaseHTTPRequestHandler):
    """hooks.slack.com: keeps what is posted and answers with the status that the test wants."""

    taken: list[dict[str, Any]]
    status = 200

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).taken.append({"path": self.path, **body})
        self.send_response(type(self).status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def hooks(settings: Settings) -> Iterator[Any]:
    handler: Any = type("Handler", (_Hooks,), {"taken": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    handler.url = f"http://127.0.0.1:{server.server_port}"
    settings.AUM_SLACK_HOOKS_URL = handler.url
    settings.AUM_OUTGOING_ALLOWLIST = ["127.0.0.1"]
    yield handler
    server.shutdown()
    server.server_close()


@pytest.fixture
def organization(db: None) -> Organization:
    """Without a sandbox: nothing is read from Atlassian here."""
    return make_organization("acme")


@pytest.fixture
def person(organization: Organization) -> Account:
    found: Account = Account.objects.create(
        organization=organization,
        account_id="john",
        name="John <Doe>",
        email="john@employer.com",
        account_status=1,
        membership_status=1,
        claim_status=1,
    )
    return found


def asked(organization: Organization, person: Account | None, channel: str, **fields: Any) -> InboundEvent:
    payload = replies.sealed({"user_id": "U1", "response_url": fields.pop("response_url", "")})
    values: dict[str, Any] = {"kind": "message", "identity": "mapping" if person else "", "status": "done"}
    event: InboundEvent = InboundEvent.objects.create(
        organization=organization,
        source_kind=channel,
        channel=channel,
        dedup_key=f"{channel}:{InboundEvent.objects.count()}",
        payload=payload,
        account=person,
        **(values | fields),
    )
    return event


def told(event: InboundEvent, said: str = "") -> RequesterReply:
    replies.queue(event, said)
    reply = RequesterReply.objects.get(event=event)
    deliver_reply(reply.pk)
    reply.refresh_from_db()
    return reply


def grant(event: InboundEvent, person: Account, status: str = "given", **fields: Any) -> AccessGrant:
    rule, _made = AssignmentRule.objects.get_or_create(
        organization=event.organization,
        name="Secret plans",
        defaults={"edited_by_text": "Ada", "edited_at": timezone.now(), "channels": ["slack"]},
    )
    made: AccessGrant = AccessGrant.objects.create(
        organization=event.organization,
        event=event,
        rule=rule,
        rule_version=1,
        account=person,
        status=status,
        created_at=timezone.now(),
        **fields,
    )
    return made


def test_slack_shows_the_one_who_asked_what_was_given_once(
    organization: Organization, person: Account, hooks: Any
) -> None:
    event = asked(organization, person, "slack", response_url=f"{hooks.url}/commands/T1/2/x")
    until = timezone.now() + timedelta(days=30)
    grant(event, person, added=[{"pk": 1, "name": "R&D <all>"}], expires_at=until)

    reply = told(event)
    replies.queue(event)
    deliver_reply(reply.pk)

    assert [(sent["path"], sent["response_type"]) for sent in hooks.taken] == [("/commands/T1/2/x", "ephemeral")]
    assert hooks.taken[0]["text"].startswith("You now have access: R&amp;D &lt;all&gt;. It ends on ")
    assert "Secret plans" not in hooks.taken[0]["text"]
    assert (reply.status, reply.way, mail.outbox) == ("sent", "slack", [])
    assert "commands" not in json.dumps(event.payload)
    assert crypto.decrypt(event.payload["reply_to"].encode()).endswith("/commands/T1/2/x")


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.test/commands/T1/2/x",
        "{base}.evil.test/commands/x",
        "{base}@evil.test/commands/x",
        "{base}/../x",
        "{base}/x?next=http://evil.test",
        "{base}",
        "//evil.test/x",
        "http://[",
        "",
    ],
)
def test_nothing_is_ever_posted_to_an_address_that_is_not_slacks(url: str, settings: Settings) -> None:
    settings.AUM_SLACK_HOOKS_URL = "https://hooks.slack.com"

    assert "reply_to" not in replies.sealed({"response_url": url.format(base="https://hooks.slack.com")})


@pytest.mark.parametrize(("status", "age_minutes", "posts"), [(404, 0, 1), (200, 40, 0)])
def test_a_mail_tells_what_slack_no_longer_takes(
    status: int, age_minutes: int, posts: int, organization: Organization, person: Account, hooks: Any
) -> None:
    hooks.status = status
    event = asked(organization, person, "slack", response_url=f"{hooks.url}/commands/T1/2/x", status="no_match")
    event.received_at = timezone.now() - timedelta(minutes=age_minutes)
    event.save()

    reply = told(event)

    assert len(hooks.taken) == posts
    assert (reply.status, reply.way) == ("sent", "mail")
    assert mail.outbox[0].to == ["john@employer.com"]
    assert "No rule covers your request" in mail.outbox[0].body


def test_slack_that_is_down_is_tried_again(organization: Organization, person: Account, hooks: Any) -> None:
    hooks.status = 503
    event = asked(organization, person, "slack", response_url=f"{hooks.url}/commands/T1/2/x", status="no_match")
    reply = told(event)
    deliver_reply(reply.pk)  # not due yet
    hooks.status = 200
    RequesterReply.objects.update(next_attempt_at=timezone.now(), created_at=timezone.now() - timedelta(minutes=1))
    deliver_reply(reply.pk)
    first = reply.status
    reply.refresh_from_db()

    assert first == "queued"
    assert (reply.status, reply.attempts, len(hooks.taken)) == ("sent", 2, 2)


def test_teams_and_intranet_are_answered_by_mail_to_who_is_known_only(
    organization: Organization, person: Account
) -> None:
    known = asked(organization, person, "teams")
    grant(known, person, added=[{"pk": 1, "name": "employees"}])
    for nobody in (asked(organization, None, "teams", status="refused", code="not_known"),):
        replies.queue(nobody)
    ticket = asked(organization, person, "jsm", kind="ticket")
    replies.queue(ticket)

    told(known)

    assert RequesterReply.objects.count() == 1
    assert [(message.to, "employees" in message.body) for message in mail.outbox] == [(["john@employer.com"], True)]


def test_who_waits_for_an_approval_is_told_so_and_then_what_was_decided(
    organization: Organization, person: Account, hooks: Any
) -> None:
    event = asked(
        organization, person, "slack", response_url=f"{hooks.url}/commands/T1/2/x", status="working", code="giving"
    )
    run = Operation.objects.create(
        organization=organization, number=1, kind="automation_rule", mode="live", status="held",
        initiator="automated", actor_text="Slack", name="Activation", action="add_to_group",
    )  # fmt: skip
    grant(event, person, "giving", operation=run)
    for _ in range(2):
        sweep_replies()
    for reply in RequesterReply.objects.all():
        deliver_reply(reply.pk)
    AccessGrant.objects.update(status="failed")
    InboundEvent.objects.update(status="failed")
    event.refresh_from_db()
    replies.queue(event)
    for reply in RequesterReply.objects.all():
        deliver_reply(reply.pk)

    texts = [sent["text"] for sent in hooks.taken]
    assert len(texts) == 2
    assert "has to approve" in texts[0]
    assert "was not granted" in texts[1]
