"""Delivery as evidence: what was taken, refused, lost or came back, and what a plan makes of it (B1, P10)."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.notifications import services
from apps.notifications.models import Delivery, EmailTemplate, MailSettings, PersonContact
from apps.notifications.services.sending import RETRY_REFUSED
from apps.operations.models import Operation
from apps.organizations.models import Alert, Organization
from apps.rules.models import CleanupRule
from apps.rules.services.notices import untold
from apps.users.models import Account
from aum.common.errors import InvalidInput
from tests.notifications.conftest import ACTOR, Mailbox, send_all
from tests.notifications.test_ladder import WHEN, make_live, plan, tell  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db


def at(clock: Any, moment: datetime, organization: Organization) -> None:
    clock.move_to(moment)
    tell(organization)


def test_of_100_users_the_refused_one_is_held_and_acted_upon_full_days_after_a_later_delivery(
    organization: Organization,
    mail: MailSettings,
    mailbox: Mailbox,
    make_account: Callable[..., Account],
    make_live: Callable[..., CleanupRule],  # noqa: F811
    make_template: Callable[..., EmailTemplate],
) -> None:
    mailbox.refuse["u007@example.com"] = "550 5.1.1 no such mailbox"
    with time_machine.travel(WHEN, tick=False) as clock:
        for number in range(100):
            make_account(f"u{number:03}", idle_days=24)
        rule = make_live(f"{make_template().pk}:7:person")
        tell(organization)
        at(clock, WHEN + RETRY_REFUSED, organization)
        failed = Delivery.objects.get(status="undeliverable")
        why = (failed.problem, "no such mailbox" in failed.server_answer)
        clock.move_to(WHEN + timedelta(days=7, hours=3))
        tell(organization)
        first = plan(rule)
        mailbox.refuse.clear()
        services.send_again(delivery=failed, actor=ACTOR)
        send_all(organization)
        clock.move_to(WHEN + timedelta(days=14, hours=1))
        tell(organization)
        too_early = plan(rule)
        clock.move_to(WHEN + timedelta(days=15, hours=2, minutes=1))
        tell(organization)
        later = plan(rule)

    assert len(first[0]) == 99
    assert first[1] == {"notice_missing": 1}
    assert "u007" not in first[0] | too_early[0]
    assert "u007" in later[0]
    assert later[1] == {}
    assert why == ("refused", True)
    assert sorted(mailbox.recipients) == [f"u{number:03}@example.com" for number in range(100)]


def test_a_retry_of_a_retry_is_bound_by_the_notices_of_the_rule(
    organization: Organization,
    make_live: Callable[..., CleanupRule],  # noqa: F811
    make_template: Callable[..., EmailTemplate],
) -> None:
    with time_machine.travel(WHEN, tick=False):
        rule = make_live(f"{make_template().pk}:7:person")
        made = {"organization": organization, "kind": "automation_rule", "mode": "live", "action": rule.action}
        run = Operation.objects.create(number=901, rule_id=rule.pk, status="failed", **made)
        first = Operation.objects.create(number=902, retry_of=run, status="failed", **made)
        second = Operation.objects.create(number=903, retry_of=first, status="planning", **made)
        gate = untold(second, WHEN)

    assert gate is not None
    assert gate[1] == "notice_missing"


def test_a_dead_server_in_the_middle_loses_and_repeats_nothing(
    organization: Organization,
    mail: MailSettings,
    mailbox: Mailbox,
    make_account: Callable[..., Account],
    make_live: Callable[..., CleanupRule],  # noqa: F811
    make_template: Callable[..., EmailTemplate],
) -> None:
    for number in range(60):
        make_account(f"u{number:03}", idle_days=24)
    make_live(f"{make_template().pk}:7:person")
    mailbox.die_after = 25

    tell(organization)
    after_death = len(mailbox.taken)
    paused = MailSettings.objects.get().paused_until
    asleep = services.drive(organization.pk)
    told_of_it = Alert.objects.filter(kind="mail_server", resolved_at__isnull=True).exists()
    mailbox.die_after = None
    MailSettings.objects.update(paused_until=None)
    send_all(organization)
    doubtful = list(Delivery.objects.filter(status="in_doubt"))

    assert (after_death, asleep, told_of_it) == (25, 0, True)
    assert paused is not None
    # The one in flight when the server died is told apart: it is neither repeated nor counted as told.
    assert len(set(mailbox.recipients)) == len(mailbox.recipients) == 60 - len(doubtful)
    assert len(doubtful) == 1
    assert not Alert.objects.filter(kind="mail_server", resolved_at__isnull=True).exists()
    assert Delivery.objects.filter(status="accepted").count() == len(mailbox.taken)


def lossy_server() -> tuple[int, list[bytes]]:
    """A mail server that takes one whole mail and dies without an answer."""
    listening = socket.create_server(("127.0.0.1", 0))
    taken: list[bytes] = []

    def serve() -> None:
        connection, _address = listening.accept()
        connection.sendall(b"220 hello\r\n")
        data, is_data = b"", False
        while chunk := connection.recv(65536):
            data += chunk
            if is_data:
                if data.endswith(b"\r\n.\r\n"):
                    taken.append(data)
                    break
                continue
            if data.upper().startswith(b"DATA"):
                connection.sendall(b"354 go\r\n")
                data, is_data = b"", True
            else:
                connection.sendall(b"250 fine\r\n")
                data = b""
        connection.close()
        listening.close()

    threading.Thread(target=serve, daemon=True).start()
    return listening.getsockname()[1], taken


def test_a_mail_whose_answer_was_lost_is_not_repeated_and_does_not_count_until_somebody_says_so(
    organization: Organization,
    mail: MailSettings,
    mailbox: Mailbox,
    make_account: Callable[..., Account],
    make_live: Callable[..., CleanupRule],  # noqa: F811
    make_template: Callable[..., EmailTemplate],
) -> None:
    good = mail.port
    with time_machine.travel(WHEN, tick=False) as clock:
        make_account("john", idle_days=24)
        rule = make_live(f"{make_template().pk}:7:person")
        port, taken = lossy_server()
        MailSettings.objects.update(port=port)
        tell(organization)
        MailSettings.objects.update(port=good, paused_until=None)
        for _look in range(3):
            tell(organization)
        row = Delivery.objects.get(kind="notice")
        status = row.status
        clock.move_to(WHEN + timedelta(days=10))
        tell(organization)
        waiting = plan(rule)
        services.say_arrived(delivery=row, actor=ACTOR, reason="In the log of the mail server.")
        counted = plan(rule)

    assert status == "in_doubt"
    assert len(taken) == 1
    assert row.message_id.encode() in taken[0]
    assert mailbox.taken == []
    assert waiting == (set(), {"notice_missing": 1})
    assert counted[0] == {"john"}
    assert Alert.objects.filter(kind="mail_in_doubt", resolved_at__isnull=False).exists()


def test_no_address_and_bounces_go_to_the_undeliverable_list_and_the_rule_decides_what_follows(
    organization: Organization,
    mail: MailSettings,
    mailbox: Mailbox,
    make_account: Callable[..., Account],
    make_live: Callable[..., CleanupRule],  # noqa: F811
    make_template: Callable[..., EmailTemplate],
) -> None:
    secret = services.rotate_bounce_secret(organization=organization, actor=ACTOR)
    with time_machine.travel(WHEN, tick=False) as clock:
        hidden = make_account("hidden", idle_days=24, email=None)
        PersonContact.objects.create(
            organization=organization, account=hidden, manager_email="boss@example.com", set_at=WHEN, set_by="test"
        )
        make_account("bounced", idle_days=24)
        asks = make_live(f"{make_template('Ask').pk}:7:person", name="Asks")
        acts = make_live(f"{make_template('Act').pk}:7:person", name="Acts", undeliverable="act", undeliverable_days=9)
        tell(organization)
        notice = Delivery.objects.get(kind="notice", status="accepted", rule_id=asks.pk)
        assert services.settings_for(organization, "wrong") is None
        assert services.settings_for(organization, secret) is not None
        event = {"RecordType": "Bounce", "Type": "HardBounce", "MessageID": f"{notice.uuid}@acme.example"}
        services.receive(organization, __import__("json").dumps(event).encode())
        services.process_events()
        clock.move_to(WHEN + timedelta(days=8))
        tell(organization)
        held = plan(asks)
        early = plan(acts)
        clock.move_to(WHEN + timedelta(days=10))
        tell(organization)
        released = plan(acts)
        still = plan(asks)
        with pytest.raises(InvalidInput):
            services.let_follow(delivery=notice, days=1, reason="x", actor=ACTOR)
        services.let_follow(delivery=notice, days=7, reason="Told by telephone.", actor=ACTOR)
        clock.move_to(WHEN + timedelta(days=17, minutes=1))
        tell(organization)
        decided = plan(asks)

    assert held == (set(), {"notice_missing": 2})
    assert early == ({"bounced"}, {"notice_missing": 1})
    assert released == ({"bounced", "hidden"}, {})
    assert still == (set(), {"notice_missing": 2})
    assert decided == ({"bounced"}, {"notice_missing": 1})
    assert "boss@example.com" in mailbox.recipients
    assert AuditEvent.objects.filter(action="notice.released", reason="Told by telephone.").exists()


def test_a_process_that_died_while_sending_leaves_a_doubt_and_one_before_that_leaves_nothing(
    organization: Organization,
    mail: MailSettings,
    mailbox: Mailbox,
    make_account: Callable[..., Account],
    make_live: Callable[..., CleanupRule],  # noqa: F811
    make_template: Callable[..., EmailTemplate],
) -> None:
    for name in ("claimed", "sending"):
        make_account(name, idle_days=24)
    make_live(f"{make_template().pk}:7:person")
    MailSettings.objects.update(host="")
    tell(organization)
    for name in ("claimed", "sending"):
        Delivery.objects.filter(account__account_id=name).update(
            status=name, lease_token="11111111-1111-1111-1111-111111111111"
        )
    MailSettings.objects.update(host="127.0.0.1")

    send_all(organization)

    found = dict(Delivery.objects.filter(kind="notice").values_list("account__account_id", "status"))
    assert found == {"claimed": "accepted", "sending": "in_doubt"}
    assert mailbox.recipients == ["claimed@example.com"]


def test_each_mail_is_recorded_with_time_recipient_and_the_servers_answer_on_the_persons_timeline(
    organization: Organization,
    mail: MailSettings,
    mailbox: Mailbox,
    make_account: Callable[..., Account],
    make_live: Callable[..., CleanupRule],  # noqa: F811
    make_template: Callable[..., EmailTemplate],
) -> None:
    from apps.users.selectors.timeline import timeline

    john = make_account("john", idle_days=24)
    make_live(f"{make_template(bcc='boss@acme.example').pk}:7:person")

    tell(organization)

    row = Delivery.objects.get(kind="notice")
    event = AuditEvent.objects.get(action="notice.sent")
    entry = next(entry for entry in timeline(john).entries if entry.kind == "notice")
    original, copy = mailbox.mails()
    assert row.accepted_at is not None
    assert timezone.now() - row.accepted_at < timedelta(minutes=1)
    assert (row.recipient, row.server_answer[:2]) == ("john@example.com", "OK")
    assert event.after["message_id"] == row.message_id == original["Message-ID"]
    assert entry.title == "Warned by mail"
    # The copy is a mail of its own, and the link that decides for John is not in it, nor in what is kept.
    assert copy["To"] == "boss@acme.example"
    assert "/k/" in original.as_string()
    assert "/k/" not in copy.as_string() + row.html + row.text
    assert "boss@acme.example" not in original.as_string()


def test_disabling_a_template_takes_back_what_waits_and_enabling_it_tells_again(
    organization: Organization,
    mail: MailSettings,
    mailbox: Mailbox,
    make_account: Callable[..., Account],
    make_live: Callable[..., CleanupRule],  # noqa: F811
    make_template: Callable[..., EmailTemplate],
) -> None:
    make_account("john", idle_days=24)
    template = make_template()
    rule = make_live(f"{template.pk}:7:person")
    MailSettings.objects.update(paused_until=timezone.now() + timedelta(hours=1))
    tell(organization)

    with pytest.raises(services.RulesWouldWait, match=rule.name):
        services.set_enabled(template=template, is_enabled=False, actor=ACTOR)
    services.set_enabled(template=template, is_enabled=False, actor=ACTOR, is_confirmed=True)
    MailSettings.objects.update(paused_until=None)
    tell(organization)
    silent = list(mailbox.recipients)
    services.set_enabled(template=template, is_enabled=True, actor=ACTOR)
    tell(organization)

    assert silent == []
    assert mailbox.recipients == ["john@example.com"]
