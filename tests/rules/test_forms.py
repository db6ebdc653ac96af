"""The choices that the editor of a rule offers."""

from __future__ import annotations

from datetime import time

from apps.rules.forms import RuleForm
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
