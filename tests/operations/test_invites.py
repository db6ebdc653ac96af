"""Invitations against the sandbox: planned, sent 25 to a call, each address with its own outcome, undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from apps.audit.models import AuditEvent
from apps.operations import services
from apps.operations.models import Operation
from apps.operations.services import claims
from apps.operations.services.imports import check_file, plan_invitations
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.sandbox.server import Sandbox
from apps.users.models import Account, Group
from apps.users.selectors.imports import product_places
from apps.users.services.imports import read_import, upload_import
from aum.common.errors import InvalidInput


@pytest.fixture
def invite(organization: Organization, author: Operator, execute: Callable[[Operation], Operation]) -> Any:
    """Plan invitations and run them at once; with `run=False` only plan them."""

    def make(*, run: bool = True, **fields: Any) -> Operation:
        operation = plan_invitations(
            organization=organization, actor=Actor.operator(author), operator=author, mode="live", **fields
        )
        services.run_planning(operation.pk)
        operation.refresh_from_db()
        return execute(operation) if run else operation

    return make


def invite_calls(sandbox: Sandbox) -> list[Any]:
    entries = sandbox.control.get("requests")["requests"]
    return [entry for entry in entries if entry["path"].endswith("/users/invite")]


def outcomes(operation: Operation) -> dict[str, str]:
    return dict(operation.items.values_list("subject", "outcome"))


def _group(organization: Organization) -> Group:
    return Group.objects.of(organization).filter(
        is_synced=False, is_administrative=False, are_grants_known=True, granted_products=0
    )[0]


def test_new_people_are_invited_in_calls_of_25_and_stand_in_the_directory(
    invite: Any, organization: Organization, sandbox: Sandbox, author: Operator, execute: Callable[..., Operation]
) -> None:
    known = Account.objects.of(organization).filter(email__isnull=False, membership_status=1, vanished_at=None)[0]
    emails = [f"new{number}@larkspur.example" for number in range(30)]
    group, place = _group(organization), product_places(organization)[0]
    sandbox.control.post("mutate", {"capacity": [place.resource, 10_000]})

    done = invite(emails=[*emails, known.email.lower()], group_ids=[group.pk], resources=[place.resource])

    assert (done.kind, done.status, done.people_count) == ("user_import", "succeeded", 30)
    assert done.left_out == {"already_member": 1}
    assert set(outcomes(done).values()) == {"done"}
    assert len(invite_calls(sandbox)) == 2
    item = done.items.select_related("account").get(subject=emails[3])
    assert item.account is not None
    assert group.pk in item.account.group_ids
    assert item.account.idle_floor_at is not None
    assert AuditEvent.objects.filter(action="account.invite", outcome="success").count() == 30

    # Undone: out of the directory again, but not who has used it.
    used = done.items.get(subject=emails[0]).account
    sandbox.control.post("touch", {"account": used.account_id, "at": 2_000_000_000_000})
    undo = services.undo_operation(operation=done, actor=Actor.operator(author), operator=author)
    services.run_planning(undo.pk)
    undo.refresh_from_db()
    assert undo.action == "cancel_invite"
    undone = execute(undo)
    assert sorted(outcomes(undone).values()).count("skipped_conflict") == 1
    assert sorted(outcomes(undone).values()).count("done") == 29


def test_a_part_that_fails_fails_for_its_address_alone(
    invite: Any, organization: Organization, sandbox: Sandbox
) -> None:
    place = product_places(organization)[0]
    used = sandbox.control.get("info")["seats"][place.resource]["used"]
    sandbox.control.post("mutate", {"capacity": [place.resource, used + 2]})

    done = invite(emails=[f"x{number}@larkspur.example" for number in range(4)], resources=[place.resource])

    assert sorted(outcomes(done).values()) == ["done", "done", "failed_licence_limit", "failed_licence_limit"]
    assert "License limit exceeded" in done.items.filter(outcome="failed_licence_limit")[0].detail


def test_invitation_whose_answer_was_lost_is_read_and_sent_once(
    invite: Any, organization: Organization, settings: Any, execute: Callable[..., Operation]
) -> None:
    settings.AUM_READ_BACK_DELAY_SECONDS = 0.1
    operation = invite(run=False, emails=["a@larkspur.example", "b@larkspur.example"])
    claim = claims.claim_chunk(operation.pk, 10)
    assert all(claims.may_write(item, claim.token) for item in claim.items)  # … and the worker dies here
    operation.items.update(lease_until=operation.created_at)
    Operation.objects.filter(pk=operation.pk).update(driven_at=None)

    done = execute(operation)

    assert outcomes(done) == {"a@larkspur.example": "done", "b@larkspur.example": "done"}


def test_file_invites_its_unknown_people_with_their_own_groups(
    invite: Any, organization: Organization, author: Operator
) -> None:
    group = _group(organization)
    admin = Group.objects.of(organization).filter(is_administrative=True)[0]
    known = Account.objects.of(organization).filter(email__isnull=False, membership_status=1, vanished_at=None)[0]
    place = product_places(organization)[0]
    content = (
        "Email,Groups,Products\n"
        f"n1@larkspur.example,{group.name},\n"
        f"n2@larkspur.example,{admin.name},\n"
        f"n3@larkspur.example,no-such-group,\nn4@larkspur.example,,{place.label.replace(' on ', ' - ')}\n"
        f"N1@larkspur.example,,\nnot-an-address,,\n{known.email},,\n"
    )
    file = upload_import(
        organization=organization, name="n.csv", content=content.encode(), actor=Actor.operator(author)
    )
    read_import(file.pk)
    file.refresh_from_db()
    file = check_file(file=file, mapping=file.mapping)
    assert file.counts["invitable"] == 4
    assert "grants administration" in file.rows.get(line=3).fault
    assert file.rows.get(line=4).fault == "There is no group no-such-group."

    done = invite(file=file, uses_file_grants=True)

    assert outcomes(done) == {"n1@larkspur.example": "done", "n4@larkspur.example": "done"}
    assert done.items.get(subject="n1@larkspur.example").account.group_ids.count(group.pk) == 1
    assert done.left_out == {"already_member": 1}


def test_what_gives_administration_and_what_stands_alone_is_refused(
    organization: Organization, author: Operator, plan: Callable[..., Operation], invite: Any
) -> None:
    admin = Group.objects.of(organization).filter(is_administrative=True, is_synced=False)[0]
    with pytest.raises(InvalidInput) as refused:
        invite(emails=["a@larkspur.example"], group_ids=[admin.pk])
    assert "grants administration" in refused.value.fields["groups"][0]
    with pytest.raises(InvalidInput):
        invite(emails=["a@larkspur.example"], resources=["ari:cloud:jira::site/other"])
    with pytest.raises(InvalidInput):
        plan("invite")
    with pytest.raises(InvalidInput):
        plan("cancel_invite")
