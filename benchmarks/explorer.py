"""The users list at size beside the bare SQL of the same page, and exports beside a bare COPY.

    script/bench explorer --size 1000000

People are made straight in SQL: 2 % of them in each of 50 large groups and the rest of 2,000 small ones, two products
each on average, dates spread over three years. Each round asks for every page once through `explorer()` and sends the
statements of it once by a raw cursor, in random order. Then 200 mixed requests go through Django, as pages and as REST,
each beside its own statements; their figures are 95th percentiles.
"""

from __future__ import annotations

import functools
import random
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import common

# Name → query string of the explorer; {group} and {small} are keys of a large and a small group.
FILTERS = {
    "search of six characters": "search=morita",
    "search of two characters": "search=mi",
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


MOST_SQL_SECONDS = 0.1


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
        # First names are many, so that people of one family name stand all over the list.
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
        [1 + h %% 16] ||
      (ARRAY['','na','la','ra','mi','ko','li','sa','do','ve','ti','ri','lo','se','be','da'])
        [1 + h / 23 %% 16] || ' ' ||
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
        cursor.execute(
            "INSERT INTO users_exemption (organization_id, account_id, domain, kind, reason, starts_at, until, set_by)"
            " SELECT organization_id, id, '', 'exemption', 'bench', now() - interval '1 day', exempt_until, 'bench'"
            " FROM users_account WHERE organization_id = %s AND exempt_until IS NOT NULL",
            [organization.pk],
        )
        for table in ("users_account", "users_productaccess", "users_group", "users_exemption"):
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

    def bare(self, text: str, cursor: str | None = None, ordering: str = "name") -> Callable[[], float]:
        """The statements that this page needs, by a raw cursor."""
        return replayed(statements_of(lambda: self.ours(text, cursor, ordering)))

    def deep(self, ordering: str = "name") -> str:
        """The cursor at four fifths of the list."""
        from apps.users.models import Account
        from apps.users.selectors.explorer import KEYS, _Place

        rows = Account.objects.of(self.organization).annotate(sort_key=KEYS[ordering.removeprefix("-")][0])
        sign = "-" if ordering.startswith("-") else ""
        key, pk = rows.order_by(f"{sign}sort_key", f"{sign}pk").values_list("sort_key", "pk")[self.people * 4 // 5]
        return _Place(ordering, False, str(key), pk).write()

    def works(self) -> dict[str, Callable[[], float]]:
        pages: dict[str, tuple[str, str | None, str]] = {
            "first page": ("", None, "name"),
            "deep page": ("", self.deep(), "name"),
            "sorted by last login": ("", None, "-last_active"),
            **{name: (text, None, "name") for name, text in FILTERS.items()},
        }
        found: dict[str, Callable[[], float]] = {}
        for name, page in pages.items():
            found[f"{name}|ours"] = lambda page=page: self.ours(*page)  # type: ignore[misc]
            found[f"{name}|bare"] = self.bare(*page)
        return found

    def addresses(self, rng: random.Random, many: int, written: Callable[[str], str]) -> list[str]:
        """Query strings of requests as people make them: filters alone and with an order, first pages and deep ones."""
        deep = {ordering: self.deep(ordering) for ordering in ("name", "-last_active", "added")}
        found = []
        for _ in range(many):
            if rng.random() < 0.3:
                ordering = rng.choice(list(deep))
                cursor = f"&cursor={written(deep[ordering])}" if rng.random() < 0.5 else ""
                found.append(f"ordering={ordering}{cursor}")
            else:
                found.append(rng.choice(list(FILTERS.values())).format(**self.groups))
        return found

    @functools.cached_property
    def client(self) -> Any:
        """An owner's browser."""
        from django.test import Client
        from django.utils import timezone

        from apps.operators.models import Grant, Operator

        operator = Operator.objects.create_user("bench@aum.example", "correct horse battery", name="Bench")
        Grant.objects.create(
            organization=self.organization, operator=operator, role="owner", granted_at=timezone.now(), granted_by="b"
        )
        client = Client()
        client.force_login(operator)
        return client

    def mixed(
        self,
        run: common.Run,
        title: str,
        path: str,
        written: Callable[[str], str] = str,
        many: int = 200,
        rounds: int = 5,
    ) -> None:
        """Requests one after another through Django, each beside its own statements by a raw cursor.

        `written`: a cursor of the list as the address has it.
        """
        client = self.client

        def ask(query: str) -> float:
            def work() -> None:
                answer = client.get(f"{path}?{query}")
                if answer.status_code != 200:
                    raise RuntimeError(f"{answer.status_code} for {query}")

            return common.timed(work)

        queries = self.addresses(run.rng, many, written)
        works = [
            {"ours": functools.partial(ask, query), "bare": replayed(statements_of(lambda query=query: ask(query)))}  # type: ignore[misc]
            for query in queries
        ]
        p95: dict[str, list[float]] = {"ours": [], "bare": []}
        above: list[float] = []
        for _ in range(rounds):
            run.rng.shuffle(works)
            found = [common.in_random_order(run.rng, pair) for pair in works]
            for side, values in p95.items():
                values.append(common.p95([one[side] for one in found]))
            middle = {side: statistics.median(one[side] for one in found) for side in p95}
            above.append((middle["ours"] - middle["bare"]) * 1000)
        run.add(
            f"{many} mixed requests, {title}: p95",
            aum=p95["ours"],
            limit=p95["bare"],
            limit_is="their SQL by a raw cursor",
            target=common.at_most(1.7),
        )
        run.figure(f"{many} mixed requests, {title}: median above SQL", above, "ms", common.at_most(10))

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


def statements_of(work: Callable[[], Any]) -> list[tuple[str, Any]]:
    """The reading statements that `work` sends, with their parameters. The first run also warms the cache."""
    from django.db import connection

    found: list[tuple[str, Any]] = []

    def keep(execute: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
        if sql.startswith(("SELECT", "WITH")):
            found.append((sql, parameters))
        return execute(sql, parameters, many, context)

    work()
    with connection.execute_wrapper(keep):
        work()
    return found


def replayed(statements: list[tuple[str, Any]]) -> Callable[[], float]:
    """Seconds of the statements by a cursor of psycopg, rows read and thrown away."""
    from django.db import connection

    def work() -> None:
        connection.ensure_connection()
        with connection.connection.cursor() as cursor:
            for sql, parameters in statements:
                cursor.execute(sql, parameters).fetchall()

    return lambda: common.timed(work)


def measure(run: common.Run) -> None:
    from django.conf import settings
    from django.core import signing
    from django.urls import reverse

    from apps.organizations.models import Organization
    from aum.common.pagination import CURSOR_SALT

    organization = Organization.objects.create(slug="bench", name="Bench", org_id="bench", api_url="http://x")
    groups: tuple[int, int] = (0, 0)

    def fill() -> None:
        nonlocal groups
        groups = generate(organization, run.size)

    run.figure("generated", common.timed(fill), "s")
    bench = Bench(organization, run.size, groups)
    works = bench.works()
    rounds = [common.in_random_order(run.rng, works) for _ in range(run.rounds)]
    for name in dict.fromkeys(key.partition("|")[0] for key in works):
        ours, bare = ([found[f"{name}|{side}"] for found in rounds] for side in ("ours", "bare"))
        line = run.add(name, aum=ours, limit=bare, limit_is="its SQL by a raw cursor", curve="page" in name)
        line.target, line.holds = "SQL ≤ 0.1 s", statistics.median(bare) <= MOST_SQL_SECONDS
    settings.AUM_API_REQUESTS_PER_MINUTE = 1_000_000
    bench.mixed(run, "pages", reverse("users:list", args=[organization.slug]))
    path = reverse("api-accounts", args=[organization.slug])
    bench.mixed(run, "REST", path, lambda cursor: signing.dumps([path, cursor], salt=CURSOR_SALT))
    for name, value in (bench.export() | bench.workbook(20_000)).items():
        run.figure(name, float(value), "")


BENCHMARK = common.Benchmark("explorer", "Users list and exports", measure, default_size=100_000, rounds=20)
