"""Signed webhooks: which events go out, exactly if they happened; signing, retries, the log, sending again."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import transaction
from django.test import Client
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.notifications import services
from apps.notifications.models import AlertChannel, ChannelDelivery
from apps.notifications.services import ChannelInput
from apps.notifications.services.telling import ATTEMPTS, KEPT, forget_old_messages
from apps.notifications.services.webhooks import ACTIONS, NAMES
from apps.operations.models import HandOff, Operation, OperationItem
from apps.operations.services import handoffs
from apps.operations.services.finishing import announce_hold, close
from apps.operators.models import Operator
from apps.operators.services import create_token
from apps.organizations.models import Alert, Organization
from apps.organizations.recorder import Actor, record
from apps.organizations.services import turn_kill_switch_on
from apps.users.models import Account
from aum.common.errors import InvalidInput
from tests.notifications.conftest import ACTOR, Receiver

pytestmark = pytest.mark.django_db
EXAMPLE = Path(django_settings.BASE_DIR) / "docs" / "examples" / "webhook_receiver.py"
SECRET = "a-secret-of-the-receiver-1234"


def add(organization: Organization, receiver: Receiver, *events: str, **fields: Any) -> AlertChannel:
    values = ChannelInput(
        **{
            "name": "Ours",
            "kind": "webhook",
            "address": receiver.url,
            "events": events or NAMES,
            "secret": SECRET,
            **fields,
        }
    )
    return services.create_channel(organization=organization, values=values, actor=ACTOR)[0]


def run_of(organization: Organization, status: str = "running", **fields: Any) -> Operation:
    return Operation.objects.create(
        organization=organization,
        number=Operation.objects.count() + 1,
        kind="manual_operation",
        mode="live",
        initiator="manual",
        actor_text="Ada",
        name="Suspend",
        action="suspend",
        status=status,
        **fields,
    )


def told(receiver: Receiver) -> list[dict[str, Any]]:
    services.deliver_waiting()
    return [json.loads(body) for _path, _headers, body in receiver.got]


def genuine(headers: dict[str, str], body: bytes, secret: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    """What the receiver of the documentation thinks of a message."""
    monkeypatch.setenv("AUM_WEBHOOK_SECRET", secret)
    spec = importlib.util.spec_from_file_location("webhook_receiver", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    lower = {name.lower(): value for name, value in headers.items()}
    return bool(module.is_genuine(lower["x-aum-timestamp"], lower["x-aum-signature"], body))


def test_what_happens_to_runs_is_told_with_figures_and_signed(
    organization: Organization, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(organization, receiver)
    held = run_of(organization, "held", held_reasons=[{"code": "limit_count", "sentence": "63 are more than 50."}])
    announce_hold(held)
    close(held, "rejected", "Not now.", actor=ACTOR)
    close(run_of(organization), "succeeded", "")
    close(run_of(organization), "partial_failure", "")

    messages = told(receiver)
    events = [message for message in messages if message["type"] != "alert.opened"]
    assert [message["type"] for message in events] == ["run.held", "run.rejected", "run.finished", "run.failed"]
    assert events[0]["data"]["run"]["held_reasons"] == ["limit_count"]
    assert events[0]["detail"] == "63 are more than 50."
    assert events[1]["actor"] == {"kind": "operator", "name": "Ada"}
    assert events[2]["data"]["run"]["status"] == "succeeded"
    assert events[2]["link"].endswith(Operation.objects.get(number=2).get_absolute_url())
    assert len({message["id"] for message in messages}) == len(messages)
    _path, headers, body = receiver.got[0]
    assert genuine(headers, body, SECRET, monkeypatch)
    assert not genuine(headers, body + b" ", SECRET, monkeypatch)
    assert not genuine(headers, body, SECRET + "x", monkeypatch)
    assert not genuine({**headers, "X-AUM-Timestamp": "1"}, body, SECRET, monkeypatch)


def test_only_chosen_events_go_out_and_none_of_what_was_rolled_back(
    organization: Organization, receiver: Receiver
) -> None:
    add(organization, receiver, "kill_switch.changed")
    add(organization, receiver, "sync.failed", name="Other")
    add(organization, receiver, "run.finished", name="Off", is_enabled=False)
    close(run_of(organization), "succeeded", "")
    with transaction.atomic():
        turn_kill_switch_on(organization=organization, reason="no", actor=ACTOR)
        transaction.set_rollback(True)
    assert not ChannelDelivery.objects.exists()

    turn_kill_switch_on(organization=organization, reason="Odd figures.", actor=ACTOR)

    (message,) = told(receiver)
    assert (message["type"], message["detail"]) == ("kill_switch.changed", "Odd figures.")
    assert message["data"]["action"] == "kill_switch.on"


def test_values_before_and_after_a_change_are_not_told(organization: Organization, receiver: Receiver) -> None:
    add(organization, receiver, "access.changed")
    record(
        organization=organization,
        actor=ACTOR,
        action="credentials.saved",
        target_kind="credential",
        target_ref="api_key",
        after={"value": "s3cret-value", "token": "t0ken-value"},
    )

    (message,) = told(receiver)
    assert message["data"] == {
        "action": "credentials.saved",
        "target": {"kind": "credential", "ref": "api_key", "name": ""},
    }


def test_the_work_list_of_a_hand_off_comes_in_bearable_parts_and_its_end_is_told(
    organization: Organization, receiver: Receiver, make_account: Callable[..., Account]
) -> None:
    add(organization, receiver, "hand_off.opened", "hand_off.closed")
    operation = run_of(organization, "succeeded")
    person = make_account("sam")
    OperationItem.objects.bulk_create(
        OperationItem(
            organization=organization,
            operation=operation,
            account=person,
            subject=person.account_id,
            action="remove_from_group",
            target=f"group:d/{number}",
            parameters={"name": f"group {number}"},
            status="finished",
            outcome="handed_off",
            detail="Managed elsewhere.",
            finished_at=timezone.now(),
        )
        for number in range(201)
    )
    handoffs.note_finished(operation)
    handoffs.close_hand_off(hand_off=HandOff.objects.order_by("pk").first(), actor=ACTOR, reason="Done by hand")  # type: ignore[arg-type]

    first, second, closed = told(receiver)
    assert [(part["data"]["part"], part["data"]["parts"], len(part["data"]["lines"])) for part in (first, second)] == [
        (1, 2, 200),
        (2, 2, 1),
    ]
    line = first["data"]["lines"][0]
    assert (line["account_id"], line["email"], line["action"], line["target"]) == (
        person.account_id,
        person.email,
        "remove_from_group",
        "group 0",
    )
    assert first["data"]["run"]["number"] == operation.number
    assert (closed["type"], closed["data"]["lines"][0]["reason"]) == ("hand_off.closed", "Done by hand")


def test_one_that_is_down_does_not_keep_the_others_waiting_and_its_wish_to_wait_is_obeyed(
    organization: Organization, receiver: Receiver
) -> None:
    down = add(organization, receiver, "run.finished", name="Down")
    receiver.answers = [(503, {"Retry-After": "1800"})]
    close(run_of(organization), "succeeded", "")
    services.deliver_waiting()
    add(organization, receiver, "run.finished", name="Up")
    close(run_of(organization), "succeeded", "")
    services.deliver_waiting()

    assert len(receiver.got) == 2
    assert set(ChannelDelivery.objects.filter(channel=down).values_list("status", flat=True)) == {"queued"}
    first = ChannelDelivery.objects.filter(channel=down).earliest("pk")
    assert (first.next_attempt_at - timezone.now()).total_seconds() > 1700
    down.refresh_from_db()
    assert down.is_down

    AlertChannel.objects.update(paused_until=None)
    ChannelDelivery.objects.update(next_attempt_at=timezone.now())
    services.deliver_waiting()
    down.refresh_from_db()
    assert (len(receiver.got), down.failures, down.is_down) == (4, 0, False)


def test_a_message_that_cannot_be_delivered_is_told_as_an_alert_and_can_be_sent_again_with_its_id(
    organization: Organization, receiver: Receiver
) -> None:
    add(organization, receiver, "run.finished")
    receiver.answers = [(500, {})]
    close(run_of(organization), "succeeded", "")
    ChannelDelivery.objects.update(attempts=ATTEMPTS - 1)
    services.deliver_waiting()
    assert ChannelDelivery.objects.get().status == "failed"
    assert Alert.objects.of(organization).get().title == "“Ours” did not take a message"

    row = ChannelDelivery.objects.get()
    services.redeliver(delivery=row, actor=ACTOR)
    services.deliver_waiting()
    services.redeliver(delivery=row, actor=ACTOR)
    messages = told(receiver)

    assert [message["id"] for message in messages] == [str(row.uuid)] * 3
    assert Alert.objects.of(organization).get().resolved_at is not None
    assert AuditEvent.objects.filter(action="alert_channel.redelivered").count() == 2
    ChannelDelivery.objects.update(created_at=timezone.now() - KEPT * 2)
    assert forget_old_messages() == 1


def test_a_replaced_secret_signs_beside_the_new_one_for_a_day(
    organization: Organization, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = add(organization, receiver)
    new = services.rotate_channel_secret(channel=row, actor=ACTOR)
    row.refresh_from_db()
    services.test_channel(channel=row, actor=ACTOR)
    _path, headers, body = receiver.got[-1]
    assert genuine(headers, body, SECRET, monkeypatch)
    assert genuine(headers, body, new, monkeypatch)

    AlertChannel.objects.update(old_secret_until=timezone.now())
    row.refresh_from_db()
    services.test_channel(channel=row, actor=ACTOR)
    _path, headers, body = receiver.got[-1]
    assert not genuine(headers, body, SECRET, monkeypatch)
    assert genuine(headers, body, new, monkeypatch)
    assert SECRET.encode() not in bytes(row.encrypted_secret or b"") + bytes(row.encrypted_old_secret or b"")


def test_wrong_entries_are_named_at_their_field(organization: Organization, receiver: Receiver, settings: Any) -> None:
    def faults(**fields: Any) -> set[str]:
        with pytest.raises(InvalidInput) as refused:
            add(organization, receiver, **fields)
        return set(refused.value.fields)

    assert faults(events=["run.finished", "run.flown"]) == {"events"}
    assert faults(events=[]) == {"events"}
    assert faults(secret="short") == {"secret"}
    assert faults(kind="slack") == {"secret"}
    settings.AUM_OUTGOING_ALLOWLIST = []
    assert faults() == {"address"}


def test_pages_show_a_new_secret_once_the_log_and_each_message(
    organization: Organization, receiver: Receiver, operators: Callable[..., Operator], client: Client
) -> None:
    client.force_login(operators(organization, "admin@aum.example", "admin"))
    base = f"/o/{organization.slug}/api-access/webhooks/"
    made = client.post(base, {"name": "Ours", "address": receiver.url, "events": ["run.finished"], "level": "error"})
    row = AlertChannel.objects.get()
    close(run_of(organization), "succeeded", "")
    services.deliver_waiting()
    again = client.post(f"{base}{row.pk}/test/", follow=True).content.decode()
    sent = ChannelDelivery.objects.get(is_test=False)
    listed = client.get(base).content.decode()
    one = client.get(f"{base}{row.pk}/log/{sent.pk}/").content.decode()
    wrong = client.post(f"{base}{row.pk}/", {"name": "", "events": []})
    client.post(f"{base}{row.pk}/log/{sent.pk}/again/")
    resent = told(receiver)[-1]
    gone = client.post(f"{base}{row.pk}/delete/", follow=True).content.decode()

    assert "aumw_" in made.content.decode()
    assert made["Cache-Control"] == "no-store"
    assert "took the test with status 200" in again
    assert "run.finished" in again
    assert "1 event" in listed
    assert "Delivered" in listed
    assert "aumw_" not in again + one + listed
    assert "&quot;status&quot;: &quot;succeeded&quot;" in one
    assert wrong.status_code == 422
    assert resent["id"] == str(sent.uuid)
    assert "No webhooks yet" in gone


def test_rest_does_the_same_and_no_answer_holds_the_secret(
    organization: Organization, receiver: Receiver, operators: Callable[..., Operator], client: Client
) -> None:
    owner = operators(organization, "owner@aum.example", "owner")
    _row, token = create_token(organization=organization, operator=owner, scopes=["admin"], actor=Actor.operator(owner))
    base = f"/api/v1/organizations/{organization.slug}/webhooks/"

    def call(method: str, path: str = "", body: Any = None) -> Any:
        return client.generic(
            method,
            base + path,
            json.dumps(body or {}),
            content_type="application/json",
            headers={"Authorization": f"Bearer {token}"},
        )

    body = {"name": "Ours", "address": receiver.url, "events": ["run.finished"], "secret": SECRET}
    made = call("POST", body=body)
    pk = made.json()["id"]
    changed = call("PATCH", f"{pk}/", {"events": ["run.finished", "sync.failed"]})
    wrong = call("PATCH", f"{pk}/", {"events": ["run.flown"]})
    tested = call("POST", f"{pk}/test/")
    close(run_of(organization), "succeeded", "")
    told(receiver)
    log = call("GET", f"{pk}/deliveries/").json()["results"]
    one = call("GET", f"{pk}/deliveries/{log[0]['id']}/")
    again = call("POST", f"{pk}/deliveries/{log[0]['id']}/redeliver/")

    assert made.status_code == 201, made.content
    assert changed.json()["events"] == ["run.finished", "sync.failed"]
    assert (wrong.status_code, list(wrong.json()["fields"])) == (422, ["events"])
    assert tested.json()["status"] == "sent"
    assert [row["event"] for row in log] == ["run.finished", "test"]
    assert one.json()["payload"]["data"]["run"]["status"] == "succeeded"
    assert (again.status_code, again.json()["status"]) == (202, "queued")
    assert call("DELETE", f"{pk}/").status_code == 204
    assert SECRET not in "".join(answer.content.decode() for answer in (made, changed, tested, one, again))


def test_each_event_is_documented_and_each_action_behind_one_is_written_somewhere() -> None:
    page = (Path(django_settings.BASE_DIR) / "docs" / "webhooks.md").read_text()
    snippet = EXAMPLE.read_text()
    source = "".join(path.read_text() for path in Path(django_settings.BASE_DIR, "apps").rglob("services/*.py"))

    assert [name for name in NAMES if f"`{name}`" not in page] == []
    lines = [line for line in page.split("```python\n")[1].split("```")[0].splitlines() if line.strip()]
    assert all(line in snippet for line in lines)
    made = ("operation.", "safeguard.", "hand_off.")  # from a status or state
    assert [action for action in ACTIONS if not action.startswith(made) and f'"{action}"' not in source] == []
