from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from django.utils import timezone

from apps.operations.services import run_planning
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.rules import selectors
from apps.rules.models import CleanupRule
from apps.rules.services import pause_rule, run_rule, update_rule
from apps.rules.values import RuleInput, clean
from apps.users.models import Account, Activity, ClaimStatus, Exemption, Group, ProtectedGroup
from aum.common.errors import InvalidInput
from tests.rules.conftest import ACTOR, WEDNESDAY, rule_input


def test_rules_are_listed_by_name_and_view(make_rule: Callable[..., CleanupRule], organization: Organization) -> None:
    live, safe, paused = make_rule(name="B", mode="live"), make_rule(name="A"), make_rule(name="C")
    pause_rule(rule=paused, actor=ACTOR)

    found = {view: [rule.name for rule in selectors.rules(organization, view)] for view in selectors.VIEWS}

    assert found == {"all": [safe.name, live.name, "C"], "live": ["B"], "safe": ["A"], "paused": ["C"]}
    assert selectors.rule_counts(organization) == {"all": 3, "live": 1, "safe": 1, "paused": 1}
    with pytest.raises(InvalidInput):
        selectors.rules(organization, "deleted")


@pytest.mark.parametrize("count", [2, 20])
def test_a_list_takes_the_same_number_of_queries(
    make_rule: Callable[..., CleanupRule],
    make_group: Callable[..., Group],
    organization: Organization,
    django_assert_num_queries: Any,
    count: int,
) -> None:
    group = make_group("jira-admins")
    for number in range(count):
        make_rule(name=f"Rule {number}", protected_groups=(group.pk,))

    with django_assert_num_queries(5):
        for rule in selectors.rules(organization):
            assert [str(one) for one in rule.protected_groups.all()] == ["jira-admins"]
            assert list(rule.target_groups.all()) == []
            assert rule.organization.slug
            assert rule.edited_by


def test_the_next_run_shown_is_the_one_stored_for_firing(make_rule: Callable[..., CleanupRule]) -> None:
    with time_machine.travel(WEDNESDAY, tick=False):
        rule = make_rule(recurrence="weekly", weekdays=(2,))

        assert selectors.next_run_at(rule) == rule.next_run_at == datetime(2026, 12, 2, 6, tzinfo=UTC)
        assert selectors.next_runs(rule, 2, WEDNESDAY)[1] == datetime(2026, 12, 9, 6, tzinfo=UTC)


def test_a_preview_is_fresh_until_the_next_edit(make_rule: Callable[..., CleanupRule], operator: Operator) -> None:
    rule = make_rule()
    assert not selectors.has_fresh_preview(rule)

    run_planning(run_rule(rule=rule, actor=ACTOR, operator=operator).pk)
    assert selectors.has_fresh_preview(rule)

    def edit(rule: CleanupRule, **fields: Any) -> CleanupRule:
        values = dataclasses.replace(RuleInput.of(rule), **fields)
        return update_rule(rule=rule, values=values, expected_version=rule.version, actor=ACTOR, operator=operator)

    rule = edit(rule, notes="Agreed with the works council.")
    assert selectors.has_fresh_preview(rule)
    assert not selectors.has_fresh_preview(edit(rule, inactive_days=30))


# --- the sentence ---------------------------------------------------------------------------------------------------


@pytest.fixture
def groups(make_group: Callable[..., Group]) -> dict[str, int]:
    names = ("contractors", "vendor-optics", "jira-admins", "site-admins", "break-glass", "auditors")
    return {name: make_group(name).pk for name in names}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "Every day at 06:00 UTC, suspend users who have not logged in to any product for 60 days."),
        (
            {
                "recurrence": "weekly",
                "weekdays": (3,),
                "target": "specified_groups",
                "target_groups": ("contractors",),
                "include_never_active": True,
                "never_active_days": 60,
                "protected_groups": ("jira-admins",),
            },
            "Every Thursday at 06:00 UTC, suspend members of contractors who have not logged in to any product for "
            "60 days, or never logged in since their invite, unless they are in jira-admins.",
        ),
        (
            {
                "action": "deactivate",
                "inactive_products": ("jira", "confluence"),
                "inactive_days": 1,
                "include_never_active": True,
                "never_active_days": 30,
                "timezone": "Europe/Vienna",
            },
            "Every day at 06:00 Europe/Vienna, deactivate managed users who have not logged in to Confluence or Jira "
            "Software for 1 day, or never logged in since their invite more than 30 days ago.",
        ),
        (
            {
                "action": "remove_product_access",
                "target_products": ("jsm",),
                "recurrence": "monthly",
                "month_day": 31,
                "protected_groups": ("jira-admins", "site-admins"),
            },
            "On the last day of each month at 06:00 UTC, remove access to Jira Service Management from users who have "
            "not logged in to it for 60 days, unless they are in jira-admins or site-admins.",
        ),
        (
            {
                "action": "remove_product_access",
                "target_products": ("jira", "confluence"),
                "target_sites": ("acme.atlassian.net",),
                "target": "specified_groups",
                "target_groups": ("contractors", "vendor-optics"),
                "recurrence": "monthly",
                "month_day": 30,
                "protected_groups": ("jira-admins", "site-admins", "break-glass", "auditors"),
            },
            "On day 30 of each month, or on the last day of a shorter one, at 06:00 UTC, remove access to Confluence "
            "and Jira Software on acme.atlassian.net from members of contractors or vendor-optics who have not logged "
            "in to the product in question for 60 days, unless they are in one of 4 protected groups.",
        ),
        (
            {"recurrence": "weekly", "weekdays": (0, 2, 4)},
            "Every Monday, Wednesday and Friday at 06:00 UTC, suspend users who have not logged in to any product for "
            "60 days.",
        ),
    ],
)
def test_the_sentence(
    organization: Organization, groups: dict[str, int], fields: dict[str, Any], expected: str
) -> None:
    for name in ("target_groups", "protected_groups"):
        if name in fields:
            fields = fields | {name: tuple(groups[group] for group in fields[name])}

    values = clean(rule_input(**fields), organization)

    assert selectors.sentence(values, organization=organization) == expected


def test_the_sentence_of_a_rule_is_that_of_its_values(
    make_rule: Callable[..., CleanupRule], organization: Organization, groups: dict[str, int]
) -> None:
    rule = make_rule(protected_groups=(groups["jira-admins"],))

    assert selectors.sentence(rule) == selectors.sentence(RuleInput.of(rule), organization=organization)
    with pytest.raises(TypeError):
        selectors.sentence(RuleInput.of(rule))


@pytest.mark.parametrize(
    "fields",
    [
        {"run_at": None},
        {"inactive_days": None},
        {"recurrence": "weekly"},
        {"recurrence": "monthly"},
        {"target": "specified_groups"},
        {"action": "remove_product_access"},
    ],
)
def test_an_unfinished_rule_has_a_sentence_too(organization: Organization, fields: dict[str, Any]) -> None:
    text = selectors.sentence(rule_input(**fields), organization=organization)

    assert text.endswith(".")


# --- the estimate ---------------------------------------------------------------------------------------------------


def test_the_estimate_counts_matches_by_reason_and_who_is_left_out(
    make_account: Callable[..., Account], make_group: Callable[..., Group], organization: Organization
) -> None:
    admins = make_group("jira-admins")
    make_account("idle")
    make_account("recent", idle_days=3)
    make_account("never", idle_days=None, added_days=200)
    make_account("new", idle_days=None, added_days=5)
    make_account("admin", groups=[admins])
    make_account("unknown", jira_activity=Activity.UNKNOWN, has_unknown_activity=True)
    exempt = make_account("exempt", exempt_until=timezone.now() + timedelta(days=1))
    Exemption.objects.create(
        organization=organization, account=exempt, reason="Leave", starts_at=timezone.now(), set_by="Ada"
    )
    make_account("boss", is_org_admin=True)

    result = selectors.estimate(
        organization,
        clean(rule_input(include_never_active=True, never_active_days=30, protected_groups=(admins.pk,)), organization),
    )

    assert (result.matches, result.people_licensed) == (2, 8)
    assert result.by_reason == (("Never logged in", 1), ("Not logged in for 60 days", 1))
    assert result.left_out == (("protected", 2), ("exempt", 1), ("last login not known", 1))
    assert result.share_percent == 25
    assert result.over_limit  # the organisation's 10 %
    assert result.limit_text == "Above the limit of 0 users (10 %): a live run waits for an approval."


def test_the_estimate_measures_against_the_tighter_limit(
    make_account: Callable[..., Account], organization: Organization
) -> None:
    for number in range(20):
        make_account(f"person{number}", idle_days=90 if number < 1 else 1)

    half = selectors.estimate(organization, clean(rule_input(), organization))
    count = selectors.estimate(organization, clean(rule_input(max_count=1), organization))
    tight = selectors.estimate(organization, clean(rule_input(max_share_percent=Decimal(4)), organization))

    assert (half.over_limit, half.limit_text) == (False, "50 % of the limit of 2 users (10 %).")
    assert (count.over_limit, count.limit_text) == (False, "100 % of the limit of 1 users.")
    assert tight.over_limit


@pytest.mark.parametrize(("seconds", "matches"), [(-2, 0), (2, 1)])
def test_the_boundary_of_the_threshold(
    make_account: Callable[..., Account], organization: Organization, seconds: int, matches: int
) -> None:
    """S126: strictly more than 60 × 24 h."""
    with time_machine.travel(WEDNESDAY, tick=False):
        make_account("edge", idle_days=60 + seconds / 86400)

        assert selectors.estimate(organization, clean(rule_input(), organization)).matches == matches


def test_the_margin_is_added_to_the_threshold(make_account: Callable[..., Account], organization: Organization) -> None:
    organization.activity_margin_hours = 48
    make_account("edge", idle_days=61)
    make_account("over", idle_days=62.1)

    assert selectors.estimate(organization, clean(rule_input(), organization)).matches == 1


def test_a_rule_about_one_product_ignores_others_and_says_who_is_active_there(
    make_account: Callable[..., Account], organization: Organization
) -> None:
    now = timezone.now()
    make_account("jira-only")
    make_account(
        "both",
        products=("jira", "confluence"),
        confluence_last_active_at=now - timedelta(days=1),
        last_active_at=now - timedelta(days=1),
    )
    make_account("confluence-only", products=("confluence",))

    by_product = selectors.estimate(organization, clean(rule_input(inactive_products=("jira",)), organization))
    overall = selectors.estimate(organization, clean(rule_input(), organization))
    removal = clean(rule_input(action="remove_product_access", target_products=("jira", "confluence")), organization)

    assert (by_product.matches, by_product.active_elsewhere) == (2, 1)
    assert (overall.matches, overall.active_elsewhere) == (2, 0)
    each = selectors.estimate(organization, removal)
    assert (each.matches, each.active_elsewhere, each.is_upper_bound) == (3, 1, True)


def test_deactivation_leaves_out_unmanaged_people(
    make_account: Callable[..., Account], organization: Organization
) -> None:
    make_account("managed")
    make_account("external", claim_status=ClaimStatus.UNMANAGED)

    result = selectors.estimate(organization, clean(rule_input(action="deactivate"), organization))

    assert (result.matches, result.left_out) == (1, (("not managed by this organisation", 1),))


def test_nobody_outside_the_target_groups_is_counted(
    make_account: Callable[..., Account], make_group: Callable[..., Group], organization: Organization
) -> None:
    contractors = make_group("contractors")
    make_account("inside", groups=[contractors])
    make_account("outside")

    values = clean(rule_input(target="specified_groups", target_groups=(contractors.pk,)), organization)

    assert selectors.estimate(organization, values).matches == 1


def test_the_estimate_of_an_empty_organisation_is_nobody(organization: Organization) -> None:
    result = selectors.estimate(organization, clean(rule_input(), organization))

    assert (result.matches, result.people_licensed, result.share_percent, result.over_limit) == (0, 0, 0.0, False)


def test_the_estimate_is_what_the_plan_then_holds(
    make_rule: Callable[..., CleanupRule],
    make_account: Callable[..., Account],
    make_group: Callable[..., Group],
    organization: Organization,
    operator: Operator,
) -> None:
    admins = make_group("jira-admins")
    ProtectedGroup.objects.create(organization=organization, group=admins, added_at=timezone.now(), added_by="Ada")
    for number in range(6):
        make_account(f"person{number}", idle_days=19 * number, groups=[admins] if number == 5 else [])
    rule = make_rule()

    result = selectors.estimate(organization, RuleInput.of(rule))
    run = run_rule(rule=rule, actor=ACTOR, operator=operator)
    run_planning(run.pk)
    run.refresh_from_db()

    assert (result.matches, result.people_licensed) == (run.people_count, run.licensed_count) == (1, 6)
    assert sum(count for _label, count in result.left_out) == sum(run.left_out.values()) == 1


# --- warnings -------------------------------------------------------------------------------------------------------


def test_groups_that_are_targeted_and_protected_are_warned_about(
    organization: Organization, groups: dict[str, int]
) -> None:
    contractors, vendors = groups["contractors"], groups["vendor-optics"]

    def warn(targets: tuple[int, ...], protected: tuple[int, ...]) -> list[str]:
        values = rule_input(target="specified_groups", target_groups=targets, protected_groups=protected)
        return selectors.warnings(organization, clean(values, organization))

    assert warn((contractors,), (vendors,)) == []
    assert "can never act on anybody" in warn((contractors,), (contractors,))[0]
    assert "protection wins" in warn((contractors, vendors), (contractors,))[0]
    assert selectors.warnings(organization, clean(rule_input(run_at=time(1)), organization)) == []
