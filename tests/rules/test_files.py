from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.rules.models import CleanupRule
from apps.rules.services import ImportReport, RuleInput, diff_rules, export_rules, import_rules, pause_rule
from apps.users.models import Group
from tests.rules.conftest import ACTOR, make_organization

FILE = """\
# Cleanup rules of AUM. docs/rules.md describes the fields.
version: 1
rules:
  - name: Contractors
    mode: live
    action: suspend
    inactive_products:
      - jira
    target_products: []
    target_sites: []
    inactive_days: 60
    include_never_active: true
    never_active_days: 30
    target: specified_groups
    target_groups:
      - name: contractors
        id: id-contractors
        directory: dir-acme
    protected_groups:
      - name: jira-admins
        id: id-jira-admins
        directory: dir-acme
    recurrence: weekly
    weekdays:
      - monday
      - thursday
    month_day: null
    run_at: '14:30'
    timezone: Europe/Vienna
    max_count: 40
    max_share_percent: '5.00'
    is_paused: false
"""
SMALL = "version: 1\nrules:\n  - name: Idle\n    inactive_days: 60\n    run_at: 14:30\n"


def load(organization: Organization, text: str, operator: Operator | None = None, **options: Any) -> ImportReport:
    return import_rules(organization=organization, text=text, actor=ACTOR, operator=operator, **options)


@pytest.fixture
def groups(make_group: Callable[..., Group]) -> None:
    make_group("contractors")
    make_group("jira-admins")


@pytest.mark.usefixtures("groups")
def test_a_file_survives_import_and_export_byte_for_byte(organization: Organization) -> None:
    report = load(organization, FILE)

    assert report == ImportReport(report.changes, ())
    assert report.created == ("Contractors",)
    assert export_rules(organization) == FILE
    assert load(organization, FILE).unchanged == ("Contractors",)
    assert CleanupRule.objects.get().version == 1


def test_names_in_any_script_survive(make_rule: Callable[..., CleanupRule], organization: Organization) -> None:
    names = ["未使用", "<b>x</b>", "=1+1", "no", "1", "null", "a: b # c", "'quoted\"", "🙂"]
    for name in names:
        make_rule(name=name)
    text = export_rules(organization)
    other = make_organization("other")

    assert load(other, text).errors == ()

    assert sorted(CleanupRule.objects.of(other).values_list("name", flat=True)) == sorted(names)
    assert export_rules(other) == text


def test_a_short_file_takes_the_defaults(organization: Organization) -> None:
    load(organization, SMALL)

    rule = CleanupRule.objects.get()
    assert (rule.mode, rule.action, rule.recurrence, rule.timezone) == ("safe", "suspend", "daily", "UTC")
    assert f"{rule.run_at:%H:%M}" == "14:30"  # not the number that YAML 1.1 makes of it


def test_an_import_updates_by_name_and_leaves_other_rules_alone(
    organization: Organization, make_rule: Callable[..., CleanupRule], operator: Operator
) -> None:
    load(organization, SMALL)
    make_rule(name="By hand")

    report = load(organization, SMALL.replace("60", "90"), operator)

    assert (report.updated, report.absent) == (("Idle",), ("By hand",))
    rule = CleanupRule.objects.get(name="Idle")
    assert (rule.inactive_days, rule.version, rule.edited_by) == (90, 2, operator)
    assert CleanupRule.objects.count() == 2


def test_a_difference_names_the_fields_and_changes_nothing(organization: Organization) -> None:
    load(organization, SMALL)

    report = diff_rules(organization=organization, text=SMALL.replace("60", "90"))

    [change] = report.changes
    assert (change.rule, change.change) == ("Idle", "updated")
    assert (change.before, change.after) == ({"inactive_days": 60}, {"inactive_days": 90})
    assert CleanupRule.objects.get().inactive_days == 60


def test_a_dry_run_reports_and_writes_nothing(organization: Organization) -> None:
    report = load(organization, SMALL, dry_run=True)

    assert report.created == ("Idle",)
    assert not CleanupRule.objects.exists()
    assert not AuditEvent.objects.exists()


def test_one_error_keeps_the_whole_file_out(organization: Organization) -> None:
    text = SMALL + "  - name: Broken\n    inactive_days: 0\n    run_at: 09:00\n"

    report = load(organization, text)

    assert [(error.rule, error.field) for error in report.errors] == [("Broken", "inactive_days")]
    assert report.errors[0].message == "Enter 1 or more days, or turn this condition off."
    assert not CleanupRule.objects.exists()


@pytest.mark.usefixtures("groups")
@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "rules"),
        ("rules: [", ""),
        ("just text", "rules"),
        ("version: 1\nrules: none", "rules"),
        ("version: 2\nrules: []", "version"),
        ("version: 1\nrules: []\nextra: 1", "extra"),
        ("version: 1\nrules:\n  - text", ""),
        ("version: 1\nrules:\n  - {}", "name"),
        (SMALL + "    colour: red\n", "colour"),
        (SMALL + "    mode: [live]\n", "mode"),
        (SMALL + "    weekdays: monday\n", "weekdays"),
        (SMALL + "    is_paused: maybe\n", "is_paused"),
        (SMALL + "    protected_groups: [nobody-knows]\n", "protected_groups"),
        (SMALL + "    protected_groups: [{colour: red}]\n", "protected_groups"),
        (SMALL + "    protected_groups: [[a]]\n", "protected_groups"),
        (SMALL + "  - name: Idle\n    inactive_days: 3\n    run_at: 09:00\n", "name"),
        (SMALL + "    inactive_days: 61\n", ""),
        ("a: &a [x]\nversion: 1\nrules: *a", ""),
        ("!!python/object/apply:os.system ['true']", "rules"),
        ("[" * 5000, ""),
        ("version: 1\nrules:\n  - name: \0", ""),
        ("#" * 1_000_001, ""),
    ],
)
def test_bad_files_are_refused_where_they_are_wrong(organization: Organization, text: str, where: str) -> None:
    report = load(organization, text)

    assert where in [error.field for error in report.errors]
    assert all(error.message for error in report.errors)
    assert not CleanupRule.objects.exists()


def test_groups_are_found_by_name_or_id(organization: Organization, make_group: Callable[..., Group]) -> None:
    first, second = make_group("twins", group_id="id-1"), make_group("twins", group_id="id-2")
    named = make_group("named")
    make_group("gone", vanished_at=timezone.now())

    def key_of(group: str) -> tuple[tuple[int, ...], list[str]]:
        CleanupRule.objects.all().delete()
        report = load(organization, SMALL + f"    protected_groups: [{group}]\n")
        rule = CleanupRule.objects.first()
        return (RuleInput.of(rule).protected_groups if rule else ()), [error.message for error in report.errors]

    assert key_of("named") == ((named.pk,), [])
    assert key_of("{id: id-2}") == ((second.pk,), [])
    assert key_of("{name: renamed since, id: id-1}") == ((first.pk,), [])
    assert "Several groups" in key_of("twins")[1][0]
    assert "no group called gone" in key_of("gone")[1][0]


def test_a_file_pauses_rules_and_resumes_none(organization: Organization, operator: Operator) -> None:
    load(organization, SMALL)
    pausing = SMALL + "    is_paused: true\n"

    report = load(organization, pausing)
    assert report.updated == ("Idle",)
    assert CleanupRule.objects.get().is_paused
    assert load(organization, pausing).unchanged == ("Idle",)

    load(organization, SMALL)
    assert CleanupRule.objects.get().is_paused


def test_a_paused_rule_can_be_created_from_a_file(organization: Organization, operator: Operator) -> None:
    load(organization, SMALL)
    pause_rule(rule=CleanupRule.objects.get(), actor=ACTOR)
    other = make_organization("other")

    load(other, export_rules(organization))

    assert CleanupRule.objects.of(other).get().is_paused
