"""The audit pages at size: each page and each filter of both views beside the same page of a smaller log.

    script/bench audit-pages --size 1000000

Events of two years are made in sets in SQL, with people, runs, items and the words to search by; the chain is not,
because no page reads it. The log grows as one does: twice the events are twice the runs and twice the people. Every
page is asked for over HTTP (Django's own client); its SQL is timed on its way. Targets of PERFORMANCE.md, beside a log
of 100,000 entries in the same tables: at most twice as long, and at most 100 ms of SQL.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import common

SMALL = 100_000
DAYS = 730
EVENTS_A_RUN = 500
EVENTS_A_PERSON = 50
OPERATORS = 20
# Every so many events, one with a word that no other holds.
RARE = 250_007
# Name → query string of /audit/; {…} are filled for each size.
PAGES = {
    "runs: first page": "",
    "runs: deep page": "after={run_moment},{run_key}",
    "runs: search of a frequent word": "q=cleanup",
    "runs: search of a rule that ran twice": "q={rare_rule}",
    "runs: search that finds nothing": "q=zirconium",
    "runs: run number": "q=%23{number}",
    "runs: performer": "performer=operator3@",
    "runs: user": "performer={email}",
    "runs: user that nobody is": "performer=nobody.is.called.so",
    "runs: scheduled cleanup, success, yesterday": "type=scheduled_cleanup&status=success&when=yesterday",
    "runs: failed": "status=failed",
    "runs: a day a year ago": "since={day}&until={day}",
    "detail: first page": "view=detail",
    "detail: deep page": "view=detail&after={moment},{key}",
    "detail: search of a frequent word": "view=detail&q=cleanup",
    "detail: search of two frequent words": "view=detail&q=nightly+suspend",
    "detail: search of a rare word": "view=detail&q=heliotrope",
    "detail: search that finds nothing": "view=detail&q=zirconium",
    "detail: search of an e-mail": "view=detail&q={email}",
    "detail: search of a rule that ran twice": "view=detail&q={rare_rule}",
    "detail: run number": "view=detail&q=%23{number}",
    "detail: performer": "view=detail&performer=operator3@",
    "detail: user": "view=detail&performer={email}",
    "detail: half of all users": "view=detail&performer=person",
    "detail: user that nobody is": "view=detail&performer=nobody.is.called.so",
    "detail: scheduled cleanup": "view=detail&type=scheduled_cleanup",
    "detail: bulk CSV action (rare)": "view=detail&type=bulk_csv_action",
    "detail: directory sync": "view=detail&type=sync",
    "detail: success": "view=detail&status=success",
    "detail: failed": "view=detail&status=failed",
    "detail: partial failure": "view=detail&status=partial",
    "detail: in progress (none)": "view=detail&status=progress",
    "detail: a day a year ago": "view=detail&since={day}&until={day}",
    "detail: kind of action": "view=detail&action=rule.",
    "detail: type, status, word and year": "view=detail&type=scheduled_cleanup&status=failed&q=jira&until={day}",
}


def generate(organization: Any, rows: int) -> None:
    """Fill the log and what its pages read beside it; everything follows from numbers, so that two runs are equal."""
    from django.db import connection

    from apps.audit.search import WORDS_OF_EVENT

    values = {
        "organization": organization.pk,
        "rows": rows,
        "runs": rows // EVENTS_A_RUN,
        "people": rows // EVENTS_A_PERSON,
        "seconds": DAYS * 86400,
        "a_run": EVENTS_A_RUN,
        "operators": OPERATORS,
        "rare": RARE,
    }

    def run(sql: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(" ".join(sql.split()), values)

    _months(connection)
    run(
        """
INSERT INTO users_account (organization_id, account_id, name, sort_name, email, account_status, membership_status,
  claim_status, management_source, is_for_deletion, kind, is_kind_released, products, has_unknown_activity,
  is_activity_read, jira_activity, confluence_activity, jsm_activity, bitbucket_activity, group_ids, is_org_admin,
  is_site_admin, is_connection_owner, first_seen_at)
SELECT %(organization)s, '557058:' || n, 'Person ' || n, 'person ' || n, 'person' || n || '@example.com', 1, 1, 1, 1,
  false, 1, false, 1, false, true, 0, 0, 0, 0, '{}', false, false, false, now()
FROM generate_series(1, %(people)s) n"""
    )
    run(
        """
INSERT INTO audit_auditidentity (organization_id, kind, key, name, email, salt, commitment, fingerprint)
SELECT %(organization)s, kind, key, name, email, '', '', decode(md5(kind || key), 'hex') FROM (
  SELECT 'operator' AS kind, n::text AS key, 'Operator ' || n AS name, 'operator' || n || '@example.com' AS email
    FROM generate_series(0, %(operators)s - 1) n
  UNION ALL SELECT 'scheduler', 'scheduler', 'AUM scheduler', ''
  UNION ALL SELECT 'account', '557058:' || n, 'Person ' || n, 'person' || n || '@example.com'
    FROM generate_series(1, %(people)s) n) made"""
    )
    # Run n of all: its kind, who started it and how it ended repeat; run 1 is the oldest.
    run(
        """
INSERT INTO operations_operation (organization_id, number, uuid, kind, mode, status, initiator, actor_text, is_by_token,
  name, action, reason, rule_id, frozen, sentence, request, plan_hash, planned_count, people_count, licensed_count,
  left_out, outcomes, progress_done, progress_total, held_reasons, is_approved, status_detail, created_at, planned_at,
  started_at, finished_at)
SELECT %(organization)s, n, gen_random_uuid(), CASE WHEN n %% 50 = 7 THEN 'bulk_csv_action' WHEN n %% 10 < 6
  THEN 'scheduled_cleanup' WHEN n %% 10 < 8 THEN 'automation_rule' ELSE 'manual_operation' END, 'live',
  CASE WHEN n %% 40 = 3 THEN 'failed' WHEN n %% 20 = 9 THEN 'partial_failure' ELSE 'succeeded' END,
  CASE WHEN n %% 10 < 6 THEN 'automated' ELSE 'manual' END,
  CASE WHEN n %% 10 < 6 THEN 'AUM scheduler' ELSE 'operator' || n %% %(operators)s || '@example.com' END, false,
  CASE WHEN n = 2 OR n = %(runs)s / 2 THEN 'Quarterly marigold review' ELSE 'Nightly cleanup ' || n %% 40 END,
  'suspend', '', NULL, '{}', '', '{}', '', %(a_run)s, %(a_run)s, %(a_run)s, '{}', '{"done": 490, "failed": 10}',
  %(a_run)s, %(a_run)s, '[]', true, '', at, at, at, at + interval '4 minutes'
FROM (SELECT n, now() - (%(runs)s - n) * (interval '1 second' * (%(seconds)s / %(runs)s)) - interval '1 hour' AS at
  FROM generate_series(1, %(runs)s) n) made"""
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT min(id) FROM operations_operation WHERE organization_id = %s", [organization.pk])
        values["first_run"] = cursor.fetchone()[0]
        cursor.execute(
            "SELECT min(id) FILTER (WHERE kind = 'operator'), min(id) FILTER (WHERE kind = 'scheduler'),"
            " min(id) FILTER (WHERE kind = 'account') FROM audit_auditidentity WHERE organization_id = %s",
            [organization.pk],
        )
        values["first_operator"], values["scheduler"], values["first_person"] = cursor.fetchone()
        cursor.execute("SELECT min(id) FROM users_account WHERE organization_id = %s", [organization.pk])
        values["first_account"] = cursor.fetchone()[0]
    # Of 100 events, 98 belong to a run, one to a sync and one to a rule.
    run(
        """
INSERT INTO audit_auditevent (organization_id, at, actor_kind, actor_id, action, outcome, target_kind, target_id,
  target_ref, operation_id, operation_number, rule_name, group_name, reason, before, after, request_id, call_id,
  http_request_id, schema_version)
SELECT %(organization)s, at + (n %% %(a_run)s) * interval '0.4 seconds',
  CASE WHEN is_automatic THEN 'scheduler' ELSE 'operator' END,
  CASE WHEN is_automatic THEN %(scheduler)s ELSE %(first_operator)s + run %% %(operators)s END,
  CASE n %% 100 WHEN 0 THEN 'sync.finished' WHEN 1 THEN 'rule.updated'
    ELSE (ARRAY['account.suspend', 'account.remove_from_group', 'account.deactivate'])[1 + run %% 3] END,
  CASE WHEN n %% 97 = 3 THEN 'failed' WHEN n %% 31 = 4 THEN 'skipped' ELSE 'success' END,
  CASE WHEN n %% 100 < 2 THEN 'organization' ELSE 'account' END,
  CASE WHEN n %% 100 >= 2 THEN %(first_person)s + (n * 7919::bigint) %% %(people)s END,
  CASE WHEN n %% 100 >= 2 THEN '557058:' || 1 + (n * 7919::bigint) %% %(people)s ELSE '' END,
  CASE WHEN n %% 100 >= 2 THEN %(first_run)s + run - 1 END, CASE WHEN n %% 100 >= 2 THEN run END,
  CASE WHEN run = 2 OR run = %(runs)s / 2 THEN 'Quarterly marigold review' ELSE 'Nightly cleanup ' || run %% 40 END,
  'jira-software-users-' || n %% 50, CASE WHEN n %% %(rare)s = 77 THEN 'Found by the heliotrope review.' ELSE '' END,
  '{"status": "active"}', '{"status": "suspended"}', md5(n::text), '', '', 1
FROM (SELECT n, 1 + n / %(a_run)s AS run, (1 + n / %(a_run)s) %% 10 < 6 AS is_automatic,
  now() - (%(runs)s - 1 - n / %(a_run)s) * (interval '1 second' * (%(seconds)s / %(runs)s)) - interval '1 hour' AS at
  FROM generate_series(0, %(rows)s - 1) n) made ORDER BY n"""
    )
    with _bulk(connection, "operations_operationitem"):
        run(
            """
INSERT INTO operations_operationitem (organization_id, operation_id, account_id, subject, action, target, rank,
  parameters, reason, status, outcome, detail, attempts, is_answered, doubt_reads, atlassian_request_id, call_id,
  written_at, finished_at)
SELECT %(organization)s, %(first_run)s + n / %(a_run)s, %(first_account)s + (n * 7919::bigint) %% %(people)s,
  '557058:' || 1 + (n * 7919::bigint) %% %(people)s, 'suspend', 'directory:d' || n, 0, '{}', '{}', 'finished',
  CASE WHEN n %% 97 = 3 THEN 'failed' ELSE 'done' END, '', 1, true, 0, '', '', at, at
FROM (SELECT n, now() - (%(runs)s - 1 - n / %(a_run)s) * (interval '1 second' * (%(seconds)s / %(runs)s))
  - interval '1 hour' AS at FROM generate_series(0, %(rows)s - 1) n WHERE n %% 100 >= 2) made"""
        )
    with _bulk(connection, "audit_auditsearch"):
        run(
            "INSERT INTO audit_auditsearch (event_id, organization_id, at, words)"
            f" SELECT e.id, e.organization_id, e.at, {WORDS_OF_EVENT} FROM audit_auditevent e"
            " WHERE e.organization_id = %(organization)s ORDER BY e.id"
        )
    # What is sealed is found by its words; so that nothing counts as the tail, one segment says that all of it is.
    run(
        """
INSERT INTO audit_auditsegment (organization_id, number, first_id, last_id, count, digests, root, previous_head, head,
  signature, key_id, sealed_at)
SELECT %(organization)s, 1, min(id), max(id), count(*), '', '', '', '', '', '', now() FROM audit_auditevent
WHERE organization_id = %(organization)s"""
    )


@contextlib.contextmanager
def _bulk(connection: Any, table: str) -> Iterator[None]:
    """Rows first and their indexes afterwards, references unchecked: millions take minutes instead of an hour."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
            " WHERE indrelid = %s::regclass AND NOT indisunique",
            [table],
        )
        indexes = cursor.fetchall()
        cursor.execute("SET maintenance_work_mem = '512MB'")
        cursor.execute("SET session_replication_role = replica")
        for name, _ in indexes:
            cursor.execute(f"DROP INDEX {name}")
        yield
        for _, definition in indexes:
            cursor.execute(definition)
        cursor.execute("RESET session_replication_role")
        cursor.execute("RESET maintenance_work_mem")


def _months(connection: Any) -> None:
    """Partitions of every month that the events lie in, as the daily task made them at their time."""
    from datetime import timedelta

    from django.db import transaction
    from django.utils import timezone

    from apps.audit.services.partitions import adopt_month

    day, months = timezone.now() - timedelta(days=DAYS + 2), set()
    while day <= timezone.now():
        months.add(day.year * 100 + day.month)
        day += timedelta(days=20)
    for month in sorted(months):
        with transaction.atomic():
            adopt_month(month)


def analyze() -> None:
    """What autovacuum has long done in an installation of that age."""
    from django.db import connection

    for table in (
        "audit_auditevent",
        "audit_auditidentity",
        "audit_auditsearch",
        "operations_operation",
        "operations_operationitem",
        "users_account",
    ):
        with connection.cursor() as cursor:
            cursor.execute(f"VACUUM ANALYZE {table}")


class Pages:
    """The pages of one organisation, asked for by its owner."""

    def __init__(self, organization: Any, rows: int) -> None:
        from django.test import Client
        from django.utils import timezone

        from apps.audit.models import AuditEvent
        from apps.operations.models import Operation
        from apps.operators.models import Grant, Operator

        operator = Operator.objects.create_user(f"bench{rows}@aum.example", "correct horse battery", name="Bench")
        Grant.objects.create(
            organization=organization, operator=operator, role="owner", granted_at=timezone.now(), granted_by="bench"
        )
        self.client = Client(headers={"HX-Request": "true"})
        self.client.force_login(operator)
        self.base = f"/o/{organization.slug}/audit/"
        event = AuditEvent.objects.of(organization).order_by("id")[rows // 5]
        run = Operation.objects.of(organization).order_by("id")[rows // EVENTS_A_RUN // 5]
        self.values = {
            "moment": event.at.isoformat().replace("+", "%2B"),
            "key": f"e{event.pk}",
            "run_moment": run.created_at.isoformat().replace("+", "%2B"),
            "run_key": f"o{run.pk:020}",
            "number": run.number,
            "email": f"person{rows // EVENTS_A_PERSON // 2}@example.com",
            "rare_rule": "marigold",
            "day": (timezone.now().date() - timezone.timedelta(days=365)).isoformat(),
        }

    def ask(self, query: str) -> tuple[float, float]:
        """(seconds, seconds of them in SQL) of one page."""
        from django.db import connection

        spent = 0.0

        def timing(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
            nonlocal spent
            began = time.perf_counter()
            try:
                return execute(sql, params, many, context)
            finally:
                spent += time.perf_counter() - began

        path = self.base + query.format(**self.values)
        with connection.execute_wrapper(timing):
            began = time.perf_counter()
            answer = self.client.get(path)
            seconds = time.perf_counter() - began
        if answer.status_code != 200:
            raise RuntimeError(f"{path}: {answer.status_code}")
        return seconds, spent


def addresses() -> dict[str, str]:
    """Name → address below /audit/ of everything that is measured."""
    found = {name: f"?{query}" for name, query in PAGES.items()}
    return found | {f"card: {name}": f"cards/{name}/" for name in ("total", "success", "failed", "users")}


def measure(run: common.Run) -> None:
    from apps.audit import registry
    from apps.organizations.models import Organization

    registry.register_words_complete(lambda _organization: True)
    pages = {}
    organizations = {
        size: Organization.objects.create(slug=f"log-{size}", name="Log", org_id=f"log-{size}", api_url="http://x")
        for size in sorted({SMALL, run.size})
    }
    for size, organization in organizations.items():
        run.figure(f"{size:,} entries made", common.timed(lambda: generate(organization, size)), "s")  # noqa: B023
    analyze()
    pages = {size: Pages(organization, size) for size, organization in organizations.items()}
    compare(run, pages[SMALL], pages[run.size])


def compare(run: common.Run, small: Pages, large: Pages) -> None:
    """Each page of the large log beside the same of the small one, and its SQL."""
    for name, query in addresses().items():
        spent: list[float] = []

        def ask(pages: Pages, query: str = query, spent: list[float] = spent) -> float:
            seconds, in_sql = pages.ask(query)
            if pages is large:
                spent.append(in_sql)
            return seconds

        ask(small), ask(large)  # warms the cache of the database
        spent.clear()
        works = {"aum": lambda ask=ask: ask(large), "limit": lambda ask=ask: ask(small)}
        found = [common.in_random_order(run.rng, works) for _ in range(run.rounds)]
        run.add(
            name,
            aum=[one["aum"] * 1000 for one in found],
            limit=[one["limit"] * 1000 for one in found],
            limit_is=f"of {SMALL:,} entries",
            target=common.at_most(2),
            unit="ms",
            curve="first page" in name,
        )
        run.figure(f"{name}: SQL", [seconds * 1000 for seconds in spent], "ms", common.at_most(100))


BENCHMARK = common.Benchmark(
    "audit-pages",
    "The audit pages",
    measure,
    sizes=(100_000, 1_000_000, 10_000_000),
    default_size=100_000,
    rounds=7,
    size_is="entries",
)
