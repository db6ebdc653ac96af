"""Alerts to Slack, Teams and signed webhooks; the one guard of addresses that people enter; the mapping of managers."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from apps.audit.models import AuditEvent
from apps.notifications import services
from apps.notifications.models import AlertChannel, ChannelDelivery, Delivery, EmailTemplate, MailSettings
from apps.notifications.services import ChannelInput
from apps.notifications.services.channel_messages import signature
from apps.operators.models import Operator
from apps.organizations import outgoing
from apps.organizations.models import Organization
from apps.organizations.services import raise_alert
from apps.rules.models import CleanupRule
from apps.users.models import Account
from aum.common.errors import InvalidInput
from tests.notifications.conftest import ACTOR, Mailbox, Receiver
from tests.notifications.test_ladder import make_live, tell  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db


def add(organization: Organization, receiver: Receiver, kind: str, **fields: Any) -> tuple[AlertChannel, str]:
    values = ChannelInput(name=kind, kind=kind, address=receiver.url, **fields)
    return services.create_channel(organization=organization, values=values, actor=ACTOR)


def trouble(organization: Organization, title: str = "Run #7 is held", severity: str = "warning") -> None:
    raise_alert(
        organization=organization, kind="held", severity=severity, title=title, detail="<b>63</b>", dedup_key=title
    )


@pytest.mark.parametrize("kind", ["slack", "teams", "webhook"])
def test_an_alert_is_told_once_to_each_channel_that_was_on_when_it_opened(
    kind: str, organization: Organization, receiver: Receiver
) -> None:
    trouble(organization, "Before the channel")
    _channel, secret = add(organization, receiver, kind)
    trouble(organization)
    trouble(organization, "Only to be read", "info")
    for _look in range(3):
        services.queue_alerts()
        services.deliver_waiting()
    trouble(organization)  # raised once more, the same alert
    services.queue_alerts()
    services.deliver_waiting()

    ((path, headers, body),) = receiver.got
    message = json.loads(body)
    assert path == "/hook?key=s3cret"
    if kind == "slack":
        assert message["text"] == "Run #7 is held (Acme)"
    elif kind == "teams":
        assert message["attachments"][0]["content"]["body"][0]["text"] == "Run \\#7 is held"
    else:
        stamp = headers["X-Aum-Timestamp"] if "X-Aum-Timestamp" in headers else headers["X-AUM-Timestamp"]
        sent = {name.lower(): value for name, value in headers.items()}["x-aum-signature"]
        assert sent == f"v1={signature(secret, stamp, body)}"
        assert message["title"] == "Run #7 is held"
        assert message["detail"] == "<b>63</b>"


def test_a_channel_that_does_not_answer_is_tried_again_and_logged_and_a_redirect_is_not_followed(
    organization: Organization, receiver: Receiver
) -> None:
    add(organization, receiver, "webhook")
    receiver.answers = [(503, {}), (302, {"Location": "http://127.0.0.1:1/"})]
    trouble(organization)
    services.queue_alerts()
    services.deliver_waiting()
    first = ChannelDelivery.objects.get()
    ChannelDelivery.objects.update(next_attempt_at=first.created_at)
    AlertChannel.objects.update(paused_until=None)
    services.deliver_waiting()
    second = ChannelDelivery.objects.get()
    services.redeliver(delivery=ChannelDelivery.objects.get(), actor=ACTOR)
    services.deliver_waiting()
    third = ChannelDelivery.objects.get()

    assert (first.status, first.http_status, first.attempts) == ("queued", 503, 1)
    assert (second.status, second.http_status) == ("failed", 302)
    assert (third.status, third.http_status) == ("sent", 200)
    assert len(receiver.got) == 3


def test_the_test_button_sends_at_once_and_the_address_is_not_shown(
    organization: Organization, receiver: Receiver, operators: Callable[..., Operator], client: Client
) -> None:
    client.force_login(operators(organization, "admin@aum.example", "admin"))
    base = f"/o/{organization.slug}/settings/channels/"
    typed = {"name": "Ops", "kind": "slack", "address": receiver.url, "level": "error"}
    client.post(base, typed)
    channel = AlertChannel.objects.get()
    answer = client.post(f"{base}{channel.pk}/test/", follow=True).content.decode()
    receiver.answers = [(404, {})]
    refused = client.post(f"{base}{channel.pk}/test/", follow=True).content.decode()

    assert "The message was taken with status 200." in answer
    assert "The message was not taken. 404" in refused
    assert "s3cret" not in answer + refused
    assert b"s3cret" not in bytes(channel.encrypted_address)
    assert not AuditEvent.objects.filter(after__icontains="s3cret").exists()


@pytest.mark.parametrize(
    "address",
    [
        "http://10.0.0.1/x",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::1]/x",
        "https://[::ffff:10.0.0.1]/x",
        "https://0.0.0.0/x",
        "ftp://example.com/x",
        "https://user:password@example.com/x",
        "https://example.com:99999/x",
        "javascript:alert(1)",
        "",
    ],
)
def test_addresses_that_lead_inside_or_nowhere_are_refused(
    address: str, organization: Organization, settings: Any
) -> None:
    settings.AUM_OUTGOING_ALLOWLIST = []
    with pytest.raises(InvalidInput) as refused:
        services.create_channel(
            organization=organization, values=ChannelInput(name="x", kind="webhook", address=address), actor=ACTOR
        )

    assert list(refused.value.fields) == ["address"]


def test_a_name_that_leads_inside_as_well_is_refused_and_the_judged_address_is_the_one_connected_to(
    monkeypatch: pytest.MonkeyPatch, settings: Any, receiver: Receiver
) -> None:
    port = int(receiver.url.split(":")[2].split("/")[0])
    real = socket.getaddrinfo
    answers = {"rebind.example": ["93.184.216.34", "10.0.0.7"], "allowed.example": ["127.0.0.1"]}

    def resolve(host: str, *args: Any, **kwargs: Any) -> Any:
        if host in answers:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in answers[host]]
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    settings.AUM_OUTGOING_ALLOWLIST = ["allowed.example"]
    with pytest.raises(outgoing.AddressRefused, match=r"10\.0\.0\.7"):
        outgoing.send("POST", "https://rebind.example/x")
    answer = outgoing.send("POST", f"http://allowed.example:{port}/x", body=b"{}")

    assert answer.ok
    assert {name.lower(): value for name, value in receiver.got[0][1].items()}["host"] == f"allowed.example:{port}"


def test_managers_are_told_where_the_mapping_names_them_else_an_owner(
    organization: Organization,
    mail: MailSettings,
    mailbox: Mailbox,
    make_account: Callable[..., Account],
    make_live: Callable[..., CleanupRule],  # noqa: F811
    make_template: Callable[..., EmailTemplate],
    operators: Callable[..., Operator],
) -> None:
    operators(organization, "owner@aum.example", "owner")
    for name in ("john", "jane"):
        make_account(name, idle_days=24)
    report = services.import_contacts(
        organization=organization,
        data=b"email,manager_email,language\nJohn@example.com,boss@example.com,de-AT\nnobody@x.example,a@b.example,en\n"
        b"jane@example.com,not an address,\n",
        actor=ACTOR,
    )
    make_live(f"{make_template().pk}:7:manager")

    tell(organization)

    assert (report.saved, [error.line for error in report.errors]) == (1, [3, 4])
    assert sorted(mailbox.recipients) == ["boss@example.com", "owner@aum.example"]
    assert "/k/" not in "".join(message.as_string() for message in mailbox.mails())
    assert services.send_digests() == 1
    digest = Delivery.objects.get(kind="digest")
    assert "Idle: 2 users warned" in digest.text
    assert services.send_digests() == 0


def test_a_saved_password_is_encrypted_never_shown_and_not_sent_to_another_server(
    organization: Organization, mail: MailSettings, operators: Callable[..., Operator], client: Client
) -> None:
    client.force_login(operators(organization, "owner@aum.example", "owner"))
    address = f"/o/{organization.slug}/settings/mail/"
    typed = {
        "host": "127.0.0.1",
        "port": str(mail.port),
        "security": "starttls",
        "username": "aum",
        "password": "hunter2!",
        "from_name": "IT",
        "from_address": "it@acme.example",
        "reply_to": "",
        "per_minute": "60",
        "keep_days": "30",
        "keep_per_year": "2",
        "link_days": "60",
    }
    client.post(address, typed)
    row = MailSettings.objects.get()
    page = client.get(address).content.decode()
    moved = client.post(address, typed | {"password": "", "port": "26"})

    assert bytes(row.encrypted_password or b"")[:4] == b"gAAA"
    assert "hunter2!" not in page
    assert "Password set on" in page
    assert moved.status_code == 422
    assert "a saved one is not sent to another server" in moved.content.decode()
