"""Loosening a safeguard: by another person, an hour later, and only while it is still what was approved (P5)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.operations import services
from apps.operations.models import SafeguardChange
from apps.operations.tasks import apply_safeguards
from apps.operators.models import ApiToken, Grant, Operator
from apps.organizations.models import Alert, Directory, Organization
from apps.organizations.recorder import Actor
from apps.organizations.services import LOOSER_WHEN_GREATER, SETTINGS_FIELDS, update_settings
from apps.users.models import Account, AccountKind, Group, ProtectedGroup
from apps.users.services import protect_group, unprotect_group
from aum.common.errors import InvalidInput, NotAllowed

pytestmark = pytest.mark.django_db
Status = SafeguardChange.Status
Operators = Callable[..., Operator]
HOUR = timedelta(hours=1)


@pytest.fixture
def acme(db: None) -> Organization:
    return Organization.objects.create(slug="acme", name="Acme", org_id="acme-1", api_url="http://127.0.0.1:1")


@pytest.fixture
def author(acme: Organization, operators: Operators) -> Operator:
    """An owner: could approve, were it not the author."""
    return operators(acme, "author@aum.example", "owner")


@pytest.fixture
def approver(acme: Organization, operators: Operators) -> Operator:
    return operators(acme, "approver@aum.example", "approver")


@pytest.fixture
def group(acme: Organization) -> Group:
    directory = Directory.objects.create(organization=acme, directory_id="d1", name="Main", seen_at=timezone.now())
    group = Group.objects.create(organization=acme, directory=directory, group_id="g1", name="site-admins")
    protect_group(group=group, actor=Actor.system())
    return group


def propose(organization: Organization, operator: Operator | None, **changes: Any) -> services.Proposal:
    return services.propose_change(
        organization=organization,
        changes=changes,
        reason="A quarter-end clean-up",
        actor=Actor.operator(operator) if operator else Actor.system(),
        operator=operator,
    )


def pending(organization: Organization, operator: Operator, **changes: Any) -> SafeguardChange:
    change = propose(organization, operator, **changes).pending
    assert change is not None
    return change


def approve(change: SafeguardChange, operator: Operator, **given: Any) -> SafeguardChange:
    return services.approve_change(change=change, operator=operator, actor=Actor.operator(operator), **given)


def value(organization: Organization, name: str) -> Any:
    return getattr(Organization.objects.get(pk=organization.pk), name)


def build_bot(organization: Organization) -> Account:
    states = {"account_status": 1, "membership_status": 1, "claim_status": 1, "management_source": 0}
    return Account.objects.create(
        organization=organization, account_id="bot-1", name="Build bot", kind=AccountKind.BOT, **states
    )


def signed_in(operator: Operator) -> Client:
    client = Client()
    client.force_login(operator)
    return client


def safeguards_form(organization: Organization, **changes: Any) -> dict[str, str]:
    row = Organization.objects.get(pk=organization.pk)
    values = {name: str(changes.get(name, getattr(row, name))) for name in LOOSER_WHEN_GREATER}
    return {**values, "reason": str(changes.get("reason", ""))}


# --- proposing --------------------------------------------------------------------------------------------------------

TIGHTER = {
    "max_count": 400,
    "max_share_percent": Decimal(9),
    "max_group_share_percent": 40,
    "max_per_day": 900,
    "max_failure_percent": 20,
    "activity_margin_hours": 72,
    "max_data_age_hours": 24,
    "max_people_lost_percent": 5,
    "max_activity_lost_percent": 5,
    "snooze_days": 40,
    "held_plan_days": 3,
    "preview_hours": 12,
    "max_regret_percent": 5,
}
LOOSER = {
    "max_count": 600,
    "max_share_percent": Decimal(11),
    "max_group_share_percent": 60,
    "max_per_day": 1100,
    "max_failure_percent": 30,
    "activity_margin_hours": 24,
    "max_data_age_hours": 48,
    "max_people_lost_percent": 15,
    "max_activity_lost_percent": 15,
    "snooze_days": 20,
    "held_plan_days": 6,
    "preview_hours": 48,
    "max_regret_percent": 15,
    "allow_delete_rules": True,
}


def test_every_safeguard_is_tried_here() -> None:
    # Deletion by rules is off until somebody asks for it, so nothing is tighter than what a new organisation has.
    assert set(TIGHTER) | {"allow_delete_rules"} == set(LOOSER) == set(LOOSER_WHEN_GREATER)
    assert SETTINGS_FIELDS - set(LOOSER_WHEN_GREATER) == {
        "name",
        "timezone",
        "currency",
        "calls_in_flight",
        "sync_hour_utc",
        "catch_up_hours",
    }


@pytest.mark.parametrize("name", TIGHTER)
def test_tightening_counts_at_once_without_a_reason(acme: Organization, author: Operator, name: str) -> None:
    proposal = services.propose_change(
        organization=acme, changes={name: TIGHTER[name]}, reason="", actor=Actor.operator(author), operator=author
    )

    assert proposal == services.Proposal((name,), None, ())
    assert value(acme, name) == TIGHTER[name]
    assert not SafeguardChange.objects.exists()


@pytest.mark.parametrize("name", LOOSER)
def test_loosening_changes_nothing_yet_and_is_announced(acme: Organization, author: Operator, name: str) -> None:
    before = getattr(acme, name)

    change = pending(acme, author, **{name: LOOSER[name]})

    assert Decimal(value(acme, name)) == Decimal(before)
    assert (change.status, change.effective_at) == ("pending", None)
    row = AuditEvent.objects.get(action="safeguard.proposed")
    assert row.after == {name: str(LOOSER[name])}
    assert row.reason == "A quarter-end clean-up"
    assert Alert.objects.get(kind="safeguard").title == "A looser safeguard waits for an approval"


def test_mixed_values_are_split(acme: Organization, author: Operator) -> None:
    proposal = propose(acme, author, max_count=600, max_per_day=900, name="Acme Ltd", max_share_percent="12.5")

    assert set(proposal.saved) == {"max_per_day", "name"}
    assert proposal.pending is not None
    assert set(proposal.pending.changes) == {"max_count", "max_share_percent"}
    assert (value(acme, "name"), value(acme, "max_per_day"), value(acme, "max_count")) == ("Acme Ltd", 900, 500)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"max_share_percent": 101, "max_per_day": 900}, "max_share_percent"),
        ({"activity_margin_hours": -1, "max_per_day": 900}, "activity_margin_hours"),
        ({"max_count": "many", "max_per_day": 900}, "max_count"),
        ({"kill_switch_at": None, "max_per_day": 900}, "kill_switch_at"),
    ],
)
def test_wrong_value_saves_nothing_of_the_whole(
    acme: Organization, author: Operator, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        propose(acme, author, **changes)

    assert list(refused.value.fields) == [field]
    assert value(acme, "max_per_day") == 1000
    assert not SafeguardChange.objects.exists()


def test_loosening_needs_a_reason_and_a_person(acme: Organization, author: Operator) -> None:
    with pytest.raises(InvalidInput) as refused:
        services.propose_change(
            organization=acme, changes={"max_count": 600}, reason=" ", actor=Actor.operator(author), operator=author
        )
    with pytest.raises(NotAllowed):
        propose(acme, None, max_count=600)

    assert list(refused.value.fields) == ["reason"]
    assert not SafeguardChange.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_limits_none_of_which_could_trip_are_refused(organization: Organization, operators: Operators) -> None:
    owner = operators(organization, "owner@aum.example", "owner")
    propose(organization, owner, max_per_day=100)

    with pytest.raises(InvalidInput) as refused:
        propose(organization, owner, max_count=99999, max_share_percent=100, max_per_day=99999)
    one_left = propose(organization, owner, max_count=99999, max_share_percent=100)

    assert set(refused.value.fields) == {"max_count", "max_share_percent", "max_per_day"}
    assert one_left.pending is not None


def test_newer_proposal_of_the_same_safeguard_supersedes(acme: Organization, author: Operator) -> None:
    first = pending(acme, author, max_count=600, preview_hours=48)
    other = pending(acme, author, max_per_day=2000)

    second = propose(acme, author, max_count=550)

    first.refresh_from_db()
    other.refresh_from_db()
    assert (first.status, other.status) == ("superseded", "pending")
    assert second.superseded == (first,)
    assert AuditEvent.objects.filter(action="safeguard.superseded").count() == 1
    assert Alert.objects.filter(kind="safeguard", resolved_at=None).count() == 2


def test_tightening_supersedes_what_would_loosen_the_same(
    acme: Organization, author: Operator, approver: Operator
) -> None:
    change = approve(pending(acme, author, max_count=600), approver)

    propose(acme, approver, max_count=100)

    change.refresh_from_db()
    assert change.status == "superseded"
    with time_machine.travel(timezone.now() + 2 * HOUR, tick=False):
        assert services.apply_due_changes() == 0
    assert value(acme, "max_count") == 100


# --- deciding ---------------------------------------------------------------------------------------------------------


def test_author_cannot_approve_even_as_an_owner(acme: Organization, author: Operator) -> None:
    change = pending(acme, author, max_count=600)

    with pytest.raises(services.MayNotDecide, match="of their own"):
        approve(change, author)
    with pytest.raises(IntegrityError), transaction.atomic():
        SafeguardChange.objects.filter(pk=change.pk).update(approved_by=author)

    change.refresh_from_db()
    assert change.status == "pending"


def test_new_approver_cannot_approve_until_a_day_has_passed(acme: Organization, author: Operator) -> None:
    change = pending(acme, author, max_count=600)
    fresh = Operator.objects.create_user("fresh@aum.example", "correct horse battery", name="Fresh")
    Grant.objects.create(
        organization=acme, operator=fresh, role="approver", granted_at=timezone.now(), granted_by="test"
    )

    with pytest.raises(services.MayNotDecide, match="24 hours"):
        approve(change, fresh)
    with time_machine.travel(timezone.now() + timedelta(hours=25), tick=False):
        approve(change, fresh)


@pytest.mark.parametrize("role", ["viewer", "helpdesk", "admin"])
def test_other_roles_neither_approve_nor_reject(
    acme: Organization, author: Operator, operators: Operators, role: str
) -> None:
    change, other = pending(acme, author, max_count=600), operators(acme, f"{role}@aum.example", role)

    with pytest.raises(services.MayNotDecide):
        approve(change, other)
    with pytest.raises(services.MayNotDecide):
        services.reject_change(change=change, operator=other, actor=Actor.operator(other), reason="No")
    with pytest.raises(services.MayNotDecide):
        services.withdraw_change(change=change, operator=other, actor=Actor.operator(other))


def test_approver_of_another_organisation_decides_nothing(
    acme: Organization, author: Operator, operators: Operators
) -> None:
    other = Organization.objects.create(slug="other", name="Other", org_id="other-1", api_url="http://127.0.0.1:1")
    stranger = operators(other, "stranger@aum.example", "owner")
    change = pending(acme, author, max_count=600)

    with pytest.raises(services.MayNotDecide):
        approve(change, stranger)
    client = signed_in(stranger)
    for verb in ("approve", "reject", "withdraw"):
        assert client.post(f"/o/acme/approvals/safeguards/{change.pk}/{verb}/").status_code == 404
        assert client.post(f"/o/other/approvals/safeguards/{change.pk}/{verb}/", {"reason": "x"}).status_code == 404
    assert "Hold a run above" not in client.get("/o/other/approvals/").content.decode()
    change.refresh_from_db()
    assert change.status == "pending"


def test_approval_twice_is_refused_and_keeps_the_first(
    acme: Organization, author: Operator, approver: Operator, operators: Operators
) -> None:
    change = approve(pending(acme, author, max_count=600), approver)

    with pytest.raises(services.NotOpen):
        approve(change, operators(acme, "second@aum.example", "owner"))

    change.refresh_from_db()
    assert change.approved_by == approver


def test_one_operator_types_the_short_name_and_the_password(acme: Organization, author: Operator) -> None:
    Organization.objects.filter(pk=acme.pk).update(is_one_operator=True)
    change = pending(acme, author, max_count=600)

    with pytest.raises(InvalidInput) as refused:
        approve(change, author, confirm="Acme", password="wrong")
    approved = approve(change, author, confirm="acme", password="correct horse battery")

    assert set(refused.value.fields) == {"confirm", "password"}
    assert approved.is_one_operator
    assert approved.effective_at is not None
    assert services.apply_due_changes() == 0
    with time_machine.travel(approved.effective_at, tick=False):
        assert services.apply_due_changes() == 1
    assert value(acme, "max_count") == 600


def test_one_operator_confirmation_is_never_a_tokens(acme: Organization, author: Operator) -> None:
    Organization.objects.filter(pk=acme.pk).update(is_one_operator=True)
    change = pending(acme, author, max_count=600)
    token = ApiToken(pk=1, name="ci", operator=author, organization=acme)

    for actor in (Actor.token(token), Actor.cli("root", author)):
        with pytest.raises(services.MayNotDecide, match="browser"):
            services.approve_change(
                change=change, operator=author, actor=actor, confirm="acme", password="correct horse battery"
            )


def test_approval_is_refused_when_the_value_changed_since(
    acme: Organization, author: Operator, approver: Operator
) -> None:
    change = pending(acme, author, max_count=600)
    update_settings(organization=acme, changes={"max_count": 50}, actor=Actor.system())

    with pytest.raises(services.ChangeImpossible, match="changed since"):
        approve(change, approver)


# --- taking effect ----------------------------------------------------------------------------------------------------


def test_nothing_happens_before_the_hour_is_over(acme: Organization, author: Operator, approver: Operator) -> None:
    with time_machine.travel(timezone.now(), tick=False) as clock:
        change = pending(acme, author, max_count=600, max_share_percent="12.5")
        clock.shift(timedelta(hours=30))
        assert services.apply_due_changes() == 0
        approve(change, approver)
        clock.shift(HOUR - timedelta(seconds=1))
        assert services.apply_due_changes() == 0
        assert value(acme, "max_count") == 500
        clock.shift(timedelta(seconds=1))
        apply_safeguards()
        apply_safeguards()

    change.refresh_from_db()
    assert change.status == "applied"
    assert (value(acme, "max_count"), value(acme, "max_share_percent")) == (600, Decimal("12.50"))
    actions = list(
        AuditEvent.objects.filter(action__startswith="safeguard.").order_by("id").values_list("action", flat=True)
    )
    assert actions == ["safeguard.proposed", "safeguard.approved", "safeguard.applied"]
    applied = AuditEvent.objects.get(action="safeguard.applied")
    assert applied.after is not None
    assert applied.after["approved_by"] == "Approver"
    assert AuditEvent.objects.filter(action="organization.settings_changed").count() == 1
    assert not Alert.objects.filter(kind="safeguard", resolved_at=None).exists()


def test_database_refuses_an_hour_that_is_shorter(acme: Organization, author: Operator, approver: Operator) -> None:
    change = approve(pending(acme, author, max_count=600), approver)
    assert change.approved_at is not None

    with pytest.raises(IntegrityError), transaction.atomic():
        SafeguardChange.objects.filter(pk=change.pk).update(effective_at=change.approved_at + timedelta(minutes=59))


def test_value_that_changed_after_the_approval_ends_the_change_with_an_alert(
    acme: Organization, author: Operator, approver: Operator
) -> None:
    change = approve(pending(acme, author, max_count=600), approver)
    update_settings(organization=acme, changes={"max_count": 50}, actor=Actor.system())

    with time_machine.travel(timezone.now() + 2 * HOUR, tick=False):
        assert services.apply_due_changes() == 0

    change.refresh_from_db()
    assert change.status == "void"
    assert value(acme, "max_count") == 50
    assert "changed since" in Alert.objects.get(kind="safeguard_void").detail
    assert AuditEvent.objects.get(action="safeguard.void").outcome == "warning"


@pytest.mark.django_db(transaction=True)
def test_limits_are_tried_again_when_they_take_effect(organization: Organization, operators: Operators) -> None:
    owner, other = (operators(organization, f"{name}@aum.example", "owner") for name in ("one", "two"))
    propose(organization, owner, max_per_day=100)
    count = approve(pending(organization, owner, max_count=99999, max_share_percent=100), other)
    day = approve(pending(organization, owner, max_per_day=99999), other)

    with time_machine.travel(timezone.now() + 2 * HOUR, tick=False):
        assert services.apply_due_changes() == 1

    count.refresh_from_db()
    day.refresh_from_db()
    assert (count.status, day.status) == ("applied", "void")
    assert "no run could ever be held" in day.ending_reason


@pytest.mark.parametrize("is_approved", [False, True])
def test_rejected_or_withdrawn_changes_never_take_effect(
    acme: Organization, author: Operator, approver: Operator, is_approved: bool
) -> None:
    rejected, withdrawn = pending(acme, author, max_count=600), pending(acme, author, max_per_day=2000)
    if is_approved:
        approve(rejected, approver)
        approve(withdrawn, approver)

    with pytest.raises(InvalidInput):
        services.reject_change(change=rejected, operator=approver, actor=Actor.operator(approver), reason=" ")
    services.reject_change(change=rejected, operator=approver, actor=Actor.operator(approver), reason="Too many")
    services.withdraw_change(change=withdrawn, operator=author, actor=Actor.operator(author))

    with time_machine.travel(timezone.now() + 2 * HOUR, tick=False):
        assert services.apply_due_changes() == 0
    assert (value(acme, "max_count"), value(acme, "max_per_day")) == (500, 1000)
    assert AuditEvent.objects.get(action="safeguard.rejected").reason == "Too many"
    assert AuditEvent.objects.filter(action="safeguard.withdrawn").count() == 1
    assert not Alert.objects.filter(resolved_at=None).exists()
    with pytest.raises(services.NotOpen):
        services.withdraw_change(change=withdrawn, operator=author, actor=Actor.operator(author))


# --- groups -----------------------------------------------------------------------------------------------------------


def test_group_stays_protected_until_approved_and_an_hour_later(
    acme: Organization, author: Operator, approver: Operator, group: Group
) -> None:
    first = services.propose_unprotect(group=group, reason="Not used", actor=Actor.operator(author), operator=author)
    change = services.propose_unprotect(
        group=group, reason="Not used any more", actor=Actor.operator(author), operator=author
    )
    with pytest.raises(services.MayNotDecide):
        approve(change, author)
    approve(change, approver)
    services.apply_due_changes()
    is_protected_at_once = ProtectedGroup.objects.exists()

    with time_machine.travel(timezone.now() + HOUR, tick=False):
        assert services.apply_due_changes() == 1
        assert services.apply_due_changes() == 0

    first.refresh_from_db()
    assert first.status == "superseded"
    assert is_protected_at_once
    assert not ProtectedGroup.objects.exists()
    assert AuditEvent.objects.filter(action="group.unprotected").count() == 1
    assert AuditEvent.objects.get(action="safeguard.applied").group_name == "site-admins"


def test_group_without_protection_has_nothing_to_end(
    acme: Organization, author: Operator, approver: Operator, group: Group
) -> None:
    change = services.propose_unprotect(group=group, reason="x", actor=Actor.operator(author), operator=author)
    approve(change, approver)
    unprotect_group(group=group, actor=Actor.system())

    with pytest.raises(InvalidInput):
        services.propose_unprotect(group=group, reason="x", actor=Actor.operator(author), operator=author)
    with time_machine.travel(timezone.now() + 2 * HOUR, tick=False):
        assert services.apply_due_changes() == 0

    change.refresh_from_db()
    assert change.status == "void"


# --- pages ------------------------------------------------------------------------------------------------------------


def test_pages_lead_from_the_proposal_to_the_effect_without_script(
    acme: Organization, author: Operator, approver: Operator
) -> None:
    with time_machine.travel("2026-11-25T14:10:00+00:00", tick=False) as clock:
        mine, theirs = signed_in(author), signed_in(approver)
        without = mine.post("/o/acme/settings/safeguards/", safeguards_form(acme, max_count=1600))
        proposed = mine.post(
            "/o/acme/settings/safeguards/", safeguards_form(acme, max_count=1600, reason="Quarter end"), follow=True
        )
        own = mine.get("/o/acme/approvals/").content.decode()
        change = SafeguardChange.objects.get()
        waiting = theirs.get("/o/acme/approvals/").content.decode()
        address = f"/o/acme/approvals/safeguards/{change.pk}/approve/"
        question = theirs.get(address).content.decode()
        refused = mine.post(address)
        approved = theirs.post(address, follow=True).content.decode()
        page = mine.get("/o/acme/settings/safeguards/").content.decode()
        clock.shift(HOUR)
        services.apply_due_changes()
        decided = theirs.get("/o/acme/approvals/?view=decided").content.decode()

    assert without.status_code == 422
    assert 'id="id_reason_error"' in without.content.decode()
    text = proposed.content.decode()
    assert "500 → 1,600 people" in text
    assert "Quarter end" in text
    assert "Waits for approval" in text
    assert "Nobody approves a change of their own." in own
    assert f"/safeguards/{change.pk}/approve/" not in own
    assert f"/safeguards/{change.pk}/withdraw/" in own
    assert "1 change of safeguards waits" in waiting
    assert f"/safeguards/{change.pk}/approve/" in waiting
    assert "one hour after the approval" in question
    assert refused.status_code == 403
    assert "takes effect" in approved
    assert "25 Nov 2026, 15:10 UTC" in approved
    assert "25 Nov 2026, 15:10 UTC" in page
    assert "In force" in decided
    assert value(acme, "max_count") == 1600


def test_reject_and_withdraw_pages(acme: Organization, author: Operator, approver: Operator) -> None:
    one, two = pending(acme, author, max_count=600), pending(acme, author, max_per_day=2000)
    base = "/o/acme/approvals/safeguards"

    without = signed_in(approver).post(f"{base}/{one.pk}/reject/", {"reason": ""})
    signed_in(approver).post(f"{base}/{one.pk}/reject/", {"reason": "Too many"})
    signed_in(author).post(f"{base}/{two.pk}/withdraw/")
    late = signed_in(approver).post(f"{base}/{two.pk}/approve/", follow=True)

    one.refresh_from_db()
    two.refresh_from_db()
    assert without.status_code == 422
    assert (one.status, one.ending_reason, two.status) == ("rejected", "Too many", "withdrawn")
    assert "not waiting any more" in late.content.decode()


def test_one_operator_page_asks_for_name_and_password(acme: Organization, author: Operator) -> None:
    Organization.objects.filter(pk=acme.pk).update(is_one_operator=True)
    change = pending(acme, author, max_count=600)
    client, address = signed_in(author), f"/o/acme/approvals/safeguards/{change.pk}/approve/"

    question = client.get(address).content.decode()
    wrong = client.post(address, {"confirm": "acme", "password": "nope"})
    client.post(address, {"confirm": "acme", "password": "correct horse battery"})

    change.refresh_from_db()
    assert "Type acme to confirm" in question
    assert wrong.status_code == 422
    assert "nope" not in wrong.content.decode()
    assert change.status == "approved"


def test_page_ends_a_protection_only_by_proposal(acme: Organization, author: Operator, group: Group) -> None:
    client = signed_in(author)

    answer = client.post(f"/o/acme/settings/groups/{group.pk}/unprotect/", {"reason": "Not used"}, follow=True)

    assert "stays protected" in answer.content.decode()
    assert "Its end waits for approval" in answer.content.decode()
    assert ProtectedGroup.objects.filter(group=group).exists()
    assert "End the protection of the group site-admins" in client.get("/o/acme/approvals/").content.decode()


def test_list_of_changes_costs_the_same_for_many(acme: Organization, author: Operator, approver: Operator) -> None:
    def queries() -> int:
        client = signed_in(approver)
        with CaptureQueriesContext(connection) as captured:
            client.get("/o/acme/approvals/")
        return len(captured)

    for name in ("max_count", "max_per_day"):
        pending(acme, author, **{name: LOOSER[name]})
    queries()  # fills what the page keeps for a while
    few = queries()
    for name in set(LOOSER) - {"max_count", "max_per_day"}:
        pending(acme, author, **{name: LOOSER[name]})

    assert queries() == few


def test_markup_in_a_reason_is_text(acme: Organization, author: Operator, approver: Operator) -> None:
    services.propose_change(
        organization=acme,
        changes={"max_count": 600},
        reason="<script>alert(1)</script>",
        actor=Actor.operator(author),
        operator=author,
    )

    assert "<script>alert(1)" not in signed_in(approver).get("/o/acme/approvals/").content.decode()


# --- marks of groups and accounts, and rules ------------------------------------------------------------------------


def test_licence_only_and_kind_wait_for_another_person_and_come_back_at_once(
    acme: Organization, author: Operator, approver: Operator, group: Group, client: Client
) -> None:
    bot = build_bot(acme)
    client.force_login(author)
    pages = [
        reverse("operations:licence_only", args=[acme.slug, group.pk]),
        reverse("operations:kind", args=[acme.slug, bot.pk]),
    ]
    for page in pages:
        assert client.get(page).status_code == 200
        assert client.post(page, {"reason": " "}).status_code == 422
        assert client.post(page, {"reason": "Needed for the clean-up"}).status_code == 302
    changes = list(SafeguardChange.objects.of(acme).order_by("pk"))
    assert [change.kind for change in changes] == ["licence_only", "release_kind"]
    group.refresh_from_db()
    bot.refresh_from_db()
    assert not group.is_licence_only
    assert not bot.is_kind_released

    for change in changes:
        with pytest.raises(services.MayNotDecide):
            services.approve_change(change=change, operator=author, actor=Actor.operator(author))
        services.approve_change(change=change, operator=approver, actor=Actor.operator(approver))
    assert services.apply_due_changes() == 0
    with time_machine.travel(timezone.now() + timedelta(hours=1, seconds=1)):
        assert services.apply_due_changes() == 2
    group.refresh_from_db()
    bot.refresh_from_db()
    assert group.is_licence_only
    assert bot.is_kind_released

    for page in pages:
        assert client.post(page, {"reason": "No longer"}).status_code == 302
    group.refresh_from_db()
    bot.refresh_from_db()
    assert not group.is_licence_only
    assert not bot.is_kind_released


def test_what_is_no_longer_in_atlassian_is_not_released(
    acme: Organization, author: Operator, approver: Operator, group: Group, client: Client
) -> None:
    bot = build_bot(acme)
    client.force_login(author)
    for name, pk in (("licence_only", group.pk), ("kind", bot.pk)):
        client.post(reverse(f"operations:{name}", args=[acme.slug, pk]), {"reason": "Needed for the clean-up"})
    Group.objects.update(vanished_at=timezone.now())
    Account.objects.filter(pk=bot.pk).update(vanished_at=timezone.now())

    for change, gone in zip(SafeguardChange.objects.of(acme).order_by("pk"), (group.name, "Build bot"), strict=True):
        with pytest.raises(services.ChangeImpossible, match=f"{gone} is no longer in Atlassian"):
            approve(change, approver)
    Group.objects.update(vanished_at=None)
    assert approve(SafeguardChange.objects.get(kind="licence_only"), approver).status == "approved"


def test_rest_proposes_and_decides_but_never_by_a_token(
    acme: Organization, author: Operator, approver: Operator, group: Group, client: Client
) -> None:
    address = f"/api/v1/organizations/{acme.slug}/safeguard-changes/"
    asked = {"kind": "licence_only", "group": group.pk, "reason": "Only the licence"}

    client.force_login(author)
    answer = client.post(address, asked, content_type="application/json")

    assert answer.status_code == 201, answer.content
    mine = client.post(f"{address}{answer.json()['id']}/approve/", content_type="application/json")
    assert mine.status_code == 403
    client.force_login(approver)
    approved = client.post(f"{address}{answer.json()['id']}/approve/", content_type="application/json")
    assert (approved.status_code, approved.json()["status"]) == (200, "approved")
    assert client.get(address, {"status": "approved"}).json()["results"][0]["group"] == group.pk
    assert client.post(address, asked, content_type="application/json").status_code == 403
