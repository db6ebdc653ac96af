"""The choices that the editor of a rule offers."""

from __future__ import annotations

from datetime import time
from typing import Any

import pytest

from apps.rules.forms import WINDOWS, RuleForm
from apps.rules.notice_values import steps_of
from apps.rules.values import RuleInput


def test_windows_are_the_hours_of_a_day_and_the_rules_own_time() -> None:
    on_the_hour = RuleForm(RuleInput(run_at=time(9))).window_choices()
    between = RuleForm(RuleInput(run_at=time(9, 30))).window_choices()

    assert [choice.value for choice in on_the_hour] == [f"{hour:02d}:00" for hour in range(24)]
    assert on_the_hour[-1].label == "23:00 to 00:00"
    assert [choice.value for choice in on_the_hour if choice.is_chosen] == ["09:00"]
    assert [choice.label for choice in between if choice.is_chosen] == ["09:30 to 10:30"]
    assert len(between) == 25


def test_owner_who_has_no_role_any_more_can_be_kept() -> None:
    people = [("ada@aum.example", "Ada"), ("ben@aum.example", "Ben")]

    nobody = RuleForm(RuleInput()).owner_choices(people)
    ben = RuleForm(RuleInput(owner="ben@aum.example")).owner_choices(people)
    gone = RuleForm(RuleInput(owner="eve@aum.example")).owner_choices(people)

    assert [choice.value for choice in nobody] == ["", "ada@aum.example", "ben@aum.example"]
    assert [choice.value for choice in nobody if choice.is_chosen] == [""]
    assert [choice.value for choice in ben if choice.is_chosen] == ["ben@aum.example"]
    assert [choice.value for choice in gone if choice.is_chosen] == ["eve@aum.example"]
    assert len(gone) == 4


def test_a_window_of_unusual_length_can_be_kept() -> None:
    def labels(minutes: Any) -> list[str]:
        choices = RuleForm(RuleInput(window_minutes=minutes)).window_minutes_choices()
        assert [choice.is_chosen for choice in choices].count(True) == (str(minutes).isdecimal())
        return [choice.label for choice in choices]

    assert labels(77) == [*WINDOWS.values(), "77 minutes"]
    assert labels(min(WINDOWS)) == list(WINDOWS.values())
    assert labels("soon") == list(WINDOWS.values())


def test_faults_lead_to_their_fields() -> None:
    form = RuleForm(RuleInput(), errors={"name": ["Enter a name."], "elsewhere": ["No."], "conditions.1": ["Wrong."]})

    assert [(fault["id"], fault["text"]) for fault in form.faults] == [
        ("id_name", "Enter a name."),
        ("", "No."),
        ("id_c1", "Wrong."),
    ]


@pytest.mark.parametrize(
    ("fields", "looks"),
    [
        ({"inactive_days": 60}, True),
        ({"inactive_days": None, "include_never_active": True}, True),
        ({"inactive_days": 60, "include_never_active": True}, True),
        ({"inactive_days": None}, False),
    ],
)
def test_a_rule_looks_at_logins_where_any_of_its_days_asks_for_it(fields: dict[str, Any], looks: bool) -> None:
    assert RuleInput(**fields).looks_at_login is looks


def test_a_notice_may_count_from_the_last_login() -> None:
    since_login, plain = (
        {"template": "A", "days_inactive": "50"},
        {"template": "A", "days_before": 3, "days_inactive": 9},
    )

    assert [step.days_before for step in steps_of([since_login, plain], inactive_days="60")] == [10, 3]
    assert [step.days_before for step in steps_of([since_login], inactive_days="soon")] == [None]
