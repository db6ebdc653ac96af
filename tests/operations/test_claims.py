"""Claiming takes no more than it may, whichever way PostgreSQL chooses to find the rows."""

from __future__ import annotations

import itertools
import uuid
from datetime import timedelta

import pytest
from django.db import connection

from apps.operations.models import OperationItem
from apps.operations.services import claims
from apps.organizations.models import Organization
from apps.users.models import Account
from aum.common.clock import database_now
from tests.operations.test_properties import acme, add_items, live_operation  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db
SECONDS = 300
WAYS = ("hashjoin", "mergejoin", "material", "hashagg", "indexscan")


@pytest.mark.parametrize("known", [0, 1, 20])
@pytest.mark.parametrize("off", [off for n in range(3) for off in itertools.combinations(WAYS, n)], ids="-".join)
def test_a_claim_takes_no_more_than_its_size_by_any_plan(
    acme: Organization,  # noqa: F811
    off: tuple[str, ...],
    known: int,
) -> None:
    """`known`: rows that the statistics saw, as autovacuum happens to look."""
    operation = live_operation(acme, status="running")
    everybody = list(Account.objects.order_by("pk")[:20])
    add_items(operation, everybody[:known])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE operations_operationitem")
        for name in off:
            cursor.execute(f"SET LOCAL enable_{name} = off")
    add_items(operation, everybody[known:])
    for size in (1, 3):
        token = uuid.uuid4()
        assert len(claims._take(operation, token, size, database_now())) == size
        assert OperationItem.objects.filter(lease_token=token).count() == size


def test_next_is_what_is_due_first_and_a_claim_when_its_lease_ends(acme: Organization) -> None:  # noqa: F811
    operation, now = live_operation(acme, status="running"), database_now()
    one, two, three = Account.objects.order_by("pk")[:3]
    assert claims.seconds_to_next(operation.pk) is None

    add_items(operation, [one], status="claimed", lease_until=now + timedelta(seconds=SECONDS))
    assert claims.seconds_to_next(operation.pk) == pytest.approx(SECONDS, abs=5)
    add_items(operation, [two], next_read_at=now + timedelta(seconds=SECONDS / 2))
    assert claims.seconds_to_next(operation.pk) == pytest.approx(SECONDS / 2, abs=5)
    add_items(operation, [three], status="finished", outcome="done", finished_at=now)
    assert claims.seconds_to_next(operation.pk) == pytest.approx(SECONDS / 2, abs=5)
