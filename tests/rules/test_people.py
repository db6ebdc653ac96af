"""What rules tell the users pages: whom one matches, and what is about to happen to a person."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.operations.planning import count_plan
from apps.organizations.models import Directory, Organization
from apps.rules.models import CleanupRule
from apps.rules.people import MatchesRule, rule_choices, upcoming
from apps.rules.values import RuleInput
from apps.users.models import Account, Exemption, ProductAccess, ProtectedGroup
from apps.users.predicates import ClaimStatusIs, Context, PredicateError, protected_group_ids
from apps.users.selectors import AccountFilters, explorer
from tests.rules.conftest import make_organization
from tests.users.conftest import make_group
from tests.users.test_predicates import DAYS, GRANTS, MARGIN, NOW, accounts, is_inactive, is_protected, store

pytestmark = pytest.mark.django_db


def matched(organization: Organization, *rules: CleanupRule) -> set[str]:
    filters, errors = AccountFilters.parse({"rule": [str(rule.pk) for rule in rules]})
    assert errors == {}
    return {row.account_id for row in explorer(organization, filters).rows}


def test_filter_shows_whom_the_rule_would_plan_for(
    organization: Organization, make_rule: Callable[..., CleanupRule], make_account: Callable[..., Account]
) -> None:
    rule = make_rule(inactive_days=60)
    make_account("idle", idle_days=61)
    make_account("seen", idle_days=59)
    make_account("admin", idle_days=90, is_org_admin=True)
    exempt = make_account("exempt", idle_days=90)
    Exemption.objects.create(
        organization=organization, account=exempt, reason="Leave", starts_at=timezone.now(), set_by="Ada"
    )
    make_account("unknown", idle_days=90, has_unknown_activity=True)

    assert matched(organization, rule) == {"idle"}
    values = RuleInput.of(rule)
    selection = values.selection(protected_group_ids(organization))
    assert count_plan(organization, selection, [values.action_spec()], timezone.now()).planned == 1


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(people=st.lists(accounts(), min_size=1, max_size=15), days=st.sampled_from(DAYS))
def test_filter_means_what_python_means(
    organization: Organization, make_rule: Callable[..., CleanupRule], people: list[dict[str, Any]], days: int
) -> None:
    """Alone, and with another filter, over any organisation: the oracle knows nothing of plans and their SQL."""
    organization.activity_margin_hours = int(MARGIN.total_seconds() // 3600)
    organization.save(update_fields=["activity_margin_hours"])
    with transaction.atomic():
        Directory.objects.create(organization=organization, directory_id="d", name="People", seen_at=NOW)
        pks = [make_group(organization, f"{name}-{days}", **fields).pk for name, fields in GRANTS.items()]
        ProtectedGroup.objects.create(organization=organization, group_id=pks[0], added_at=NOW, added_by="test")
        rule = make_rule(inactive_days=days)
        stored = [(store(organization, data, pks).pk, data) for data in people]

        def means(a: dict[str, Any]) -> bool:
            is_here = a["account_status"] == 1 and a["membership_status"] == 1 and not a["is_for_deletion"]
            is_kept = is_protected(a) or bool(a["exempt_until"] and a["exempt_until"] > NOW)
            idle = is_inactive(a, (), NOW - timedelta(days=days) - MARGIN)
            return a["vanished_at"] is None and is_here and idle and not is_kept

        wanted = {pk for pk, data in stored if means(data)}
        managed = {pk for pk, data in stored if means(data) and data["claim_status"] == 1}
        matches, context = MatchesRule((str(rule.pk),)), Context(organization, NOW, MARGIN)
        for conditions, expected in (((matches,), wanted), ((matches, ClaimStatusIs(("managed",))), managed)):
            found = Account.objects.of(organization).filter(AccountFilters(conditions).as_q(context))
            assert set(found.values_list("pk", flat=True)) == expected
        transaction.set_rollback(True)


def test_filter_of_product_removal_takes_those_who_hold_the_product(
    organization: Organization, make_rule: Callable[..., CleanupRule], make_account: Callable[..., Account]
) -> None:
    rule = make_rule(action="remove_product_access", target_products=("jira",), inactive_days=60)
    for name in ("holds", "lacks"):
        account = make_account(name, idle_days=61)
        if name == "holds":
            ProductAccess.objects.create(
                organization=organization, account=account, product="jira", resource="ari:1", activity=3
            )

    assert matched(organization, rule) == {"holds"}


def test_rule_of_another_organisation_matches_nobody_and_is_not_named(
    organization: Organization, make_rule: Callable[..., CleanupRule], make_account: Callable[..., Account]
) -> None:
    other = make_organization("other")
    foreign = make_rule(of=other, name="Theirs", inactive_days=60)
    make_account("idle", idle_days=61)

    assert matched(organization, foreign) == set()
    filters, _ = AccountFilters.parse({"rule": str(foreign.pk)})
    assert "Theirs" not in filters.chips(Context.of(organization))[0].sentence
    assert [choice.label for choice in rule_choices(organization)] == []


@pytest.mark.parametrize("value", ["x", "-1", "1;2", "9" * 30])
def test_rule_that_is_no_key_is_refused(value: str) -> None:
    _, errors = AccountFilters.parse({"rule": value})

    assert list(errors) == ["rule"]
    with pytest.raises(PredicateError):
        MatchesRule(())


def test_upcoming_action_names_the_first_run_that_takes_the_person(
    organization: Organization, make_rule: Callable[..., CleanupRule], make_account: Callable[..., Account]
) -> None:
    rule = make_rule(name="Clean up", mode="live", inactive_days=60)
    make_rule(name="Only looks", mode="safe", inactive_days=1)
    due, soon = make_account("due", idle_days=61), make_account("soon", idle_days=50)
    spared = make_account("spared", idle_days=61, is_site_admin=True)
    now = timezone.now()

    (at_once,), (later,) = upcoming(due), upcoming(soon)

    assert (at_once.rule, at_once.title) == ("Clean up", "Suspended")
    assert at_once.at is not None
    assert now < at_once.at <= now + timedelta(days=1, minutes=1)
    assert later.at is not None
    assert now + timedelta(days=10) < later.at <= now + timedelta(days=11, minutes=1)
    assert upcoming(spared) == []
    CleanupRule.objects.filter(pk=rule.pk).update(is_paused=True)
    assert upcoming(due) == []
