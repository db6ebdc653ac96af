"""One installation in which trials follow each other, each over an organisation of its own."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import redis
import requests

from tests.product.chaos import checker
from tests.product.chaos.menu import LATENCY_MS, Choice, choose
from tests.product.chaos.outside import Browser, Mailbox, Tickets
from tests.product.chaos.wire import Wire
from tests.product.harness import ROOT, Product, SandboxProcess, Which, wait_for

PEOPLE = 130
TRIALS_PER_PRODUCT = 40
WHICH: tuple[Which, ...] = ("main", "child")
PAGES = ("", "users/", "rules/", "audit/")
PLAN_SECONDS = 150.0
RECOVERY_SECONDS = float(os.environ.get("AUM_TRIAL_RECOVERY_SECONDS", "180"))
FINAL = ("succeeded", "partial_failure", "failed", "no_effect", "cancelled", "rejected")
LEASE_SECONDS = 3.0
CALLS_IN_FLIGHT = 4
# What heals itself within minutes does so within seconds here, so that a trial is short.
QUICK = {
    "ATLASSIAN_SITE_ALLOWLIST": "127.0.0.1",
    "AUM_OUTGOING_ALLOWLIST": "127.0.0.1",
    "AUM_READ_BACK_DELAY_SECONDS": "1",
    "AUM_ITEM_LEASE_SECONDS": str(LEASE_SECONDS),
    "AUM_LEASE_SECONDS": str(LEASE_SECONDS),
    "AUM_DRIVER_SECONDS": "2",
    "AUM_SWEEP_SECONDS": "2",
    "AUM_NOTICE_SECONDS": "3",
}
CLOCK_SECONDS = {"ahead": 900.0, "behind": -600.0, "everywhere ahead": 900.0, "right again": 0.0}
QUEUE_MESSAGES = 1500


@dataclass
class Trial:
    """What one trial did and found; `broken` is empty when every promise held."""

    seed: int
    work: list[str] = field(default_factory=list)
    strikes: list[str] = field(default_factory=list)
    atlassian: list[str] = field(default_factory=list)
    seconds: float = 0.0
    outcomes: dict[str, int] = field(default_factory=dict)
    told_by_reading: int = 0
    repeats: int = 0
    tickets: dict[str, int] = field(default_factory=dict)
    mails: dict[str, int] = field(default_factory=dict)
    pages: dict[str, int] = field(default_factory=dict)
    spans: dict[str, float] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def as_json(self) -> str:
        return json.dumps(asdict(self))


class Chaos:
    """A running product; `run` makes one trial in it."""

    def __init__(self, product: Product, mailbox: Mailbox, clock: Any) -> None:
        self.product, self.mailbox, self.clock = product, mailbox, clock

    def run(self, seed: int, choice: Choice | None = None) -> Trial:
        """Begin, strike, heal, wait for the end, check."""
        choice = choice or choose(seed)
        trial = Trial(seed, atlassian=[f"{f['kind']} {f.get('path', 'everywhere')}" for f in choice.faults])
        began = time.monotonic()
        with SandboxProcess(people=PEOPLE, seed=seed) as sandbox, Wire(sandbox.url) as wire:
            one = _One(self, choice, trial, sandbox, wire)
            try:
                one.go()
            except (AssertionError, psycopg.Error, requests.RequestException) as error:
                trial.broken.append(f"stuck: {type(error).__name__}: {str(error)[-1500:]}")
            finally:
                one.close()
        trial.seconds = round(time.monotonic() - began, 1)
        return trial

    def set_clock(self, shifts: dict[str, float]) -> None:
        self.clock.write_text(json.dumps(shifts), encoding="utf-8")


class _One:
    """The parts of one trial, in order."""

    def __init__(self, chaos: Chaos, choice: Choice, trial: Trial, sandbox: SandboxProcess, wire: Wire) -> None:
        self.chaos, self.product, self.choice, self.trial = chaos, chaos.product, choice, trial
        self.sandbox, self.wire = sandbox, wire
        self.rng = random.Random(f"timing {choice.seed}")
        self.slug = f"c{choice.seed}-{int(time.time()) % 100_000}"
        self.organization = 0
        self.planned: set[tuple[int, str, str, str]] = set()
        self.operations: list[int] = []
        self.tickets: Tickets | None = None
        self.browser: Browser | None = None
        self.striker: threading.Thread | None = None
        self.mail_from = len(chaos.mailbox.taken)
        self.at = time.monotonic()

    def go(self) -> None:
        self._connect()
        self._begin()
        try:
            self._strike_and_wait()
        except AssertionError as error:
            self.trial.broken.append(f"stuck: {error}; {self._what_goes_on()}")
        self._heal()
        self._settle()
        self._check()

    def close(self) -> None:
        if self.browser is not None:
            self.browser.stop()
            self.trial.pages = dict(self.browser.seen)
        self.chaos.set_clock({})

    def _span(self, name: str) -> None:
        now = time.monotonic()
        self.trial.spans[name] = round(now - self.at, 1)
        self.at = now

    # Beginning

    def _connect(self) -> None:
        # A kept installation may know the organisation of this seed from a trial that was cut short.
        self.product.change(
            "UPDATE organizations_organization SET org_id = 'left-' || id WHERE org_id = %s",
            self.sandbox.control.get("credentials")["org_id"],
        )
        self.organization = self.product.arrange(
            "connect",
            url=self.wire.url,
            slug=self.slug,
            settings={
                "max_count": PEOPLE,
                "max_share_percent": 95,
                "max_per_day": 1_000_000,
                "max_failure_percent": 100,
                "calls_in_flight": CALLS_IN_FLIGHT,
            },
        )["organization"]
        self.before = self.sandbox.control.get("state")
        self.known = {
            row[0]
            for row in self.product.query(
                "SELECT account_id FROM users_account WHERE organization_id = %s AND vanished_at IS NULL",
                self.organization,
            )
        }
        cookie = self.product.arrange("session", slug=self.slug)
        self.browser = Browser(self.product.url, cookie, [f"/o/{self.slug}/{page}" for page in PAGES])
        self.browser.start()
        self._span("connect")

    def _begin(self) -> None:
        choice, trial = self.choice, self.trial
        self.sandbox.control.post("faults", {"set": [{"kind": "latency", "ms": LATENCY_MS}]})
        if choice.has_notices:
            owed = self.product.arrange("notices", slug=self.slug, port=self.chaos.mailbox.port)["owed"]
            trial.work.append(f"{owed} notices")
        if choice.tickets:
            way = self.product.arrange("way_in", slug=self.slug, seed=choice.seed, people=choice.tickets)
            keys = [
                self.sandbox.control.post("request", {"reporter": who, "requestTypeId": "11"})["key"]
                for who in way["people"]
            ]
            self.tickets = Tickets(self.product.url + way["path"], way["secret"], keys)
            self.tickets.start()
            trial.work.append(f"{len(keys)} tickets")
        if choice.is_early:
            self._begin_to_strike()
        if choice.is_tampered:
            self.product.arrange("stop_all", slug=self.slug)
        self.operations = self.product.arrange("begin", slug=self.slug, seed=choice.seed, runs=choice.runs)[
            "operations"
        ]
        self._remember_plans(self.operations)
        if choice.is_tampered:
            self.product.arrange("widen", operation=self.operations[0])
            self.product.arrange("go_on", slug=self.slug)
            trial.work.append("a plan that somebody widened")
        if choice.has_sync:
            self.product.arrange("sync_beside", slug=self.slug)
            trial.work.append("sync")
        if not choice.is_early:
            self._begin_to_strike()
        self._span("begin")

    def _remember_plans(self, operations: list[int]) -> None:
        """What the plans hold once they are made: nothing may change it."""
        for operation in operations:
            wait_for(
                lambda operation=operation: self._status(operation) not in ("", "planning"),
                seconds=PLAN_SECONDS,
                what="a plan",
            )
            rows = self._rows(
                "SELECT operation_id, subject, action, target FROM operations_operationitem WHERE operation_id = %s",
                operation,
            )
            self.planned |= set(rows)
            self.trial.work.append(f"{rows[0][2] if rows else 'nothing'} of {len({row[1] for row in rows})}")

    def _rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows, once the database answers."""
        found: list[tuple[Any, ...]] = []

        def ask() -> bool:
            with suppress(psycopg.OperationalError):
                found[:] = self.product.query(statement, *values)
                return True
            return False

        wait_for(ask, seconds=30, what="the database")
        return found

    def _status(self, operation: int) -> str:
        rows = self.product.try_query("SELECT status FROM operations_operation WHERE id = %s", operation)
        return str(rows[0][0]) if rows else ""

    # Striking

    def _begin_to_strike(self) -> None:
        self.sandbox.control.post("faults", {"set": self.choice.faults})
        self.striker = threading.Thread(target=self._strikes, daemon=True)
        self.striker.start()

    def _strikes(self) -> None:
        for service, how in self.choice.strikes:
            time.sleep(self.rng.uniform(0.1, 1.2))
            try:
                self._strike(service, how)
            except (AssertionError, requests.RequestException, OSError) as error:
                self.trial.strikes.append(f"{service} {how}: not done, {str(error)[:200]}")
            else:
                self.trial.strikes.append(f"{service} {how}")

    def _strike(self, service: str, how: str) -> None:
        if service == "network":
            self.wire.cut(how)  # type: ignore[arg-type]  # one of its words
            time.sleep(self.rng.uniform(0.3, 2.0))
            self.wire.mend()
        elif service == "clock":
            whose = "*" if " " in how else self.rng.choice(("*", "runner", "worker"))
            self.chaos.set_clock({whose: CLOCK_SECONDS[how]})
            self.trial.strikes.append(f"clock of {whose}")
        elif service == "queue":
            if how == "lost":
                self.product.arrange("empty_queue")
            else:
                self.product.arrange("flood_queue", slug=self.slug, messages=QUEUE_MESSAGES)
        elif how == "mailing":
            wait_for(self._is_mailing, seconds=10, what="a mail under way", every=0.02)
            self.product.kill(service, "child")
        elif how == "writing":
            wait_for(self._is_writing, seconds=15, what="a call under way", every=0.01)
            self.product.kill(service, "child")
        elif how == "frozen":
            pid = self.product.freeze(service)
            # Sometimes shorter than its lease, sometimes long enough for others to take its work.
            time.sleep(self.rng.choice((1.0, LEASE_SECONDS + 1.5)))
            self.product.thaw(pid)
        else:
            self.product.kill(service, how)  # type: ignore[arg-type]  # main or child

    def _what_goes_on(self) -> str:
        """What the database and the queues do, for whoever looks into a trial that stood still."""
        with suppress(psycopg.Error, redis.RedisError):
            rows = self.product.query(
                "SELECT coalesce(wait_event_type, '') || ' ' || state || ' ' || left(query, 150) FROM pg_stat_activity "
                "WHERE state <> 'idle' AND pid <> pg_backend_pid()"
            )
            client = redis.Redis.from_url(self.product.shared()["REDIS_URL"])
            waiting = {name: client.llen(name) for name in ("default", "mail", "operations", "sync")}
            unacked = client.hlen("unacked")
            frozen = {
                f"{name} {which}": [Path(f"/proc/{pid}/wchan").read_text() for pid in self.product.pids(name, which)]
                for name in ("worker", "runner")
                for which in WHICH
            }
            return f"database {[row[0] for row in rows]}, queues {waiting}, unacked {unacked}, processes {frozen}"
        return "nothing can be asked"

    def _is_writing(self) -> bool:
        return bool(
            self.product.try_query(
                "SELECT 1 FROM operations_operationitem WHERE organization_id = %s AND status = 'claimed' "
                "AND written_at > now() - interval '100 milliseconds' LIMIT 1",
                self.organization,
            )
        )

    def _is_mailing(self) -> bool:
        return bool(
            self.product.try_query(
                "SELECT 1 FROM notifications_delivery WHERE status = 'sending' AND organization_id = %s",
                self.organization,
            )
        )

    def _strike_and_wait(self) -> None:
        """Until the runs, and the undo of one of them, are over; strikes fall wherever they fall."""
        self._wait_for_runs()
        if self.choice.is_undone and self._status(self.operations[0]) in FINAL[:3]:
            undo = self.product.arrange("undo", operation=self.operations[0])["operation"]
            self.operations.append(undo)
            self._remember_plans([undo])
            self._wait_for_runs()
        assert self.striker is not None
        self.striker.join(60)
        if self.tickets is not None:
            self.tickets.join(60)
        self._span("runs")

    def _wait_for_runs(self) -> None:
        over = (*FINAL, "held")
        wait_for(
            lambda: all(self._status(operation) in over for operation in self.operations),
            seconds=RECOVERY_SECONDS,
            what=f"the end of the runs, which are {[self._status(operation) for operation in self.operations]}",
        )

    # The end

    def _heal(self) -> None:
        self.wire.mend()
        self.chaos.set_clock({})
        self.sandbox.control.post("faults", {"clear": True, "set": []})
        wait_for(lambda: self.product.try_query("SELECT 1"), seconds=30, what="the database")

    def _settle(self) -> None:
        """Until nothing is under way any more: pauses of minutes pass, what is held for a person is stopped."""

        def open_work() -> list[str]:
            rows = self._rows(
                "SELECT 'run ' || status FROM operations_operation WHERE organization_id = %s AND status <> ALL(%s) "
                "UNION ALL SELECT 'item ' || i.status FROM operations_operationitem i "
                "WHERE i.organization_id = %s AND i.status <> 'finished' "
                "UNION ALL SELECT 'ticket ' || status FROM autoactivate_inboundevent WHERE organization_id = %s "
                "AND status IN ('received', 'working', 'waiting') "
                "UNION ALL SELECT 'mail ' || status FROM notifications_delivery WHERE organization_id = %s "
                "AND status IN ('queued', 'claimed', 'sending') "
                "UNION ALL SELECT 'sync ' || status FROM users_syncrun WHERE organization_id = %s "
                "AND status IN ('queued', 'running')",
                *(self.organization, [*FINAL, "previewed", "expired", "superseded"]),
                *(self.organization, self.organization, self.organization, self.organization),
            )
            return [row[0] for row in rows]

        deadline = time.monotonic() + RECOVERY_SECONDS
        while work := open_work():
            if time.monotonic() > deadline:
                self.trial.broken.append(f"stuck: {dict(Counter(work))}")
                break
            self.product.arrange("age", slug=self.slug)
            if "run held" in work:
                self.product.arrange("cancel_held", slug=self.slug)
            time.sleep(0.3)
        self._span("settle")

    def _check(self) -> None:
        report, control = checker.Report(), self.sandbox.control
        after = control.get("state")
        with self.product.reading() as reads:
            checker.check_runs(
                *(report, reads, self.organization, self.planned, self.before, after),
                control.get("ledger")["entries"],
                repeats_allowed=CALLS_IN_FLIGHT * sum(how == "frozen" for _, how in self.choice.strikes),
                is_tampered=self.choice.is_tampered,
            )
            checker.check_waits(report, control.get(f"early?grace_ms={checker.GRACE_MS}&scope=family")["early"])
            if self.tickets is not None:
                self.trial.tickets = checker.check_events(report, reads, self.organization, self.tickets.taken)
            if self.choice.has_notices:
                taken = self.chaos.mailbox.taken[self.mail_from :]
                self.trial.mails = checker.check_mails(report, reads, self.organization, taken)
            checker.check_nobody_vanished(report, reads, self.organization, self.known)
            self._check_pages(report)
            self.product.arrange("sync", slug=self.slug)
            checker.check_mirror(report, reads, self.organization, self.known, after)
        for finding in self.product.arrange("audit_findings", slug=self.slug)["findings"][:3]:
            report.say("audit", finding)
        self.trial.outcomes, self.trial.told_by_reading = report.outcomes, report.told_by_reading
        self.trial.repeats = report.repeats
        self.trial.broken += report.broken
        self._span("check")

    def _check_pages(self, report: checker.Report) -> None:
        """Whoever browses is served again, without one more error."""
        assert self.browser is not None
        self.browser.stop()
        wait_for(lambda: self.product.pids("web", "child"), seconds=30, what="a web process")
        wait_for(lambda: self.browser.look("/healthz") == "200", seconds=30, what="the web server")  # type: ignore[union-attr]
        seen = Counter(self.browser.look(f"/o/{self.slug}/{page}") for page in PAGES)
        if set(seen) != {"200"}:
            report.say("stuck", f"pages answer {dict(seen)} after all is well again")


@contextmanager
def running(data_dir: Path | None = None) -> Iterator[Chaos]:
    """A product in which trials can be run: fresh, or what an earlier one left in `data_dir`."""
    with ExitStack() as stack:
        mailbox = Mailbox()
        stack.callback(mailbox.close)
        path = f"{ROOT / 'tests' / 'product' / 'clock'}:{ROOT}"
        product = Product(data_dir, **QUICK, PYTHONPATH=path, AUM_DEMO_API_URL="")
        clock = product.data_dir.with_suffix(".clock")
        clock.write_text("{}", encoding="utf-8")
        product.set("AUM_TRIAL_CLOCK", str(clock))
        stack.enter_context(product)
        yield Chaos(product, mailbox, clock)


def trials(
    seeds: list[int],
    *,
    until: float = float("inf"),
    data_dir: Path | None = None,
    written: dict[str, Any] | None = None,
) -> Iterator[Trial]:
    """The trials of `seeds`, many in one product; ends early at the monotonic time `until`.

    `written`: the trial that all of them make, instead of the one that their seed stands for.
    A trial that did not end may leave work behind that disturbs the next, so the product is made anew after it.
    """
    waiting = list(seeds)
    while waiting and time.monotonic() < until:
        with running(data_dir) as chaos:
            for _ in range(TRIALS_PER_PRODUCT):
                if not waiting or time.monotonic() >= until:
                    break
                seed = waiting.pop(0)
                trial = chaos.run(seed, Choice.of(seed, dict(written)) if written is not None else None)
                yield trial
                if any(line.startswith("stuck") for line in trial.broken):
                    break
