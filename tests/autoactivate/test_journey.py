"""From a ticket in Jira to a member of a group in Atlassian, over real HTTP against the sandbox (S183–S191)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode

import pytest
import requests
from django.core import mail
from django.test import Client
from django.utils import timezone
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from apps.audit.models import AuditEvent
from apps.autoactivate import services
from apps.autoactivate.inbound.intranet import signature_of
from apps.autoactivate.models import AccessGrant, IdentityMapping, InboundEvent, InboundSource
from apps.autoactivate.services import lifetime
from apps.operations.models import Operation
from apps.operations.services import approve_operation
from apps.operators.models import Operator
from apps.organizations.models import Alert, Organization
from apps.organizations.recorder import Actor
from apps.sandbox.server import Sandbox
from apps.users.models import Account, AccountStatus, Exemption, Group, MembershipStatus
from aum.common.errors import NotAllowed
from tests.autoactivate.conftest import ACTOR, Way, addable, domain_rule, drive, open_way

pytestmark = pytest.mark.django_db(transaction=True)


def post_ticket(client: Client, way: Way, key: str, **headers: str) -> Any:
    body = json.dumps({"issueKey": key, "reporterAccountId": "somebody else", "reporterEmail": "ceo@evil.test"})
    return client.post(way.path, body, "application/json", headers={"X-AUM-Secret": way.secret, **headers})


def raise_ticket(sandbox: Sandbox, account: Account, kind: str = "11") -> str:
    return str(sandbox.control.post("request", {"reporter": account.account_id, "requestTypeId": kind})["key"])


def plain_person(organization: Organization, *without: Group, domain: str) -> Account:
    """An active person with an address at `domain` who is in none of the groups."""
    people = Account.objects.of(organization).filter(
        account_status=AccountStatus.ACTIVE,
        membership_status=MembershipStatus.ACTIVE,
        email__endswith=f"@{domain}",
        directory_memberships__directory=without[0].directory_id,
        is_org_admin=False,
        kind=1,
    )
    for group in without:
        people = people.exclude(group_ids__contains=[group.pk])
    found: Account | None = people.order_by("pk").first()
    assert found is not None
    return found


def in_sandbox(sandbox: Sandbox, account: Account) -> set[str]:
    return set(sandbox.control.get(f"state/account/{account.account_id}")["group_names"])


def event_of(answer: Any) -> InboundEvent:
    return InboundEvent.objects.get(pk=answer.json()["event"])


def test_a_ticket_of_a_matching_reporter_adds_to_all_groups_and_one_of_another_says_why_not(
    organization: Organization, small: Sandbox, client: Client
) -> None:
    domain = small.core.world.domains[0]
    groups = addable(organization, 2)
    rule = domain_rule(organization, *groups, domain=domain.upper())
    way = open_way(organization)
    person = plain_person(organization, *groups, domain=domain)
    outsider = (
        Account.objects.of(organization)
        .filter(account_status=AccountStatus.ACTIVE, membership_status=MembershipStatus.ACTIVE, kind=1)
        .exclude(email__endswith=f"@{domain}")
        .exclude(email=None)
        .first()
    )
    assert outsider is not None

    first = post_ticket(client, way, raise_ticket(small, person))
    other = post_ticket(client, way, raise_ticket(small, outsider))
    drive(organization)

    assert (first.status_code, other.status_code) == (202, 202)
    state = small.control.get(f"state/account/{person.account_id}")
    assert {group.name for group in groups} <= set(state["group_names"])
    event = InboundEvent.objects.get(pk=first.json()["event"])
    assert (event.status, event.code, event.account) == ("done", "given", person)
    grant = AccessGrant.objects.get(event=event)
    assert (grant.status, grant.rule, {g["pk"] for g in grant.added}) == ("given", rule, {g.pk for g in groups})
    assert Exemption.objects.get(account=person).reason.startswith("Access given by activation")
    assert AuditEvent.objects.filter(action="account.add_to_group", outcome="success").count() == 2
    refused = InboundEvent.objects.get(pk=other.json()["event"])
    assert refused.status == "no_match"
    assert f"is not {domain}" in refused.detail
    writes = small.control.get("ledger")["entries"]
    assert {entry["account"] for entry in writes if entry["actor"] != "control"} == {person.account_id}


def test_a_suspended_person_is_restored_after_an_approval_and_access_ends_on_its_day(
    organization: Organization, small: Sandbox, client: Client, operators: Callable[..., Operator]
) -> None:
    domain = small.core.world.domains[0]
    group = addable(organization, 1)[0]
    rule = domain_rule(organization, group, domain=domain, restores=True, expires_after_days=30)
    way = open_way(organization)
    person = plain_person(organization, group, domain=domain)
    small.control.post("mutate", {"account": person.account_id, "status": "suspended"})

    answer = post_ticket(client, way, raise_ticket(small, person))
    drive(organization)

    grant = AccessGrant.objects.get(event_id=answer.json()["event"])
    assert grant.operation is not None
    assert (grant.operation.status, grant.operation.action) == ("held", "add_to_group+restore")
    assert "somebody decides" in grant.operation.held_reasons[0]["sentence"]
    approver = operators(organization, "approver@aum.example", "approver")
    approve_operation(
        operation=grant.operation,
        plan_hash=grant.operation.plan_hash,
        operator=approver,
        actor=Actor.operator(approver),
    )
    drive(organization)
    state = small.control.get(f"state/account/{person.account_id}")
    assert state["status"] == "active"
    assert group.name in state["group_names"]
    grant.refresh_from_db()
    assert (grant.status, grant.rule) == ("given", rule)
    assert grant.given_at is not None
    assert grant.expires_at == grant.given_at + timedelta(days=30)

    # Seven days before, then one day before: one mail each, the first with a link that asks for more time.
    AccessGrant.objects.update(expires_at=timezone.now() + timedelta(days=6, hours=23))
    services.sweep_grants()
    services.sweep_grants()
    AccessGrant.objects.update(expires_at=timezone.now() + timedelta(hours=23))
    services.sweep_grants()
    services.sweep_grants()
    assert [message.to for message in mail.outbox] == [[person.email]] * 2
    link = re.search(r"/hooks/extend/[^/\s]+/", str(mail.outbox[0].body))
    assert link is not None
    assert client.get(link[0]).status_code == 200
    assert client.post(link[0], {"days": "0", "reason": ""}).status_code == 422
    assert client.post(link[0], {"days": "14", "reason": "The project goes on"}).status_code == 200
    assert client.post(link[0], {"days": "99", "reason": "again"}).status_code == 410
    drive(organization)
    grant.refresh_from_db()
    assert (grant.asked_days, grant.asked_reason) == (14, "The project goes on")
    before = grant.expires_at
    services.decide_more(grant=grant, is_granted=True, reason="", actor=Actor.operator(approver), operator=approver)
    grant.refresh_from_db()
    assert before is not None
    assert grant.expires_at == before + timedelta(days=14)
    helper = operators(organization, "helper@aum.example", "helpdesk", "approver")
    lifetime.ask_for_more(grant=grant, days=1, reason="x", actor=Actor.operator(helper), operator=helper)
    with pytest.raises(NotAllowed):
        services.decide_more(grant=grant, is_granted=True, reason="", actor=Actor.operator(helper), operator=helper)

    # On its day it is removed, though the person was snoozed when it was given; nothing else is.
    AccessGrant.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    services.sweep_grants()
    services.sweep_grants()
    drive(organization)
    grant.refresh_from_db()
    assert (grant.status, grant.removal and grant.removal.status) == ("ended", "succeeded")
    assert group.name not in in_sandbox(small, person)
    assert Operation.objects.filter(name__startswith="End of access").count() == 1


def test_a_removed_person_is_invited_again_after_an_approval_and_the_grant_is_undone(
    organization: Organization, small: Sandbox, client: Client, operators: Callable[..., Operator]
) -> None:
    domain = small.core.world.domains[1]
    group = addable(organization, 1)[0]
    domain_rule(organization, group, domain=domain, restores=True)
    way = open_way(organization)
    person = plain_person(organization, group, domain=domain)
    key = raise_ticket(small, person)
    small.control.post("mutate", {"account": person.account_id, "status": "removed"})

    answer = post_ticket(client, way, key)
    drive(organization)

    grant = AccessGrant.objects.select_related("operation").get(event_id=answer.json()["event"])
    assert grant.operation is not None
    assert (grant.operation.status, grant.operation.action) == ("held", "invite")
    approver = operators(organization, "approver@aum.example", "approver", "admin")
    actor = Actor.operator(approver)
    approve_operation(operation=grant.operation, plan_hash=grant.operation.plan_hash, operator=approver, actor=actor)
    drive(organization)
    grant.refresh_from_db()
    assert (grant.status, grant.group_names) == ("given", group.name)
    assert group.name in in_sandbox(small, person)
    undo = services.undo_grant(grant=grant, actor=actor, operator=approver)
    drive(organization)
    undo.refresh_from_db()
    grant.refresh_from_db()
    assert (undo.status, grant.status) == ("succeeded", "undone")
    assert group.name not in in_sandbox(small, person)


def test_who_asks_is_never_taken_from_the_body(
    organization: Organization, small: Sandbox, client: Client, settings: Settings, slack: Any
) -> None:
    domain = small.core.world.domains[0]
    group = addable(organization, 1)[0]
    channels = ("jsm", "slack", "teams", "intranet")
    domain_rule(organization, group, domain=domain, channels=channels)
    people = Account.objects.of(organization).filter(
        account_status=AccountStatus.ACTIVE,
        membership_status=MembershipStatus.ACTIVE,
        email__endswith=f"@{domain}",
        directory_memberships__directory=group.directory_id,
        is_org_admin=False,
        kind=1,
    )
    one, two, three, four, five = people.exclude(group_ids__contains=[group.pk]).order_by("pk")[:5]

    # Slack: the bot token tells whose user id it is; a deactivated or foreign one is nobody.
    slack_source = services.save_secret(
        source=services.ensure_source(organization=organization, kind="slack"), secret="0f" * 16, actor=ACTOR
    )
    settings.AUM_SLACK_API_URL = slack.url
    assert services.save_bot_token(source=slack_source, token="xoxb-1234567890", actor=ACTOR) == "Larkspur"
    slack.users["U0000001"] = {"profile": {"email": one.email, "real_name": one.name}}
    slack.users["U0000002"] = {"profile": {"email": two.email}, "is_stranger": True}
    for number, user in enumerate(("U0000001", "U0000002")):
        body = urlencode({"user_id": user, "trigger_id": f"t{number}", "text": f"{five.email}"}).encode()
        at = str(int(time.time()))
        signature = hmac.new(b"0f" * 16, b"v0:" + at.encode() + b":" + body, hashlib.sha256).hexdigest()
        headers = {"X-Slack-Request-Timestamp": at, "X-Slack-Signature": f"v0={signature}"}
        answers = [
            client.post(f"/hooks/slack/{slack_source.key}", body, "application/x-www-form-urlencoded", headers=headers)
            for _ in range(2)
        ]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert "already" in answers[1].json()["text"]
        assert (
            client.post(f"/hooks/slack/{slack_source.key}", body + b"&x=1", "x/y", headers=headers).status_code == 401
        )
    drive(organization)
    assert group.name in in_sandbox(small, one)
    assert InboundEvent.objects.get(dedup_key="slack:t1").code == "slack_user"

    # Teams: nobody is known yet, so a mail to the named address decides; from then on the sender is known.
    token = base64.b64encode(b"k" * 32).decode()
    teams_source = services.save_secret(
        source=services.ensure_source(organization=organization, kind="teams"), secret=token, actor=ACTOR
    )

    def write_in_teams(activity: str, text: str) -> InboundEvent:
        sender = {"aadObjectId": "AAAA-1", "name": "Two"}
        body = json.dumps({"type": "message", "id": activity, "text": text, "from": sender}).encode()
        digest = base64.b64encode(hmac.new(b"k" * 32, body, hashlib.sha256).digest()).decode()
        answer = client.post(
            f"/hooks/teams/{teams_source.key}", body, "application/json", headers={"Authorization": f"HMAC {digest}"}
        )
        assert answer.json()["type"] == "message"
        drive(organization)
        found: InboundEvent = InboundEvent.objects.filter(source_kind="teams").exclude(kind="confirmation").latest("pk")
        return found

    event = write_in_teams("1", f"<at>AUM</at> access {two.email}")
    assert event.status == "confirming"
    assert group.name not in in_sandbox(small, two)
    assert [message.to for message in mail.outbox] == [[two.email]]
    link = re.search(r"/hooks/confirm/[^/\s]+/", str(mail.outbox[0].body))
    assert link is not None
    for _ in range(20):  # scanners look; looking changes nothing
        assert client.get(link[0]).status_code == 200
    drive(organization)
    assert group.name not in in_sandbox(small, two)
    assert client.post(link[0]).status_code == 200
    assert client.post(link[0]).status_code == 410
    drive(organization)
    assert group.name in in_sandbox(small, two)
    assert IdentityMapping.objects.get(external_id="aaaa-1").account == two
    assert write_in_teams("2", "<at>AUM</at> access").status == "done"

    # Intranet: a signed link names a person once; the plain form and the API only lead to a mail.
    intranet = open_way(organization, "intranet")
    services.set_domains(source=intranet.source, domains=[domain], actor=ACTOR)
    expires, nonce = str(int(time.time()) + 60), "n" * 20
    query = {
        "email": three.email,
        "expires": expires,
        "nonce": nonce,
        "signature": signature_of(intranet.secret, three.email or "", expires, nonce),
    }
    form = f"/hooks/form/{intranet.source.key}/"
    assert str(three.email).encode() in client.get(form, query).content
    assert client.post(f"{form}?{urlencode(query)}").status_code == 200
    assert client.post(f"{form}?{urlencode(query)}").status_code == 410
    assert client.post(f"{form}?{urlencode(query | {'email': four.email})}").status_code == 401
    mail.outbox.clear()
    asked = {"email": four.email, "request_id": "77"}
    for _ in range(2):
        answer = client.post(
            intranet.path, json.dumps(asked), "application/json", headers={"X-AUM-Secret": intranet.secret}
        )
        assert answer.status_code == 202
    assert client.post(form, {"email": five.email}).status_code == 200
    drive(organization)
    assert group.name in in_sandbox(small, three)
    assert sorted(message.to[0] for message in mail.outbox) == sorted([four.email, five.email])
    assert not {group.name} & (in_sandbox(small, four) | in_sandbox(small, five))

    # An administrator's link is for one person, once.
    url = services.make_request_link(organization=organization, account=four, actor=ACTOR)
    path = url[url.index("/hooks/") :]
    assert client.post(path).status_code == 200
    assert client.post(path).status_code == 410
    drive(organization)
    assert group.name in in_sandbox(small, four)
    kinds = set(InboundSource.objects.of(organization).exclude(first_event_at=None).values_list("kind", flat=True))
    assert {"slack", "teams", "intranet"} <= kinds


class _Slack(BaseHTTPRequestHandler):
    """users.info and auth.test of a workspace."""

    users: dict[str, dict[str, Any]]

    def do_POST(self) -> None:
        values = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        is_known = self.headers["Authorization"] == "Bearer xoxb-1234567890"
        answer: dict[str, Any] = {"ok": is_known, "team": "Larkspur"} if is_known else {"ok": False, "error": "x"}
        if self.path.endswith("/users.info") and is_known:
            user = values["user"][0]
            answer = {"ok": True, "user": {"id": user, **self.users[user]}}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def slack() -> Iterator[Any]:
    handler = type("Handler", (_Slack,), {"users": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    running: Any = type("Running", (), {})()
    running.url, running.users = f"http://127.0.0.1:{server.server_port}", handler.users  # type: ignore[attr-defined]
    yield running
    server.shutdown()
    server.server_close()


def test_tickets_that_give_nothing_say_why_and_polling_finds_those_that_nobody_sent(
    organization: Organization, small: Sandbox, client: Client
) -> None:
    domain = small.core.world.domains[0]
    group = addable(organization, 1)[0]
    way = open_way(organization)
    poll = services.switch_source(
        source=services.ensure_source(organization=organization, kind="poll"), is_enabled=True, actor=ACTOR
    )
    rule = domain_rule(organization, group, domain=domain, request_types=("11",), is_active=False)
    person = plain_person(organization, group, domain=domain)
    with pytest.raises(services.SetupNotSeen):
        services.switch_rule(rule=rule, is_active=True, actor=ACTOR)
    customer = next(p for p in small.core.world.people if p.kind == "customer")
    hidden = Account.objects.of(organization).filter(email=None, account_status=1, membership_status=1, kind=1).first()
    assert hidden is not None

    wrong_type = post_ticket(client, way, raise_ticket(small, person, "12"))
    drive(organization)
    services.switch_rule(rule=rule, is_active=True, actor=ACTOR)
    portal = post_ticket(
        client, way, small.control.post("request", {"reporter": customer.account_id, "requestTypeId": "11"})["key"]
    )
    no_mail = post_ticket(client, way, raise_ticket(small, hidden))
    old = post_ticket(client, way, "HELP-1")
    none = post_ticket(client, way, "NOPE-1")
    drive(organization)

    assert event_of(wrong_type).detail == "No assignment rule is switched on."
    assert event_of(portal).code == "portal_only"
    assert (event_of(no_mail).status, "no e-mail" in event_of(no_mail).detail) == ("no_match", True)
    assert event_of(none).next_try_at is not None
    assert event_of(old).status in ("refused", "no_match", "done")
    services.process_again(event=event_of(wrong_type), actor=ACTOR)
    drive(organization)
    assert "it is for Request access, not Get IT help" in event_of(wrong_type).detail
    key = raise_ticket(small, person)
    assert services.poll(poll.pk) >= 1
    drive(organization)
    assert group.name in in_sandbox(small, person)
    assert InboundEvent.objects.get(dedup_key=f"issue:{key}").source_kind == "poll"
    sent_too = post_ticket(client, way, key)
    assert sent_too.json()["repeated"] is True
    assert services.poll(poll.pk) == 0

    # A group that began to grant administration is no target, though no sync has seen it yet (P15).
    ari = next(r.ari for r in small.core.world.resources if r.key)
    small.control.post("mutate", {"group": group.name, "add_grant": [ari, "atlassian/admin"]})
    from django.core.cache import cache

    cache.clear()
    other = Account.objects.of(organization).filter(
        account_status=1, membership_status=1, email__endswith=f"@{domain}", kind=1, is_org_admin=False
    )
    late = other.exclude(group_ids__contains=[group.pk]).first()
    assert late is not None
    answer = post_ticket(client, way, raise_ticket(small, late))
    drive(organization)
    assert "grants administration" in event_of(answer).detail
    assert group.name not in in_sandbox(small, late)
    assert Alert.objects.filter(kind="activation_group", resolved_at=None).exists()


def test_forty_tickets_at_once_are_answered_at_once_and_each_person_is_added_once(
    organization: Organization, small: Sandbox, live_server: LiveServer
) -> None:
    flood(organization, small, live_server, tickets=40, limit=15)


def flood(organization: Organization, small: Sandbox, live_server: LiveServer, *, tickets: int, limit: int) -> None:
    """Two tickets of each person; a killed worker in the middle; a limit that lets `limit` people in today."""
    domain = small.core.world.domains[0]
    group = addable(organization, 1)[0]
    rule = domain_rule(organization, group, domain=domain, max_per_day=limit)
    way = open_way(organization)
    people = list(
        Account.objects.of(organization)
        .filter(
            account_status=1,
            membership_status=1,
            email__endswith=f"@{domain}",
            kind=1,
            directory_memberships__directory=group.directory_id,
        )
        .exclude(group_ids__contains=[group.pk])
        .order_by("pk")[: tickets // 2]
    )
    keys = [raise_ticket(small, person) for person in people for _ in range(2)]

    def send(key: str) -> tuple[int, float]:
        started = time.monotonic()
        answer = requests.post(
            live_server.url + way.path, json={"issueKey": key}, headers={"X-AUM-Secret": way.secret}, timeout=10
        )
        return answer.status_code, time.monotonic() - started

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(send, [*keys, *keys]))
    # A worker that was killed after its claim: its lease runs out, and another takes the event.
    killed = InboundEvent.objects.order_by("pk")[3]
    InboundEvent.objects.filter(pk=killed.pk).update(
        lease_token="00000000-0000-4000-8000-000000000000", lease_until=timezone.now() + timedelta(seconds=60)
    )
    drive(organization, rounds=3)
    InboundEvent.objects.filter(pk=killed.pk).update(lease_until=timezone.now())
    drive(organization, rounds=60)

    assert {status for status, _ in answers} == {202}
    assert max(seconds for _, seconds in answers) < 2
    assert InboundEvent.objects.filter(kind="ticket").count() == len(keys)
    writes = small.control.get("ledger?method=POST")["entries"]
    accounts = [entry["account"] for entry in writes if entry["path"].endswith("/memberships")]
    assert len(accounts) == len(set(accounts)) == min(limit, len(people))
    assert rule.grants.filter(status="given").count() == min(limit, len(people))
    assert InboundEvent.objects.filter(status="waiting", code="limit").exists() == (limit < len(people))
    assert not InboundEvent.objects.filter(status="received").exists()
