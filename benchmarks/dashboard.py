"""The dashboard at size: its figures beside one pass over everybody written by hand, and the page cold and cached.

    script/bench dashboard --size 1000000

People are those of the explorer's benchmark. The pass counts the same figures, each by a filter that repeats what it
needs; both sides must agree. Cold means that nothing is cached, as after a sync that nobody looked at yet.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from benchmarks import common

PRODUCTS = {"jira": 1, "jsm": 4, "confluence": 2, "bitbucket": 8}
# By number: account 0 unknown, 1 active, 2 and 3 off; membership 0 unknown, 1 active, 2 suspended, 3 none; activity 1
# unknown. Idle counts from the last login, joining, coming back or the end of an exemption; else from the first sight.
_CLOCK = (
    "coalesce(greatest({}, added_to_org_at, idle_floor_at, CASE WHEN exempt_until <= %(now)s THEN exempt_until END{}),"
    " first_seen_at) < %(cutoff)s"
)
_LIVE = "account_status = 1 AND NOT is_for_deletion AND membership_status = 1"
_PART = (
    "CASE WHEN account_status IN (2, 3) OR is_for_deletion THEN 'deactivated' WHEN membership_status = 2"
    " THEN 'suspended' WHEN membership_status = 3 OR products = 0 AND NOT has_unknown_activity THEN 'no_licence'"
    " WHEN account_status = 0 OR membership_status = 0 THEN 'unknown' WHEN last_active_at >= %(cutoff)s THEN 'active'"
    " WHEN has_unknown_activity THEN 'unknown' WHEN last_active_at IS NULL THEN 'never_active' ELSE 'inactive' END"
)
PARTS = ("active", "inactive", "never_active", "unknown", "suspended", "deactivated", "no_licence")


def one_pass() -> str:
    """Every figure in one reading of the table, each by a filter of its own."""
    counts = [
        "true",
        *(f"{_PART} = '{part}'" for part in PARTS),
        "claim_status = 1",
        "claim_status = 2",
        f"{_LIVE} AND products <> 0 AND last_active_at IS NOT NULL AND NOT has_unknown_activity"
        f" AND {_CLOCK.format('last_active_at', '')}",
    ]
    for product, bit in PRODUCTS.items():
        clock = _CLOCK.format(f"{product}_last_active_at", f", {product}_granted_seen_at")
        could = f"{_LIVE} AND products & {bit} > 0 AND {product}_activity <> 1 AND {clock}"
        counts += [
            f"{_LIVE} AND {product}_activity <> 0",
            f"{could} AND {product}_last_active_at IS NOT NULL",
            f"{could} AND {product}_last_active_at IS NULL",
        ]
    filters = ", ".join(f"count(*) FILTER (WHERE {one})" for one in counts)
    return f"SELECT {filters} FROM users_account WHERE organization_id = %(pk)s AND vanished_at IS NULL"


def figures_of(counts: Any) -> list[int]:
    """AUM's figures in the order of the pass."""
    of_products = {row.product: (row.held, row.idle, row.never_active) for row in counts.products}
    return [
        counts.total,
        *(getattr(counts, part) for part in PARTS),
        counts.managed,
        counts.external,
        counts.idle_everywhere,
        *(number for product in PRODUCTS for number in of_products[product]),
    ]


def measure(run: common.Run) -> None:
    from django.core.cache import cache
    from django.db import connection
    from django.test import Client
    from django.utils import timezone

    from apps.operators.models import Grant, Operator
    from apps.organizations.models import Organization
    from apps.users.predicates import Context
    from apps.users.selectors import dashboard_counts
    from benchmarks.explorer import generate, replayed, statements_of

    organization = Organization.objects.create(slug="bench", name="Bench", org_id="bench", api_url="http://x")
    run.figure("people made", common.timed(lambda: generate(organization, run.size)), "s")
    now = timezone.now()
    values: dict[str, Any] = {"pk": organization.pk, "cutoff": Context.of(organization, now=now).cutoff(30), "now": now}
    sql = one_pass()

    def bare() -> float:
        def work() -> None:
            with connection.cursor() as cursor:
                cursor.execute(sql, values)
                cursor.fetchall()

        return common.timed(work)

    ours = dashboard_counts(organization, 30, now=now)
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        assert figures_of(ours) == list(cursor.fetchone())
    bare()
    run.compare(
        "figures counted anew",
        aum=lambda: common.timed(lambda: dashboard_counts(organization, 30, now=now)),
        limit=bare,
        limit_is="one pass by hand",
        target=common.at_most(1.2),
    )

    operator = Operator.objects.create_user("bench@aum.example", "correct horse battery", name="Bench")
    Grant.objects.create(
        organization=organization, operator=operator, role="owner", granted_at=timezone.now(), granted_by="bench"
    )
    client = Client()
    client.force_login(operator)
    _days(organization, ours.total)

    def page() -> None:
        answer = client.get(f"/o/{organization.slug}/")
        assert answer.status_code == 200

    def cold() -> float:
        cache.clear()
        return common.timed(page)

    # The page shows more than the pass counts: findings about idle people, prices, unused products.
    run.compare(
        "page, nothing cached",
        aum=cold,
        limit=replayed(statements_of(cold)),
        limit_is="its SQL by a raw cursor",
        target=common.at_most(1.2),
    )
    page()
    run.figure(
        "page, cached",
        [common.timed(page) * 1000 for _ in range(max(run.rounds, 20))],
        "ms",
        common.at_most(20),
    )


def _days(organization: Any, total: int) -> None:
    """Ninety stored days, as the trends of the cards read them."""
    from django.utils import timezone

    from apps.savings.models import DailySnapshot

    now = timezone.now()
    figures = {str(days): {"active": total // 2, "inactive": total // 3} for days in (7, 30, 60, 90)}
    DailySnapshot.objects.bulk_create(
        DailySnapshot(
            organization=organization,
            day=(now - timedelta(days=days)).date(),
            taken_at=now,
            total=total,
            figures=figures,
            seats={},
            peak_seats={},
            idle={},
        )
        for days in range(1, 91)
    )


BENCHMARK = common.Benchmark("dashboard", "The dashboard", measure, default_size=100_000, rounds=7)
