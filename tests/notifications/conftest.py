from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from django.utils import timezone

from apps.notifications import services
from apps.notifications.models import Delivery, EmailTemplate, MailSettings
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from aum.runtime.embedded import free_port
from tests.rules.conftest import (  # noqa: F401 - fixtures that notices stand on
    make_account,
    make_group,
    make_rule,
    operator,
    organization,
    trusted_sync,
)

ACTOR = Actor("operator", "1", "Ada", "ada@example.com")


class Mailbox:
    """A handler for aiosmtpd that keeps what it took and refuses what a test says."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, bytes]] = []
        self.refuse: dict[str, str] = {}
        self.refuse_data = ""
        self.die_after: int | None = None

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.refuse_data:
            return self.refuse_data
        if self.die_after is not None:
            if self.die_after == 0:
                server.transport.abort()
                return "451 gone"
            self.die_after -= 1
        for address in envelope.rcpt_tos:
            self.taken.append((address, bytes(envelope.content)))
        return f"250 OK {len(self.taken)}"

    @property
    def recipients(self) -> list[str]:
        return [address for address, _content in self.taken]

    def mails(self) -> list[EmailMessage]:
        return [message_from_bytes(content, policy=default) for _address, content in self.taken]  # type: ignore[misc]


class Receiver:
    """What a webhook got; `answers` are given one after the other, then 200."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.url = ""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    box = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            box.got.append((self.path, dict(self.headers), body))
            status, headers = box.answers.pop(0) if box.answers else (200, {})
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    box.url = f"http://127.0.0.1:{server.server_port}/hook?key=s3cret"
    yield box
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _loopback_allowed(settings: Any) -> None:
    settings.AUM_OUTGOING_ALLOWLIST = ["127.0.0.1"]


@pytest.fixture(scope="module")
def _smtp() -> Iterator[tuple[Controller, Mailbox]]:
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield controller, mailbox
    controller.stop()


@pytest.fixture
def mailbox(_smtp: tuple[Controller, Mailbox]) -> Mailbox:
    _controller, box = _smtp
    box.__init__()  # type: ignore[misc]  # as new for each test
    return box


@pytest.fixture
def mail(organization: Organization, mailbox: Mailbox, _smtp: tuple[Controller, Mailbox]) -> MailSettings:  # noqa: F811
    controller, _box = _smtp
    return MailSettings.objects.create(
        organization=organization,
        host="127.0.0.1",
        port=controller.port,
        security="none",
        from_address="aum@acme.example",
        from_name="Acme IT",
        per_minute=60000,
    )


@pytest.fixture
def make_template(organization: Organization) -> Callable[..., EmailTemplate]:  # noqa: F811
    def make(name: str = "Warning", **fields: Any) -> EmailTemplate:
        values = {
            "name": name,
            "event": "suspend",
            "days_inactive": 23,
            "subject": "Hello {{username}}",
            "body": "<p>Dear {{username}}, {{action}} on {{action_date}}. {{keep_access_link}}</p>",
        } | fields
        return services.create_template(
            organization=organization, values=services.TemplateInput(**values), actor=ACTOR
        ).template

    return make


def send_all(organization: Organization) -> None:  # noqa: F811
    """Drive until nothing is due."""
    for _turn in range(200):
        MailSettings.objects.filter(organization=organization).update(next_batch_at=None)
        services.drive(organization.pk)
        due = Delivery.objects.filter(organization=organization, status="queued").exclude(
            next_attempt_at__gt=timezone.now()
        )
        if not due.exists():
            return


def days(count: float) -> timedelta:
    return timedelta(days=count)
