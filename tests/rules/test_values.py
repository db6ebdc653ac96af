from __future__ import annotations

from collections.abc import Callable
from datetime import time
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from apps.organizations.models import Organization
from apps.rules.models import CleanupRule
from apps.rules.values import DAYS_SENTENCE, RuleInput, clean
from apps.users.models import Account, Group
from aum.common.errors import InvalidInput
from tests.rules.conftest import make_organization, rule_input


def refused(organization: Organization, **fields: Any) -> dict[str, list[str]]:
    with pytest.raises(InvalidInput) as caught:
        clean(rule_input(**fields), organization)
    return caught.value.fields


@pytest.mark.parametrize("days", [0, -1, "0", "-5", "sixty", "6.5", 6.5, "", " ", None, True, "6 0", "1e3", "٣"])
def test_days_that_are_no_whole_number_from_one_are_refused(organization: Organization, days: Any) -> None:
    assert refused(organization, inactive_days=days) == {"inactive_days": [DAYS_SENTENCE]}


def test_the_sentence_about_days_says_what_to_do() -> None:
    assert DAYS_SENTENCE == "Enter 1 or more days, or turn this condition off."


@pytest.mark.parametrize(("text", "days"), [("60", 60), (" 1 ", 1), (3650, 3650), ("+7", 7)])
def test_days_may_come_as_text(organization: Organization, text: Any, days: int) -> None:
    assert clean(rule_input(inactive_days=text), organization).inactive_days == days


def test_more_days_than_ten_years_are_refused(organization: Organization) -> None:
    assert refused(organization, inactive_days=3651) == {"inactive_days": ["Enter at most 3,650 days."]}


@pytest.mark.parametrize("days", [None, 0, "text"])
def test_never_active_needs_its_own_days(organization: Organization, days: Any) -> None:
    fields = refused(organization, include_never_active=True, never_active_days=days)

    assert fields == {"never_active_days": [DAYS_SENTENCE]}


def test_never_active_days_are_dropped_when_the_condition_is_off(organization: Organization) -> None:
    assert clean(rule_input(never_active_days="nonsense"), organization).never_active_days is None


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"name": "  "}, "name"),
        ({"name": "x" * 121}, "name"),
        ({"name": "null \x00 byte"}, "name"),
        ({"mode": "careful"}, "mode"),
        ({"action": "purge"}, "action"),
        ({"action": "delete", "status_days": 30}, "action"),  # switched off
        ({"action": "delete"}, "status_days"),
        ({"action": "restore"}, "conditions"),
        ({"action": "add_to_group"}, "action_groups"),
        ({"owner": "nobody@example.com"}, "owner"),
        ({"notes": "x" * 4001}, "notes"),
        ({"window_minutes": 4}, "window_minutes"),
        ({"blackout_dates": ("soon",)}, "blackout_dates"),
        ({"blackout_dates": ("2027-01-02..2027-01-01",)}, "blackout_dates"),
        ({"blackout_dates": ("9999-12-31",)}, "blackout_dates"),
        ({"saved_view": 4711}, "saved_view"),
        ({"conditions": ({"name": "nothing"},)}, "conditions.0"),
        ({"conditions": ({"name": "kind", "values": ("person",)}, {"name": "domain"})}, "conditions.1"),
        ({"conditions": ({"name": "activity", "values": ("unknown",)},)}, "conditions.0"),
        ({"conditions": ({"name": "group", "groups": (999_999,)},)}, "conditions.0"),
        ({"inactive_days": None, "include_never_active": False}, "inactive_days"),
        ({"target": "nobody"}, "target"),
        ({"target": "specified_groups"}, "target_groups"),
        ({"target": "specified_groups", "target_groups": (999_999,)}, "target_groups"),
        ({"protected_groups": ("jira-admins",)}, "protected_groups"),
        ({"protected_groups": (10**30,)}, "protected_groups"),
        ({"action": "remove_product_access"}, "target_products"),
        ({"action": "remove_product_access", "target_products": ("ji ra",)}, "target_products"),
        ({"inactive_products": ("",)}, "inactive_products"),
        ({"include_never_active": "perhaps"}, "include_never_active"),
        ({"recurrence": "hourly"}, "recurrence"),
        ({"recurrence": "weekly"}, "weekdays"),
        ({"recurrence": "weekly", "weekdays": (7,)}, "weekdays"),
        ({"recurrence": "weekly", "weekdays": ("someday",)}, "weekdays"),
        ({"recurrence": "monthly"}, "month_day"),
        ({"recurrence": "monthly", "month_day": 0}, "month_day"),
        ({"recurrence": "monthly", "month_day": 32}, "month_day"),
        ({"run_at": None}, "run_at"),
        ({"run_at": "24:00"}, "run_at"),
        ({"run_at": "noon"}, "run_at"),
        ({"timezone": "Europe/Viena"}, "timezone"),
        ({"max_count": 0}, "max_count"),
        ({"max_count": "many"}, "max_count"),
        ({"max_share_percent": "101"}, "max_share_percent"),
        ({"max_share_percent": "-1"}, "max_share_percent"),
        ({"max_share_percent": "NaN"}, "max_share_percent"),
        ({"max_share_percent": "1e30"}, "max_share_percent"),
        ({"max_share_percent": "1.234"}, "max_share_percent"),
    ],
)
def test_a_wrong_value_is_refused_at_its_field(organization: Organization, fields: dict[str, Any], name: str) -> None:
    assert list(refused(organization, **fields)) == [name]


def test_every_wrong_field_is_named_at_once(organization: Organization) -> None:
    with pytest.raises(InvalidInput) as caught:
        clean(RuleInput(), organization)

    assert set(caught.value.fields) == {"name", "inactive_days", "run_at"}


def test_a_name_is_used_once(organization: Organization, make_rule: Callable[..., CleanupRule]) -> None:
    rule = make_rule(name="Idle people")

    assert list(refused(organization, name=" Idle   people ")) == ["name"]
    assert clean(rule_input(name="Idle people"), organization, rule=rule).name == "Idle people"
    assert clean(rule_input(name="Idle people"), make_organization("other")).name == "Idle people"


@pytest.mark.parametrize("name", ["未使用アカウント", "قاعدة", "<b>bold</b>", "=1+1", "Ünüsed 🙂", 'O\'Brien "x"'])
def test_names_in_any_script_and_with_markup_are_kept(organization: Organization, name: str) -> None:
    assert clean(rule_input(name=name), organization).name == name


def test_groups_of_another_organisation_are_refused(
    organization: Organization, make_group: Callable[..., Group]
) -> None:
    foreign = make_group("foreign", of=make_organization("other"))

    fields = refused(organization, protected_groups=(foreign.pk,))

    assert fields == {"protected_groups": ["A chosen group does not exist in this organisation. Choose another one."]}


def test_a_group_that_no_longer_exists_is_refused_by_name(
    organization: Organization, make_group: Callable[..., Group]
) -> None:
    gone = make_group("contractors", vanished_at=timezone.now())

    fields = refused(organization, target="specified_groups", target_groups=(gone.pk,))

    assert "contractors" in fields["target_groups"][0]


def test_what_does_not_apply_is_dropped(organization: Organization, make_group: Callable[..., Group]) -> None:
    group = make_group("contractors")

    values = clean(
        rule_input(
            target_groups=(group.pk,), target_products=("jira",), target_sites=("x",), weekdays=(1,), month_day=4
        ),
        organization,
    )

    assert (values.target_groups, values.target_products, values.target_sites) == ((), (), ())
    assert (values.weekdays, values.month_day) == ((), None)


def test_text_becomes_typed_values(organization: Organization, make_group: Callable[..., Group]) -> None:
    one, two = make_group("one"), make_group("two")

    values = clean(
        rule_input(
            action="remove_product_access",
            target_products=["jira-software", "Confluence", "jira"],
            inactive_products=["trello"],
            target="specified_groups",
            target_groups=[str(two.pk), one],
            recurrence="weekly",
            weekdays=["fri", "Monday", "0"],
            run_at="14:30",
            max_count="40",
            max_share_percent="5",
            include_never_active="on",
            never_active_days="30",
        ),
        organization,
    )

    assert values.target_products == ("confluence", "jira")
    assert values.inactive_products == ("trello",)
    assert values.target_groups == (one.pk, two.pk)
    assert values.weekdays == (0, 4)
    assert values.run_at == time(14, 30)
    assert (values.max_count, values.max_share_percent) == (40, Decimal("5.00"))
    assert (values.include_never_active, values.never_active_days) == (True, 30)


def test_the_timezone_is_the_organisations_unless_given(organization: Organization) -> None:
    organization.timezone = "Europe/Vienna"

    assert clean(rule_input(), organization).timezone == "Europe/Vienna"
    assert clean(rule_input(timezone="Asia/Tokyo"), organization).timezone == "Asia/Tokyo"


def test_month_day_may_be_the_last(organization: Organization) -> None:
    values = rule_input(recurrence="monthly", month_day="last")

    assert clean(values, organization).month_day == CleanupRule.LAST_DAY


def test_limits_that_could_never_trip_are_refused(
    organization: Organization, make_account: Callable[..., Account]
) -> None:
    make_account("one")
    organization.max_count, organization.max_share_percent, organization.max_per_day = 1000, Decimal(100), 1000
    organization.save()

    fields = refused(organization, max_count=900)

    assert "never stop a run" in fields["max_count"][0]
    assert clean(rule_input(max_share_percent=50), organization).max_share_percent == 50


def test_measuring_each_product_by_itself_is_for_product_access_without_a_choice(organization: Organization) -> None:
    jira = clean(rule_input(inactive_products=("jira",)), organization)
    removal = clean(rule_input(action="remove_product_access", target_products=("jira",)), organization)
    elsewhere = clean(
        rule_input(action="remove_product_access", target_products=("jira",), inactive_products=("confluence",)),
        organization,
    )

    assert [values.is_per_product for values in (jira, removal, elsewhere)] == [False, True, False]
    assert jira.selection().inactive_products == ("jira",)  # the documented example (S166)
