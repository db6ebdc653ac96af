from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.audit.models import AuditEvent
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.rules.file_schema import rules_schema
from apps.rules.models import CleanupRule
from apps.rules.services import ImportReport, RuleInput, create_rule, diff_rules, export_rules, import_rules, pause_rule
from apps.rules.values import FIELDS
from apps.users.models import Account, Group, SavedView
from tests.rules.conftest import ACTOR, make_organization

FILE = """\
# Cleanup rules of AUM. docs/rules.md describes the fields.
version: 1
rules:
  - name: Contractors
    owner: ''
    mode: safe
    action: suspend
    action_groups: []
    inactive_products:
      - jira
    target_products: []
    target_sites: []
    inactive_days: 60
    include_never_active: true
    never_active_days: 30
    status_days: null
    saved_view: Contractors to review
    conditions:
      - name: domain
        domains:
          - example.com
        not: true
      - name: group_none
        groups:
          - name: jira-admins
            id: id-jira-admins
            directory: dir-acme
      - name: added_days
        days: 30
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
    window_minutes: 120
    timezone: Europe/Vienna
    blackout_dates:
      - 2026-12-24..2027-01-06
      - '2027-05-01'
    max_count: 40
    max_share_percent: '5.00'
    notes: |-
      Agreed with the works council.
      See HR-17.
    is_paused: false
"""
SMALL = "version: 1\nrules:\n  - name: Idle\n    inactive_days: 60\n    run_at: 14:30\n"


def load(organization: Organization, text: str, operator: Operator | None = None, **options: Any) -> ImportReport:
    return import_rules(organization=organization, text=text, actor=ACTOR, operator=operator, **options)


@pytest.fixture
def groups(make_group: Callable[..., Group], organization: Organization) -> None:
    SavedView.objects.create(
        organization=organization,
        name="Contractors to review",
        owner_text="Ada",
        is_shared=True,
        params={"claim_status": ["external"]},
    )
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


def test_the_schema_in_the_documentation_is_that_of_the_code_and_knows_every_field() -> None:
    schema = json.loads(Path("docs/rules.schema.json").read_text(encoding="utf-8"))

    assert schema == json.loads(json.dumps(rules_schema())), "script/aum rules schema > docs/rules.schema.json"
    assert {*FIELDS, "is_paused"} <= set(schema["properties"]["rules"]["items"]["properties"])


@pytest.mark.usefixtures("groups")
def test_an_export_follows_the_schema(organization: Organization) -> None:
    load(organization, FILE)

    jsonschema.validate(yaml.safe_load(export_rules(organization)), rules_schema())


@pytest.mark.usefixtures("groups")
def test_a_live_rule_of_a_file_needs_its_preview_first(organization: Organization) -> None:
    report = load(organization, FILE.replace("mode: safe", "mode: live"))

    assert [(error.rule, error.field) for error in report.errors] == [("Contractors", "mode")]
    assert not CleanupRule.objects.exists()


def test_rules_of_one_file_that_contradict_each_other_are_refused_together(
    organization: Organization, make_account: Callable[..., Account]
) -> None:
    make_account("ann")
    text = """version: 1
rules:
  - {name: Take, inactive_days: 60, run_at: '06:00'}
  - {name: Give, action: restore, run_at: '06:00', conditions: [{name: kind, values: [person]}]}
"""

    report = load(organization, text)

    assert "contradict each other about 1 person" in report.errors[0].message
    assert not CleanupRule.objects.exists()


words = st.text(alphabet="abcäß李 :#'\"-\n", max_size=30).map(str.strip)
days_or_none = st.one_of(st.none(), st.integers(1, 3650))
some_conditions = st.lists(
    st.one_of(
        st.builds(lambda days, no: {"name": "added_days", "days": days, "not": no}, st.integers(1, 999), st.booleans()),
        st.builds(
            lambda values, no: {"name": "kind", "values": sorted(values), "not": no},
            st.sets(st.sampled_from(["person", "service", "app", "bot"]), min_size=1),
            st.booleans(),
        ),
        st.builds(lambda at: {"name": "added_before", "at": at}, st.dates(date(2020, 1, 1), date(2030, 1, 1)).map(str)),
        st.builds(lambda no: {"name": "is_synced", "value": no}, st.booleans()),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    inactive_days=days_or_none,
    never_active_days=days_or_none,
    conditions=some_conditions,
    notes=words,
    window=st.integers(5, 1440),
    blackout=st.sets(st.dates(date(2026, 1, 1), date(2030, 1, 1)).map(str), max_size=3),
    run_at=st.times().map(lambda at: f"{at:%H:%M}"),
)
def test_any_rule_survives_export_and_import_byte_for_byte(
    organization: Organization,
    inactive_days: int | None,
    never_active_days: int | None,
    conditions: list[dict[str, Any]],
    notes: str,
    window: int,
    blackout: set[str],
    run_at: str,
) -> None:
    values = RuleInput(
        name="Any",
        inactive_days=inactive_days,
        include_never_active=never_active_days is not None,
        never_active_days=never_active_days,
        conditions=tuple(conditions),
        notes=notes,
        window_minutes=window,
        blackout_dates=tuple(blackout),
        run_at=run_at,  # type: ignore[arg-type]  # text, as a form gives it
    )
    with transaction.atomic():
        rule = create_rule(organization=organization, values=values, actor=ACTOR, operator=None)
        text = export_rules(organization)

        assert load(organization, text).unchanged == ("Any",)
        rule.delete()
        assert load(organization, text).created == ("Any",)
        assert export_rules(organization) == text
        transaction.set_rollback(True)


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
