"""What a rule selects and plans at size, beside the bare SQL of the same rows.

    script/bench plan --size 1000000

The people are those of the explorer's benchmark, each in one directory. A rule is counted as its editor counts it
while one types: who matches by reason, who is left out and why. Its limit is the scan that no rule can do without:
the same date and states over the same table, without groups, protection and reasons. A plan is written as a worker
writes it: items, and who is left out, in one statement. Its limit is a raw INSERT … SELECT of the items alone.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Any

from benchmarks import common
from benchmarks.explorer import generate

IDLE_DAYS = 200
# Beside the days, a protected group and the states: ten conditions of every kind that SQL has to look at.
TEN = (
    {"name": "product", "products": ["jira", "confluence"]},
    {"name": "kind", "values": ["person"]},
    {"name": "claim_status", "values": ["managed"]},
    {"name": "added_days", "days": 60},
    {"name": "search", "text": "a"},
    {"name": "domain", "domains": ["example.com"]},
    {"name": "group_none", "groups": ["{small}"]},
    {"name": "membership_status", "values": ["active"]},
    {"name": "account_status", "values": ["active"]},
    {"name": "is_synced", "value": True, "not": True},
)


def connect(organization: Any) -> None:
    """Everybody is in the directory, and the connection is complete."""
    from django.db import connection
    from django.utils import timezone

    from apps.organizations.models import CapabilityCheck, Credential

    now = timezone.now()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO users_directorymembership (organization_id, account_id, directory_id, status,"
            " management_source) SELECT a.organization_id, a.id, d.id, a.membership_status, 1"
            " FROM users_account a JOIN organizations_directory d ON d.organization_id = a.organization_id"
            " WHERE a.organization_id = %s",
            [organization.pk],
        )
        cursor.execute("VACUUM ANALYZE users_directorymembership")
    for kind in Credential.Kind.values:
        Credential.objects.create(
            organization=organization,
            kind=kind,
            encrypted_value=b"x",
            set_at=now,
            set_by="bench",
            owner_email="bench@aum.example",
        )
    CapabilityCheck.objects.create(organization=organization, capability="reach", ok=True, checked_at=now)


class Bench:
    def __init__(self, organization: Any, groups: tuple[int, int]) -> None:
        self.organization, self.groups = organization, groups
        self.now = datetime.now(UTC)

    def rule(self, conditions: tuple[dict[str, Any], ...] = ()) -> Any:
        """Cleaned values of a rule: suspend after IDLE_DAYS, members of a large group protected."""
        from apps.rules.values import RuleInput, clean

        given = [{**one, "groups": [str(self.groups[1])]} if "groups" in one else one for one in conditions]
        values = RuleInput(
            name="bench",
            inactive_days=IDLE_DAYS,
            protected_groups=(self.groups[0],),
            conditions=tuple(given),
            run_at=time(6, 0),
        )
        return clean(values, self.organization)

    def counted(self, values: Any) -> Callable[[], float]:
        from apps.rules.selectors import estimate

        return lambda: common.timed(lambda: estimate(self.organization, values, now=self.now))

    def scan(self) -> Callable[[], float]:
        from django.db import connection

        cutoff = self.now - timedelta(days=IDLE_DAYS, hours=self.organization.activity_margin_hours)

        def work() -> None:
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT count(*) FROM users_account WHERE organization_id = %s AND account_status = 1"
                    " AND membership_status = 1 AND last_active_at < %s",
                    [self.organization.pk, cutoff],
                )
                cursor.fetchall()

        return lambda: common.timed(work)

    def operation(self, number: int) -> Any:
        from apps.operations.models import Operation

        return Operation.objects.create(
            organization=self.organization,
            number=number,
            kind="automation_rule",
            mode="safe",
            status="planning",
            initiator="manual",
            name="bench",
            actor_text="bench",
            action="suspend",
        )

    def planned(self) -> float:
        """Seconds of the planner's statement: items, reasons, and who is left out."""
        from apps.operations import planning
        from apps.rules.values import selection_for

        values = self.rule()
        operation = self.operation(1)
        selection, actions = selection_for(self.organization, values), [values.action_spec()]
        seconds = common.timed(lambda: planning.insert_plan(operation, selection, actions, self.now))
        self.rows = operation.items.count()
        self.forget(operation)
        return seconds

    def bare(self) -> float:
        """Seconds of the items alone by a raw cursor, chosen by the same conditions."""
        from django.db import connection

        from apps.operations import planning
        from apps.rules.values import selection_for

        values = self.rule()
        operation = self.operation(2)
        rows = planning.candidates(self.organization, selection_for(self.organization, values), "suspend", self.now)
        chosen, parameters = rows.filter(out=planning.IN).order_by().values_list("pk", "why").query.sql_with_params()
        statement = (
            f"INSERT INTO operations_operationitem ({planning.ITEM_COLUMNS}) SELECT %s, %s, a.id, a.account_id,"
            " 'suspend', 'directory:' || d.directory_id, 50, jsonb_build_object('directory', d.directory_id),"
            f" c.why::jsonb, {planning.ITEM_DEFAULTS} FROM ({chosen}) c(id, why) JOIN users_account a ON a.id = c.id"
            " JOIN users_directorymembership dm ON dm.account_id = a.id AND dm.status = 1"
            " JOIN organizations_directory d ON d.id = dm.directory_id"
        )

        def work() -> None:
            with connection.cursor() as cursor:
                cursor.execute(statement, [self.organization.pk, operation.pk, *parameters])

        seconds = common.timed(work)
        if operation.items.count() != self.rows:
            raise RuntimeError("both sides have to write the same people")
        self.forget(operation)
        return seconds

    def forget(self, operation: Any) -> None:
        """Take the plan back, so that every round writes to tables of the same size."""
        from django.db import connection

        with connection.cursor() as cursor:
            for table in ("operations_operationitem", "operations_leftout"):
                cursor.execute(f"DELETE FROM {table} WHERE operation_id = %s", [operation.pk])
                cursor.execute(f"VACUUM {table}")
        operation.delete()

    def preview(self) -> tuple[float, int]:
        """(seconds, people) of a whole preview: asked for, planned, hashed, its licences counted, let through."""
        from apps.operations import services
        from apps.organizations.recorder import Actor
        from apps.rules.values import selection_for

        values = self.rule()

        def work() -> None:
            self.made = services.plan_operation(
                organization=self.organization,
                kind="automation_rule",
                mode="safe",
                initiator="manual",
                actor=Actor.system(),
                operator=None,
                name="bench",
                actions=[values.action_spec()],
                selection=selection_for(self.organization, values),
            )
            services.run_planning(self.made.pk)

        seconds = common.timed(work)
        self.made.refresh_from_db()
        if self.made.status != "previewed":
            raise RuntimeError(self.made.status_detail or self.made.status)
        return seconds, self.made.people_count


def measure(run: common.Run) -> None:
    from apps.organizations.models import Organization

    organization = Organization.objects.create(slug="bench", name="Bench", org_id="bench", api_url="http://x")
    groups = generate(organization, run.size)
    connect(organization)
    bench = Bench(organization, groups)
    scan = bench.scan()
    scan()
    target = common.at_most(2.0)
    is_scan = "the scan alone"
    plain, ten = bench.counted(bench.rule()), bench.counted(bench.rule(TEN))
    run.compare("rule counted with its reasons", aum=plain, limit=scan, limit_is=is_scan, target=target)
    run.compare("rule with ten conditions", aum=ten, limit=scan, limit_is=is_scan, target=target)
    bench.planned()
    run.compare(
        "plan: items and who is left out",
        aum=bench.planned,
        limit=bench.bare,
        limit_is="raw INSERT … SELECT of the items",
        target=common.at_most(1.2),
    )
    run.figure("people in that plan", bench.rows, "")
    seconds, people = bench.preview()
    run.figure("whole preview, hash and licences included", seconds, "s")
    run.figure("people a second of a whole preview", people / seconds, "people/s")


BENCHMARK = common.Benchmark("plan", "Rules: who they select, and their plans", measure, default_size=100_000)
