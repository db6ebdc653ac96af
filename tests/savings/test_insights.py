"""Every number opens exactly its list: on the sandbox's people and on organisations of random people."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.core.cache import cache
from django.db import transaction
from django.http import QueryDict
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.dashboard.selectors import distribution, partition_lines
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.pricing.selectors import seats
from apps.rules.forms import start_values
from apps.rules.people import matching_q
from apps.rules.services import create_rule
from apps.savings.selectors import Insight, insights
from apps.users.models import Account
from apps.users.predicates import Context
from apps.users.products import bit_of
from apps.users.selectors import AccountFilters, dashboard_counts
from apps.users.services import set_exemption
from tests.users.conftest import make_group, plain_organization
from tests.users.test_predicates import GRANTS, NOW, accounts, store

CARDS = {
    "total": "",
    "active": "partition=active&days={days}",
    "inactive_card": "partition=inactive,never_active,suspended,deactivated&days={days}",
}


def listed(organization: Organization, query: str) -> set[int]:
    filters, errors = AccountFilters.parse(QueryDict(query))
    assert errors == {}
    people = Account.objects.of(organization).filter(filters.as_q(Context.of(organization)))
    return set(people.values_list("pk", flat=True))


def check(organization: Organization, days: int) -> None:
    """Each number that the dashboard and the insights page show against the explorer's count of its link."""
    counts = dashboard_counts(organization, days)
    for name, query in CARDS.items():
        assert len(listed(organization, query.format(days=days))) == getattr(counts, name), name
    for part in (*distribution(counts), *partition_lines(counts)):
        assert len(listed(organization, part.query)) == part.count, part.label
    for insight in insights(organization, days):
        if insight.params:
            assert len(listed(organization, insight.list_query)) == insight.count, insight.key
    for product, used in seats(organization).items():
        query = f"account_status=active&membership_status=active&product={product}"
        assert len(listed(organization, query)) == used, product


@pytest.mark.django_db
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=12
)
@given(people=st.lists(accounts(), min_size=1, max_size=12), days=st.sampled_from([7, 30, 60, 90]))
def test_each_number_counts_its_list_among_random_people(people: list[dict[str, Any]], days: int) -> None:
    with transaction.atomic(), time_machine.travel(NOW, tick=False):
        cache.clear()
        organization = plain_organization("random")
        pks = [make_group(organization, name, **fields).pk for name, fields in GRANTS.items()]
        for values in people:
            store(organization, values, pks)
        check(organization, days)
        transaction.set_rollback(True)


def test_numbers_and_rules_of_take_action_agree_with_the_sandboxs_people(
    synced: Organization, operators: Callable[..., Operator]
) -> None:
    author, tried = operators(synced, "author@aum.example", "admin"), 0
    for days in (30, 60):
        check(synced, days)
    for insight in insights(synced, 60):
        if not insight.rule_params:
            continue
        values = start_values(QueryDict(insight.rule_query))
        rule = create_rule(organization=synced, values=values, actor=Actor.operator(author), operator=author)
        matched = Account.objects.of(synced).filter(matching_q(rule, Context.of(synced).now))
        assert set(matched.values_list("pk", flat=True)) == listed(synced, insight.list_query), insight.key
        tried += bool(insight.count)

    assert tried >= 4


def test_who_is_exempt_is_in_no_number(synced: Organization) -> None:
    def idle() -> dict[str, Insight]:
        return {insight.key: insight for insight in insights(synced, 30) if insight.rule_params}

    before = idle()
    everywhere = before["inactive_everywhere"]
    spared = list(Account.objects.filter(pk__in=sorted(listed(synced, everywhere.list_query))[:3]))
    until = timezone.now() + timedelta(days=9)
    for account in spared:
        set_exemption(organization=synced, account=account, reason="on leave", until=until, actor=Actor.system("test"))

    cache.clear()  # done once the exemption is committed, which a test never is

    check(synced, 30)
    after = idle()
    assert everywhere.count - after["inactive_everywhere"].count == len(spared) == 3
    for product, number in everywhere.by_product.items():
        held = sum(bool(bit_of(product) & account.products) for account in spared)
        assert number - after["inactive_everywhere"].by_product[product] == held
