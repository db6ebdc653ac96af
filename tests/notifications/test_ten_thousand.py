"""10,000 mails, and a mail server that is killed in the middle: none lost, none repeated (issue 5, slow tier)."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from django.utils import timezone

from apps.notifications import services
from apps.notifications.models import Delivery, EmailTemplate, MailSettings
from apps.organizations.models import Organization
from apps.rules.models import CleanupRule
from apps.rules.services.notices import owe_notices
from apps.users.models import Account
from aum.runtime.embedded import free_port
from tests.notifications.test_ladder import fresh_sync, make_live  # noqa: F401 - a fixture

pytestmark = [pytest.mark.django_db, pytest.mark.slow, pytest.mark.timeout(900)]
PEOPLE = 10_000
SERVER = """
    import sys, time
    from aiosmtpd.controller import Controller
    log = open(sys.argv[2], "ab", buffering=0)
    class Handler:
        async def handle_DATA(self, server, session, envelope):
            log.write(envelope.rcpt_tos[0].encode() + b"\\n")
            return "250 OK"
    Controller(Handler(), hostname="127.0.0.1", port=int(sys.argv[1])).start()
    while True:
        time.sleep(60)
"""


def start(port: int, log: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(SERVER), str(port), str(log)])
    time.sleep(2)
    return process


def test_ten_thousand_mails_survive_a_killed_mail_server(
    organization: Organization,
    make_account: Callable[..., Account],
    make_live: Callable[..., CleanupRule],  # noqa: F811
    make_template: Callable[..., EmailTemplate],
    tmp_path: Path,
) -> None:
    port, log = free_port(), tmp_path / "taken"
    MailSettings.objects.create(
        organization=organization,
        host="127.0.0.1",
        port=port,
        security="none",
        from_address="aum@acme.example",
        per_minute=60000,
    )
    first = make_account("u00000", idle_days=24)
    first.pk = None
    columns = {field.attname: getattr(first, field.attname) for field in Account._meta.concrete_fields}
    del columns["id"]
    Account.objects.bulk_create(
        Account(**(columns | {"account_id": name, "sort_name": name, "email": f"{name}@example.com"}))
        for name in (f"u{number:05}" for number in range(1, PEOPLE))
    )
    make_live(f"{make_template().pk}:7:person")
    fresh_sync(organization)
    owe_notices()
    server = start(port, log)

    def strike() -> None:
        while not log.exists() or log.stat().st_size < PEOPLE // 2 * len("u00000@example.com\n"):
            time.sleep(0.02)
        server.kill()

    striker = threading.Thread(target=strike)
    striker.start()
    began = time.monotonic()
    while not MailSettings.objects.get().failures:
        MailSettings.objects.update(next_batch_at=None)
        services.drive(organization.pk, seconds=60)
    striker.join()
    server.wait()
    at_the_kill = Delivery.objects.filter(status="accepted").count()
    again = start(port, log)
    try:
        while Delivery.objects.filter(status="queued").exclude(next_attempt_at__gt=timezone.now()).exists():
            MailSettings.objects.update(next_batch_at=None, paused_until=None)
            services.drive(organization.pk, seconds=60)
    finally:
        again.kill()
        again.wait()
    seconds = time.monotonic() - began
    taken = Counter(log.read_text().split())
    states = Counter(Delivery.objects.filter(kind="notice").values_list("status", flat=True))
    doubtful = set(Delivery.objects.filter(status="in_doubt").values_list("recipient", flat=True))
    print(f"{PEOPLE} mails in {seconds:.0f} s, {at_the_kill} before the kill, states {dict(states)}")

    assert max(taken.values()) == 1
    assert states["accepted"] + states["in_doubt"] == PEOPLE
    # Whoever was in flight at the kill is named: told or not, the mail is neither lost from sight nor repeated.
    assert len(doubtful) <= 1
    assert {f"u{n:05}@example.com" for n in range(PEOPLE)} - set(taken) <= doubtful
