"""Exemptions of people, groups, domains and kinds: who is covered when, what lists show, and who is told of the end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone

from apps.operations.models import LeftOut, Operation
from apps.operators.models import Operator
from apps.organizations.models import Alert, Organization
from apps.users import exempting, services
from apps.users.models import Account, AccountKind, Exemption, GroupMembership
from apps.users.predicates import exempt_q
from apps.users.services import set_exemption
from aum.common.errors import InvalidInput, NotAllowed
from tests.users.conftest import SYSTEM, make_account, make_group, plain_organization


def exempt_now(organization: Organization) -> set[str]:
    services.settle_exemptions()
    people, now = Account.objects.of(organization), timezone.now()
    found = set(people.filter(exempt_q(now)).values_list("email", flat=True))
    shown = set(people.filter(exempt_until__gt=now).values_list("email", flat=True))
    assert shown == found, "lists show what plans do"
    listed = exempting.exempt_people_q(organization, now)
    assert set(people.filter(listed).values_list("email", flat=True)) == found, "the filter finds whom plans spare"
    assert set(people.exclude(listed).values_list("pk")) == set(people.exclude(exempt_q(now)).values_list("pk"))
    return found


@pytest.fixture
def people(plain: Organization) -> dict[str, Account]:
    group = make_group(plain, "leavers")
    found = {
        "ada": make_account(plain, email="ada@one.example"),
        "bo": make_account(plain, email="bo@two.example", group_ids=[group.pk]),
        "cy": make_account(plain, email="cy@sub.two.example", kind=AccountKind.BOT),
        "di": make_account(plain, email=None),
    }
    GroupMembership.objects.create(organization=plain, account=found["bo"], group=group)
    return found


def test_each_subject_covers_exactly_its_own(plain: Organization, people: dict[str, Account]) -> None:
    other = plain_organization("other")
    make_account(other, email="x@two.example", kind=AccountKind.BOT)
    until = timezone.now() + timedelta(days=9)
    give: dict[str, Any] = {"organization": plain, "reason": "r", "until": until, "actor": SYSTEM}
    group = people["bo"].group_ids[0]
    rows = [
        (set_exemption(**give, account=people["di"]), {None}),
        (set_exemption(**give, group=_groups(group).get()), {"bo@two.example"}),
        (set_exemption(**give, domain="@Two.Example"), {"bo@two.example"}),
        (set_exemption(**give, account_kind=AccountKind.BOT), {"cy@sub.two.example"}),
    ]
    assert exempt_now(plain) == set().union(*(covered for _, covered in rows))
    assert not Account.objects.of(other).filter(exempt_q(timezone.now())).exists()
    for exemption, covered in rows:
        assert set(exempting.covered_by(exemption).values_list("email", flat=True)) == covered
        services.end_exemption(exemption=exemption, actor=SYSTEM)
    assert exempt_now(plain) == set()
    people["bo"].refresh_from_db()
    assert people["bo"].exempt_until is not None  # the idle clock starts here
    assert people["bo"].exempt_until <= timezone.now()


def _groups(pk: Any) -> Any:
    from apps.users.models import Group

    return Group.objects.filter(pk=pk)


def test_who_joins_an_exempt_group_is_exempt_and_who_leaves_is_not(
    plain: Organization, people: dict[str, Account]
) -> None:
    group = _groups(people["bo"].group_ids[0]).get()
    set_exemption(organization=plain, group=group, reason="r", until=None, actor=SYSTEM)
    GroupMembership.objects.create(organization=plain, account=people["ada"], group=group)
    GroupMembership.objects.filter(account=people["bo"]).delete()

    assert exempt_now(plain) == {"ada@one.example"}
    people["bo"].refresh_from_db()
    assert people["bo"].exempt_until is not None
    assert timezone.now() - people["bo"].exempt_until < timedelta(minutes=1)


def test_leave_counts_from_its_first_day(plain: Organization, people: dict[str, Account]) -> None:
    start = timezone.now() + timedelta(days=5)
    leave = set_exemption(
        organization=plain,
        account=people["ada"],
        reason="leave",
        starts_at=start,
        until=start + timedelta(days=30),
        actor=SYSTEM,
    )
    assert exempt_now(plain) == set()
    Exemption.objects.filter(pk=leave.pk).update(starts_at=timezone.now() - timedelta(minutes=5))
    services.settle_exemptions()
    assert exempt_now(plain) == {"ada@one.example"}
    with pytest.raises(InvalidInput):
        set_exemption(organization=plain, account=people["bo"], reason="r", starts_at=start, until=start, actor=SYSTEM)


def test_wrong_subjects_are_refused(plain: Organization, people: dict[str, Account]) -> None:
    give: dict[str, Any] = {"organization": plain, "reason": "r", "until": None, "actor": SYSTEM}
    for wrong in (
        {},
        {"domain": "no domain"},
        {"account": people["ada"], "domain": "two.example"},
        {"account_kind": 9},
    ):
        with pytest.raises(InvalidInput):
            set_exemption(**give, **wrong)
    with pytest.raises(NotAllowed):
        set_exemption(**give, group=make_group(plain_organization("other"), "theirs"))
    with pytest.raises(IntegrityError), transaction.atomic():
        Exemption.objects.create(organization=plain, reason="r", starts_at=timezone.now(), set_by="x")


def test_somebody_is_told_once_a_week_before_the_end(plain: Organization, people: dict[str, Account]) -> None:
    soon = timezone.now() + timedelta(days=6)
    exemption = set_exemption(organization=plain, domain="two.example", reason="r", until=soon, actor=SYSTEM)
    set_exemption(organization=plain, account=people["ada"], reason="r", until=soon + timedelta(days=9), actor=SYSTEM)
    services.snooze(organization=plain, accounts=[people["bo"]], until=soon, reason="r", actor=SYSTEM)

    services.remind_of_exemptions()
    services.remind_of_exemptions()

    alert = Alert.objects.of(plain).get(kind="exemptions_ending")
    assert (alert.title, alert.repeats) == ("1 exemption ends within 7 days", 1)
    assert "everybody at two.example" in alert.detail
    services.extend_exemption(exemption=exemption, until=soon + timedelta(days=90), reason="r", actor=SYSTEM)
    services.remind_of_exemptions()
    alert.refresh_from_db()
    assert alert.resolved_at is not None


def test_names_of_machines_are_proposed(plain: Organization) -> None:
    names = {"svc-jenkins": True, "Build Bot": True, "Abbot Botham": False, "Servicia Api": True, "Cilla Black": False}
    for name in names:
        make_account(plain, name=name, email=f"{len(name)}@x.example")
    make_account(plain, name="Mail", email="no-reply@x.example")
    found = set(exempting.suggested_exemptions(plain, timezone.now()).values_list("name", flat=True))
    assert found == {name for name, is_machine in names.items() if is_machine} | {"Mail"}


@pytest.fixture
def sign_in(plain: Organization, operators: Callable[..., Operator], client: Client) -> Callable[[str], Client]:
    def make(role: str) -> Client:
        client.force_login(operators(plain, f"{role}@aum.example", role))
        return client

    return make


def test_pages_exempt_sets_extend_and_show_their_use(
    plain: Organization, people: dict[str, Account], sign_in: Callable[[str], Client]
) -> None:
    client = sign_in("helpdesk")
    group = people["bo"].group_ids[0]
    assert "leavers" in client.get("/o/plain/exemptions/new/?scope=group").text
    bare = client.post("/o/plain/exemptions/new/", {"scope": "group", "reason": "r"})
    assert (bare.status_code, "Choose a group." in bare.text) == (422, True)
    always = {"scope": "group", "group": group, "reason": "audit", "until": "always"}
    assert "Only an Owner exempts for good" in client.post("/o/plain/exemptions/new/", always).text
    assert client.post("/o/plain/exemptions/new/", {**always, "until": "90"}).status_code == 302
    for scope in ({"scope": "domain", "domain": "two.example"}, {"scope": "kind", "account_kind": 4}):
        start = (timezone.now() + timedelta(days=3)).date().isoformat()
        answer = client.post("/o/plain/exemptions/new/", {**scope, "reason": "r", "until": "30", "start": start})
        assert answer.status_code == 302

    exemption = Exemption.objects.get(group_id=group)
    operation = Operation.objects.create(
        organization=plain,
        number=1,
        kind="scheduled_cleanup",
        mode="safe",
        initiator="automated",
        name="Nightly",
        rule_id=7,
        actor_text="x",
    )
    LeftOut.objects.create(organization=plain, operation=operation, account=people["bo"], reason="exempt")
    page = client.get("/o/plain/exemptions/").text
    assert "1 plan, 1 user" in page
    assert "Nightly" in page
    later = client.get("/o/plain/exemptions/?view=later").text
    assert "two.example" in later
    assert "begins" in later
    assert client.get(f"/o/plain/exemptions/{exemption.pk}/extend/").status_code == 200
    moved = client.post(f"/o/plain/exemptions/{exemption.pk}/extend/", {"reason": "longer", "until": "60"})
    assert moved.status_code == 302
    exemption.refresh_from_db()
    assert exemption.reason == "longer"


def test_people_of_a_list_are_snoozed(
    plain: Organization, people: dict[str, Account], sign_in: Callable[[str], Client]
) -> None:
    client = sign_in("helpdesk")
    chosen = {"accounts": [str(people["ada"].pk), str(people["bo"].pk)], "next": "/o/plain/users/"}
    asked = client.post("/o/plain/exemptions/snooze/", chosen)
    assert "Snooze 2 users" in asked.text
    refused = client.post("/o/plain/exemptions/snooze/", {**chosen, "until": "30", "reason": ""})
    assert (refused.status_code, "Give a reason." in refused.text) == (422, True)
    done = client.post("/o/plain/exemptions/snooze/", {**chosen, "until": "60", "reason": "project"})
    assert done["Location"] == "/o/plain/users/"
    client.post("/o/plain/exemptions/snooze/", {"all": "1", "filters": "kind=bot", "until": "30", "reason": "x"})
    assert exempt_now(plain) == {"ada@one.example", "bo@two.example", "cy@sub.two.example"}
    client.force_login(Operator.objects.create_user("v@aum.example", "x", name="V"))
    assert client.post("/o/plain/exemptions/snooze/", chosen).status_code in (403, 404)
