"""The users list at size beside the bare SQL of the same page, and exports beside a bare COPY.

    script/bench explorer --size 1000000

People are made straight in SQL: 2 % of them in each of 50 large groups and the rest of 2,000 small ones, two products
each on average, dates spread over three years. Each round asks for every page once through `explorer()` and once by a
raw cursor with the same condition, in random order; the figures are 95th percentiles over the rounds.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import common

# Name → query string of the explorer; {group} and {small} are keys of a large and a small group.
FILTERS = {
    "search of six characters": "search=morita",
    "search of two characters": "search=mo",
    "search that nobody matches": "search=qqqqqq",
    "account status": "account_status=deactivated",
    "membership": "membership_status=suspended",
    "claim status": "claim_status=unmanaged",
    "member of a large group": "group={group}",
    "member of a small group": "group={small}",
    "member of both groups": "group_all={group}&group_all={small}",
    "not a member": "group_none={group}",
    "has a product": "product=confluence",
    "has a rare product": "product=trello",
    "inactive for 60 days": "inactive_days=60",
    "inactive for 60 days in Jira": "inactive_days=60&inactive_product=jira",
    "never in Confluence": "activity=never&inactive_product=confluence",
    "last login not known": "activity=unknown",
    "last Jira login before a date": "last_active_before=jira:2025-01-31",
    "added more than 900 days ago": "added_days=900",
    "exempt": "exempt=true",
    "kind": "kind=service,bot",
    "synced": "is_synced=true",
    "access by a group": "grants=bitbucket",
    "access that cannot be seen": "grants=unseen",
    "state": "partition=never_active&days=30",
    "three at once: contractors to review": "group={group}&claim_status=unmanaged&added_days=60",
    "three at once: idle, managed, no admin": "inactive_days=90&claim_status=managed&protected=false",
    "three at once: search, Jira never, active": "search=mor&activity=jira:never&account_status=active",
}


def generate(organization: Any, people: int) -> tuple[int, int]:
    """Fill the mirror; returns keys of a large and a small group."""
    from django.db import connection
    from django.utils import timezone

    from apps.organizations.models import Directory
    from apps.users.models import SyncRun

    directory = Directory.objects.create(
        organization=organization, directory_id="bench", name="People", seen_at=timezone.now()
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO users_group (organization_id, directory_id, group_id, name, description, is_synced,"
            " managed_by, grants, are_grants_known, granted_products, is_administrative, is_licence_only, member_count)"
            " SELECT %s, %s, 'g' || n, CASE WHEN n = 1 THEN 'contractors' ELSE 'group ' || n END, '', false, '', '[]',"
            " true, CASE WHEN n <= 50 THEN 1 << (n %% 4) ELSE 0 END, false, false, 0 FROM generate_series(1, 2050) n",
            [organization.pk, directory.pk],
        )
        cursor.execute("SELECT min(id) FROM users_group WHERE organization_id = %s", [organization.pk])
        first = int(cursor.fetchone()[0])
        # Everything about person n follows from hashes of n, so that two runs make the same people.
        cursor.execute(
            """
INSERT INTO users_account (organization_id, account_id, name, sort_name, email, account_status, membership_status,
  claim_status, management_source, is_for_deletion, kind, is_kind_released, added_to_org_at, products,
  has_unknown_activity, is_activity_read, last_active_at,
  jira_activity, jira_last_active_at, confluence_activity, confluence_last_active_at,
  jsm_activity, jsm_last_active_at, bitbucket_activity, bitbucket_last_active_at,
  group_ids, is_org_admin, is_site_admin, is_connection_owner, exempt_until, first_seen_at)
SELECT %(organization)s, 'a' || n, initcap(who), who, replace(who, ' ', '.') || '.' || n || '@example.com',
  CASE WHEN h %% 100 < 4 THEN 2 ELSE 1 END, CASE WHEN h %% 97 < 3 THEN 2 ELSE 1 END,
  CASE WHEN h %% 10 < 2 THEN 2 ELSE 1 END, CASE WHEN h %% 5 = 0 THEN 2 ELSE 1 END, false,
  CASE WHEN h %% 200 = 0 THEN 2 WHEN h %% 333 = 0 THEN 4 ELSE 1 END, false, added, products, unknown, true,
  greatest(jira_at, confluence_at, jsm_at, bitbucket_at),
  CASE WHEN products & 1 = 0 THEN 0 WHEN unknown THEN 1 WHEN jira_at IS NULL THEN 2 ELSE 3 END, jira_at,
  CASE WHEN products & 2 = 0 THEN 0 WHEN confluence_at IS NULL THEN 2 ELSE 3 END, confluence_at,
  CASE WHEN products & 4 = 0 THEN 0 WHEN jsm_at IS NULL THEN 2 ELSE 3 END, jsm_at,
  CASE WHEN products & 8 = 0 THEN 0 WHEN bitbucket_at IS NULL THEN 2 ELSE 3 END, bitbucket_at,
  ARRAY[%(first)s + h %% 50, %(first)s + (h / 7) %% 50, %(first)s + 50 + h %% 2000,
    %(first)s + 50 + (h / 11) %% 2000]::bigint[],
  h %% 5000 = 0, h %% 1000 = 1, false,
  CASE WHEN h %% 500 = 0 THEN now() + interval '60 days' END, now() - interval '1000 days'
FROM (
  SELECT *,
    CASE WHEN products & 1 > 0 AND h %% 11 > 1 THEN now() - (h / 3 %% 700) * interval '1 day' END AS jira_at,
    CASE WHEN products & 2 > 0 AND h %% 13 > 2 THEN now() - (h / 5 %% 700) * interval '1 day' END AS confluence_at,
    CASE WHEN products & 4 > 0 AND h %% 17 > 2 THEN now() - (h / 7 %% 700) * interval '1 day' END AS jsm_at,
    CASE WHEN products & 8 > 0 AND h %% 19 > 2 THEN now() - (h / 9 %% 700) * interval '1 day' END AS bitbucket_at
  FROM (
    SELECT n, h, now() - (h %% 1100) * interval '1 day' AS added, h %% 50 = 7 AS unknown,
      CASE WHEN h %% 12 = 0 THEN 0 ELSE (h / 13 %% 15 + 1) END AS products,
      (ARRAY['ada','ben','cleo','dora','eva','finn','gus','hana','ivo','jana','kai','lena','mia','noor','olaf','pia'])
        [1 + h %% 16] || ' ' ||
      (ARRAY['adler','berg','costa','diaz','eriksen','fischer','garcia','horvat','ito','jansen','khan','larsen',
        'morita','nowak','okafor','petrov','quist','rossi','silva','tanaka']) [1 + h / 17 %% 20] AS who
    FROM (SELECT n, abs(hashint8(n))::bigint AS h FROM generate_series(1, %(people)s) n) numbered
  ) drawn
) dated""".replace("\n", " "),
            {"organization": organization.pk, "people": people, "first": first},
        )
        cursor.execute(
            """
INSERT INTO users_productaccess (organization_id, account_id, product, resource, site, activity, last_active_at,
  source, source_at, group_ids, direct)
SELECT a.organization_id, a.id, p.product, 'ari:cloud:' || p.product || '::site/1', 'acme', p.activity, p.at,
  'api', now(), CASE WHEN a.id %% 9 = 0 THEN '{}' ELSE a.group_ids[1:1] END, CASE WHEN a.id %% 4 = 0 THEN 2 ELSE 0 END
FROM users_account a CROSS JOIN LATERAL (VALUES
  ('jira', a.jira_activity, a.jira_last_active_at), ('confluence', a.confluence_activity, a.confluence_last_active_at),
  ('jsm', a.jsm_activity, a.jsm_last_active_at), ('bitbucket', a.bitbucket_activity, a.bitbucket_last_active_at),
  ('trello', CASE WHEN a.id %% 300 = 0 THEN 2 ELSE 0 END, NULL::timestamptz)) p (product, activity, at)
WHERE a.organization_id = %(organization)s AND p.activity > 0""".replace("\n", " "),
            {"organization": organization.pk},
        )
        for table in ("users_account", "users_productaccess", "users_group"):
            cursor.execute(f"VACUUM ANALYZE {table}")
    now = timezone.now()
    SyncRun.objects.create(
        organization=organization, status="succeeded", is_trusted=True, started_at=now, finished_at=now
    )
    return first, first + 60


class Bench:
    def __init__(self, organization: Any, people: int, groups: tuple[int, int]) -> None:
        self.organization, self.people = organization, people
        self.groups = {"group": groups[0], "small": groups[1]}

    def filters(self, text: str) -> Any:
        from django.http import QueryDict

        from apps.users.selectors import AccountFilters

        filters, errors = AccountFilters.parse(QueryDict(text.format(**self.groups)))
        if errors:
            raise RuntimeError(errors)
        return filters

    def ours(self, text: str, cursor: str | None = None, ordering: str = "name") -> float:
        from apps.users.selectors import explorer

        filters = self.filters(text)
        return common.timed(lambda: explorer(self.organization, filters, cursor=cursor, ordering=ordering, limit=50))

    def bare(self, text: str, place: tuple[str, int] | None = None) -> float:
        """The same condition by a raw cursor: one page of whole rows in order, no counts, no words."""
        from django.db import connection

        from apps.users.models import Account
        from apps.users.predicates import Context

        people = Account.objects.of(self.organization).filter(self.filters(text).as_q(Context.of(self.organization)))
        if place is not None:
            people = people.extra(where=["(sort_name, id) > (%s, %s)"], params=list(place))
        sql, parameters = people.order_by("sort_name", "id")[:51].query.sql_with_params()

        def work() -> None:
            with connection.cursor() as cursor:
                cursor.execute(sql, parameters)
                cursor.fetchall()

        return common.timed(work)

    def deep(self) -> tuple[str, tuple[str, int]]:
        """(cursor, place) at four fifths of the list."""
        from apps.users.models import Account
        from apps.users.selectors.explorer import _Place

        rows = Account.objects.of(self.organization).order_by("sort_name", "id").values_list("sort_name", "id")
        name, pk = rows[self.people * 4 // 5]
        return _Place("name", False, name, pk).write(), (name, pk)

    def works(self) -> dict[str, Callable[[], float]]:
        cursor, place = self.deep()
        found: dict[str, Callable[[], float]] = {
            "first page|ours": lambda: self.ours(""),
            "first page|bare": lambda: self.bare(""),
            "deep page|ours": lambda: self.ours("", cursor),
            "deep page|bare": lambda: self.bare("", place),
            "sorted by last login|ours": lambda: self.ours("", ordering="-last_active"),
        }
        for name, text in FILTERS.items():
            found[f"{name}|ours"] = lambda text=text: self.ours(text)  # type: ignore[misc]
            found[f"{name}|bare"] = lambda text=text: self.bare(text)  # type: ignore[misc]
        return found

    def html(self, rounds: int) -> list[float]:
        """Seconds of the whole page through Django, cached counts of views included."""
        from django.test import Client
        from django.utils import timezone

        from apps.operators.models import Grant, Operator

        operator = Operator.objects.create_user("bench@aum.example", "correct horse battery", name="Bench")
        Grant.objects.create(
            organization=self.organization, operator=operator, role="owner", granted_at=timezone.now(), granted_by="b"
        )
        client = Client()
        client.force_login(operator)
        path = f"/o/{self.organization.slug}/users/"
        client.get(path)
        return [common.timed(lambda: client.get(path)) for _ in range(rounds)]

    def export(self) -> dict[str, Any]:
        """Seconds of a CSV of everybody beside a COPY of the same SELECT, and how memory grew meanwhile."""
        from django.db import connection

        from apps.users.selectors.columns import COLUMNS
        from apps.users.selectors.exports import csv_blocks
        from apps.users.services.exports import export_query

        query = export_query(self.organization, self.filters(""), ordering="name", columns=COLUMNS)
        sql, parameters = query.sql(is_safe=True)

        def bare() -> None:
            with connection.cursor() as cursor, cursor.copy(f"COPY ({sql}) TO STDOUT (FORMAT csv)", parameters) as copy:
                for _ in copy:
                    pass

        before, peak, rows, size = _resident_mb(), 0.0, 0, 0
        began = time.perf_counter()
        for number, (block, count) in enumerate(csv_blocks(query)):
            rows, size = rows + count, size + len(block)
            if number % 50 == 0:
                peak = max(peak, _resident_mb())
        ours = time.perf_counter() - began
        limit = common.timed(bare)
        return {
            "export of everybody as CSV, s": ours,
            "bare COPY of the same SELECT, s": limit,
            "COPY ÷ export (target 0.8)": limit / ours,
            "export, rows": rows,
            "export, MB": size / 1e6,
            "memory that the export added, MB": max(peak - before, 0.0),
        }

    def workbook(self, most: int) -> dict[str, Any]:
        """Seconds and memory of a workbook of at most `most` people."""
        from apps.users.models import Account
        from apps.users.selectors.columns import COLUMNS
        from apps.users.services.exports import export_query, write_workbook

        pks = list(Account.objects.of(self.organization).order_by("pk").values_list("pk", flat=True)[:most])
        query = export_query(self.organization, self.filters(""), ordering="name", columns=COLUMNS, account_pks=pks)
        before, peak = _resident_mb(), 0.0
        began = time.perf_counter()
        with Path("/dev/null").open("wb") as file:
            for _ in write_workbook(query, _Sink(file)):
                peak = max(peak, _resident_mb())
        return {
            f"workbook of {len(pks):,} people, s": time.perf_counter() - began,
            "memory that the workbook added, MB": max(peak - before, 0.0),
        }


class _Sink:
    """A file that forgets what it is given, but knows where it would be."""

    def __init__(self, file: Any) -> None:
        self.file, self.place = file, 0

    def write(self, data: bytes) -> int:
        self.place += len(data)
        return len(data)

    def tell(self) -> int:
        return self.place

    def seek(self, place: int, whence: int = 0) -> int:
        self.place = place
        return place

    def flush(self) -> None:
        return None

    def close(self) -> None:
        return None


def _resident_mb() -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(found[1]) / 1024 if found else 0.0


def measure(run: common.Run) -> None:
    from apps.organizations.models import Organization

    organization = Organization.objects.create(slug="bench", name="Bench", org_id="bench", api_url="http://x")
    groups: tuple[int, int] = (0, 0)

    def fill() -> None:
        nonlocal groups
        groups = generate(organization, run.size)

    run.figure("generated", common.timed(fill), "s")
    bench = Bench(organization, run.size, groups)
    works = bench.works()
    for work in works.values():
        work()  # warms the cache of the database
    rounds = [common.in_random_order(run.rng, works) for _ in range(run.rounds)]
    for name in dict.fromkeys(key.partition("|")[0] for key in works):
        ours = [found[f"{name}|ours"] for found in rounds]
        if f"{name}|bare" in works:
            bare = [found[f"{name}|bare"] for found in rounds]
            run.add(name, aum=ours, limit=bare, limit_is="the bare SQL of the same condition", curve="page" in name)
        else:
            run.figure(name, ours, "s")
    run.figure("HTML of the first page", bench.html(run.rounds), "s")
    for name, value in (bench.export() | bench.workbook(20_000)).items():
        run.figure(name, float(value), "")


BENCHMARK = common.Benchmark("explorer", "Users list and exports", measure, default_size=100_000, rounds=20)
