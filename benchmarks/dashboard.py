"""The dashboard at size: its figures beside one pass over everybody written by hand, and the page cold and cached.

    script/bench dashboard --size 1000000

People are those of the explorer's benchmark. The pass counts what the cards, the donut and the four insights show, with
plain comparisons; both sides must agree. Cold means that nothing is cached, as after a sync that nobody looked at yet.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from benchmarks import common

PRODUCTS = ("jira", "confluence", "jsm", "bitbucket")
# By number: 1 active, 2 deactivated account; 1 active, 2 suspended membership; activity 1 unknown, 2 never, 3 known.
_CLOCK = (
    "greatest(coalesce({0}, '-infinity'), coalesce(added_to_org_at, '-infinity'), coalesce(idle_floor_at, '-infinity'))"
)
_LIVE = "account_status = 1 AND membership_status = 1"


def one_pass() -> str:
    """Every figure in one reading of the table."""
    counts = [
        "count(*)",
        "count(*) FILTER (WHERE account_status = 2)",
        "count(*) FILTER (WHERE account_status = 1 AND membership_status = 2)",
        f"count(*) FILTER (WHERE {_LIVE} AND products = 0)",
        f"count(*) FILTER (WHERE {_LIVE} AND products <> 0 AND last_active_at >= %(cutoff)s)",
        "count(*) FILTER (WHERE claim_status = 1)",
        "count(*) FILTER (WHERE claim_status = 2)",
        f"count(*) FILTER (WHERE {_LIVE} AND products <> 0 AND NOT has_unknown_activity"
        f" AND {_CLOCK.format('last_active_at')} < %(cutoff)s)",
    ]
    for product in PRODUCTS:
        counts += [
            f"count(*) FILTER (WHERE {_LIVE} AND {product}_activity <> 0)",
            f"count(*) FILTER (WHERE {_LIVE} AND {product}_activity = 3"
            f" AND {_CLOCK.format(f'{product}_last_active_at')} < %(cutoff)s)",
            f"count(*) FILTER (WHERE {_LIVE} AND {product}_activity = 2"
            f" AND {_CLOCK.format(f'{product}_granted_seen_at')} < %(cutoff)s)",
        ]
    return f"SELECT {', '.join(counts)} FROM users_account WHERE organization_id = %(pk)s AND vanished_at IS NULL"


def measure(run: common.Run) -> None:
    from django.core.cache import cache
    from django.db import connection
    from django.test import Client
    from django.utils import timezone

    from apps.operators.models import Grant, Operator
    from apps.organizations.models import Organization
    from apps.users.predicates import Context
    from apps.users.selectors import dashboard_counts
    from benchmarks.explorer import generate

    organization = Organization.objects.create(slug="bench", name="Bench", org_id="bench", api_url="http://x")
    run.figure("people made", common.timed(lambda: generate(organization, run.size)), "s")
    values = {"pk": organization.pk, "cutoff": Context.of(organization).cutoff(30)}
    sql = one_pass()

    def bare() -> float:
        def work() -> None:
            with connection.cursor() as cursor:
                cursor.execute(sql, values)
                cursor.fetchall()

        return common.timed(work)

    ours = dashboard_counts(organization, 30)
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        row = cursor.fetchone()
    assert (ours.total, ours.deactivated, ours.suspended, ours.managed, ours.external) == (*row[:3], *row[5:7])
    assert [product.held for product in ours.products] == list(row[8::3])
    bare()
    run.compare(
        "figures counted anew",
        aum=lambda: common.timed(lambda: dashboard_counts(organization, 30, now=timezone.now())),
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

    page()
    run.compare("page, nothing cached", aum=cold, limit=bare, limit_is="one pass by hand", target=common.at_most(1.2))
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
