"""A full sync beside a bare loop over the same pages, and its merge beside a bare COPY of the same rows.

    script/bench sync --size 10000

Each round empties the mirror, then runs, in random order: a sync into it with two more after it (nothing changed; one
per cent changed), a loop that only fetches the pages that a sync fetches, and a COPY of the rows that the merge wrote
into empty tables with the same indexes.
"""

from __future__ import annotations

import io
import random
from typing import Any

import requests

from benchmarks import common

TABLES = ("users_account", "users_directorymembership", "users_groupmembership", "users_productaccess")


class Bench:
    def __init__(self, known: dict[str, Any], seed: int) -> None:
        from django.utils import timezone

        from apps.organizations import crypto
        from apps.organizations.models import Credential, Organization

        self.known = known
        self.rng = random.Random(seed)
        self.people = 0
        self.organization = Organization.objects.create(
            slug="bench", name="Bench", org_id=known["org_id"], api_url=known["api_url"]
        )
        for kind in ("api_key", "api_token"):
            Credential.objects.create(
                organization=self.organization,
                kind=kind,
                encrypted_value=crypto.encrypt(known[kind]),
                owner_email=known["email"],
                set_at=timezone.now(),
                set_by="benchmark",
            )
        self.details: dict[str, list[float]] = {}

    # -- AUM

    def sync(self) -> float:
        """Seconds of one sync; its merge's share is kept in `merge_seconds`."""
        from apps.organizations.recorder import Actor
        from apps.users.services import request_sync, run_sync

        run = request_sync(organization=self.organization, actor=Actor.system())

        def work() -> None:
            run_sync(run.pk, budget_seconds=None, wait_here=True)

        seconds = common.timed(work)
        run.refresh_from_db()
        if run.status != "succeeded":
            raise RuntimeError(f"The sync ended as {run.status}: {run.error_detail} {run.distrust_reasons}")
        self.people = run.people_seen
        self.merge_seconds = run.trust["merge_seconds"]
        return seconds

    def full(self) -> float:
        """A first sync into empty tables, then two more, whose figures go to `details`."""
        self.empty()
        first = self.sync()
        self.note("merge of the first", self.merge_seconds)
        self.note("sync, nothing changed", self.sync())
        self.note("merge, nothing changed", self.merge_seconds)
        self.change(0.01)
        self.note("sync, 1 % changed", self.sync())
        self.note("merge, 1 % changed", self.merge_seconds)
        return first

    def change(self, share: float) -> None:
        """Make the mirror differ from Atlassian in this share of people, as if they had changed there."""
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE users_directorymembership SET digest = NULL WHERE account_id IN "
                "(SELECT id FROM users_account WHERE id %% %s = 0)",
                [round(1 / share)],
            )
            cursor.execute("UPDATE users_account SET name = 'x' || name WHERE id %% %s = 0", [round(1 / share)])

    def empty(self) -> None:
        from django.db import connection

        from apps.users.models import SyncRun

        with connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {', '.join(TABLES)}, users_group CASCADE")
        SyncRun.objects.all().delete()

    def note(self, name: str, seconds: float) -> None:
        self.details.setdefault(name, []).append(seconds)

    # -- the limits

    def fetch(self) -> float:
        """Seconds of a bare loop over the pages of people that a sync reads."""

        def work() -> None:
            with requests.Session() as session:
                session.headers["Authorization"] = f"Bearer {self.known['api_key']}"
                for place in self.known["directories"]:
                    self._fetch_all(session, place["id"], {})
                self._fetch_all(session, "-", {"membershipStatus": ["no_membership"]})

        return common.timed(work)

    def _fetch_all(self, session: requests.Session, place: str, filters: dict[str, Any]) -> None:
        url = f"{self.known['api_url']}/admin/v2/orgs/{self.known['org_id']}/directories/{place}/users/search"
        body: dict[str, Any] = {"limit": 100, "expand": ["platformRoles", "productAccess", "groups"], **filters}
        while True:
            answer = session.post(url, json=body, timeout=60)
            answer.raise_for_status()
            cursor = answer.json()["links"].get("next")
            if not cursor:
                return
            body["cursor"] = cursor

    def copy(self) -> float:
        """Seconds of COPY of the mirror's rows into empty tables with the same indexes."""
        from django.db import connection, transaction

        with connection.cursor() as cursor, transaction.atomic():
            content = {}
            for table in TABLES:
                buffer = io.BytesIO()
                with cursor.copy(f"COPY {table} TO STDOUT") as copy:
                    for block in copy:
                        buffer.write(block)
                content[table] = buffer.getvalue()
                cursor.execute(f"CREATE TABLE bare_{table} (LIKE {table} INCLUDING INDEXES INCLUDING DEFAULTS)")

            def work() -> None:
                for table, rows in content.items():
                    with cursor.copy(f"COPY bare_{table} FROM STDIN") as copy:
                        copy.write(rows)

            seconds = common.timed(work)
            transaction.set_rollback(True)
        return seconds


def unpaced() -> None:
    """Lift AUM's own pace of requests: the loop has none, and it is not what is measured here."""
    from aum.atlassian import limiter

    vars(limiter)["DEFAULT_RATES"] = {**limiter.DEFAULT_RATES, "default": limiter.Rate(100_000, 100_000)}


def measure(run: common.Run) -> None:
    with common.sandbox(run.size, run.seed) as known:
        unpaced()
        bench = Bench(known, run.seed)
        bench.sync()  # warms caches, and gives the COPY its rows
        works = {"sync": bench.full, "loop": bench.fetch, "copy": bench.copy}
        rounds = [common.in_random_order(run.rng, works) for _ in range(run.rounds)]
    loop, copy = [one["loop"] for one in rounds], [one["copy"] for one in rounds]
    pages, bare = "bare loop over the same pages", "bare COPY of the same rows with indexes"
    run.add(
        "full sync over HTTP", aum=[r["sync"] for r in rounds], limit=loop, limit_is=pages, target=common.at_most(1.3)
    )
    run.add(
        "its merge into empty tables",
        aum=bench.details["merge of the first"],
        limit=copy,
        limit_is=bare,
        target=common.at_most(1.2),
    )
    for name in ("sync, nothing changed", "sync, 1 % changed"):
        run.add(name, aum=bench.details[name], limit=loop, limit_is=pages)
    for name in ("merge, nothing changed", "merge, 1 % changed"):
        run.figure(name, bench.details[name], "s")
    run.figure("people a second, first sync", [bench.people / r["sync"] for r in rounds], "")
    run.figure("peak memory", common.peak_memory_mb(), "MB")


BENCHMARK = common.Benchmark("sync", "Sync over HTTP", measure)
