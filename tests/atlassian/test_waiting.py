"""P13 over real HTTP: while told to wait nothing starts, in any thread or process; and a quota is used, not overrun."""

from __future__ import annotations

import math
import multiprocessing
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import redis

from aum.atlassian import transport
from aum.atlassian.client import AtlassianClient
from aum.atlassian.errors import (
    AtlassianError,
    LimiterUnavailable,
    LostAnswer,
    RateLimited,
    Unavailable,
    WaitTooLong,
)
from aum.atlassian.limiter import ALL, Limiter, NullLimiter, Rate
from tests.atlassian.conftest import Answer, ScriptedServer, Seen, ServerFactory, client_for, redis_nowhere

ORG = {"data": {"id": "org-1", "attributes": {"name": "Org"}}}
FAST = {"default": Rate(500, 10)}


def shared(client: redis.Redis) -> Limiter:
    return Limiter(client, rates=FAST)


def _ask_for(url: str, redis_url: str, seconds: float) -> None:
    """A worker process: four threads that read and write as fast as they may."""
    client = client_for(url, Limiter(redis.Redis.from_url(redis_url), rates=FAST), max_wait_seconds=20)
    end = time.monotonic() + seconds

    def work(number: int) -> None:
        while time.monotonic() < end:
            if number % 2:
                client.get_org()
            else:
                client.suspend(f"acc:{number}", "dir-1")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    client.close()


def _iso(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("headers", "told_seconds"),
    [
        (lambda: {"Retry-After": "1"}, 1.0),
        (lambda: {"X-RateLimit-Reset": _iso(1.0), "X-RateLimit-Remaining": "0", "X-RateLimit-Limit": "100"}, 0.995),
        (dict, 0.5),
    ],
    ids=["retry-after", "reset-only", "neither"],
)
def test_nothing_starts_in_two_processes_while_told_to_wait(
    headers: Callable[[], dict[str, str]],
    told_seconds: float,
    serve: ServerFactory,
    redis_client: redis.Redis,
    redis_url: str,
) -> None:
    refused_at: list[float] = []
    lock = threading.Lock()

    def answer(seen: Seen) -> Answer:
        with lock:
            if len(server.seen) >= 150 and not refused_at:
                refused_at.append(time.monotonic())
                return Answer(429, {"code": 429, "message": "slow down"}, headers())
        return Answer(204) if seen.method == "POST" else Answer(200, ORG)

    server = serve(answer)
    # Not forked: a process made from one with threads can hang in a lock that some thread held.
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_ask_for, args=(server.url, redis_url, 3.0), daemon=True) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(90)

    told_at = refused_at[0]
    arrivals = [seen.at for seen in server.seen]
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert [at for at in arrivals if told_at + 0.1 < at < told_at + told_seconds] == []
    assert len([at for at in arrivals if at > told_at + told_seconds]) > 20


@pytest.mark.parametrize("kind", ["retry-after-date", "html"])
def test_the_pause_is_kept_for_other_forms_of_refusal(
    kind: str, serve: ServerFactory, redis_client: redis.Redis
) -> None:
    def answer(seen: Seen) -> Answer:
        if len(server.seen) > 1:
            return Answer(200, ORG)
        at = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
        if kind == "html":
            return Answer(429, b"<html>Too many</html>", {"Retry-After": "1"}, content_type="text/html")
        return Answer(429, None, {"Retry-After": at})

    server = serve(answer)
    client = client_for(server.url, shared(redis_client))

    assert client.get_org().name == "Org"

    assert server.seen[1].at - server.seen[0].at >= (1.0 if kind == "html" else 1.9)


def test_the_pause_is_set_before_the_body_is_read(serve: ServerFactory, redis_client: redis.Redis) -> None:
    server = serve(lambda seen: Answer(429, {}, {"Retry-After": "30"}, body_delay_seconds=0.6))
    bucket = f"{server.url.removeprefix('http://')}/users.search"
    limiter = shared(redis_client)
    client = client_for(server.url, limiter, max_wait_seconds=0.5)

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.get_org)
        time.sleep(0.3)

        assert not answer.done()
        assert limiter.of("org-1").pause_remaining(bucket) > 28
        with pytest.raises(RateLimited):
            answer.result()


def test_a_pause_during_a_slow_connect_is_seen_before_the_request_starts(
    serve: ServerFactory, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(lambda seen: Answer(200, ORG))
    limiter = shared(redis_client)
    client = client_for(server.url, limiter)
    connect = transport.HTTPConnection.connect
    paused_until: list[float] = []

    def slow_connect(self: transport.HTTPConnection) -> None:
        connect(self)
        if not paused_until:
            time.sleep(0.15)
            limiter.of("org-1").pause(ALL, 0.6)
            paused_until.append(time.monotonic() + 0.6)

    monkeypatch.setattr(transport.HTTPConnection, "connect", slow_connect)

    client.get_org()

    assert len(server.seen) == 1
    assert server.seen[0].at >= paused_until[0] - 0.01


def test_a_refusal_holds_the_host_and_a_narrow_one_its_family(serve: ServerFactory, redis_client: redis.Redis) -> None:
    def answer(seen: Seen) -> Answer:
        reason = {"RateLimit-Reason": "jira-burst-based"} if "/rest/" in seen.path else {}
        return Answer(429, None, {"Retry-After": "20", **reason})

    server = serve(answer)
    host = server.url.removeprefix("http://")
    limiter = shared(redis_client)
    client = client_for(server.url, limiter, max_wait_seconds=0.2)

    for call in (client.jira_myself, client.events, client.get_org):
        with pytest.raises((RateLimited, WaitTooLong)):
            call()

    assert set(limiter.of("org-1").pauses()) == {f"{host}/jira.myself", f"{host}/events", f"{host}/*"}


def test_a_write_refused_for_the_rate_is_sent_again_after_the_wait(
    serve: ServerFactory, redis_client: redis.Redis
) -> None:
    def answer(seen: Seen) -> Answer:
        return Answer(429, None, {"Retry-After": "1"}) if len(server.seen) == 1 else Answer(204)

    server = serve(answer)

    written = client_for(server.url, shared(redis_client)).suspend("acc:1", "dir-1")

    assert written.status == 204
    assert server.seen[1].at - server.seen[0].at >= 1.0


def test_a_write_refused_for_longer_than_the_caller_waits_is_raised(
    serve: ServerFactory, redis_client: redis.Redis
) -> None:
    server = serve(lambda seen: Answer(429, None, {"Retry-After": "30"}))
    client = client_for(server.url, shared(redis_client), max_wait_seconds=1)

    with pytest.raises(RateLimited) as caught:
        client.suspend("acc:1", "dir-1")
    with pytest.raises(WaitTooLong):
        client.suspend("acc:2", "dir-1")

    assert caught.value.wait_seconds == pytest.approx(30, abs=1)
    assert len(server.seen) == 1


def test_endless_refusals_end(serve: ServerFactory) -> None:
    server = serve(lambda seen: Answer(429))
    limiter = NullLimiter()

    with pytest.raises(RateLimited):
        client_for(server.url, limiter).get_org()

    assert len(server.seen) == 8
    assert len(limiter.pauses) == 8


def test_a_503_with_a_time_is_obeyed_too(serve: ServerFactory, redis_client: redis.Redis) -> None:
    def answer(seen: Seen) -> Answer:
        return Answer(503, None, {"Retry-After": "2"}) if len(server.seen) == 1 else Answer(200, ORG)

    server = serve(answer)

    client_for(server.url, shared(redis_client)).get_org()

    assert server.seen[1].at - server.seen[0].at >= 2.0


def test_a_pause_that_cannot_be_stored_is_kept_all_the_same(serve: ServerFactory, redis_client: redis.Redis) -> None:
    def fail(organization_key: str, reach: str, until: datetime) -> None:
        raise RuntimeError("no database today")

    server = serve(lambda seen: Answer(429, None, {"Retry-After": "1"}) if len(server.seen) == 1 else Answer(204))
    client = client_for(server.url, Limiter(redis_client, rates=FAST, on_pause=fail))

    assert client.suspend("acc:1", "dir-1").status == 204
    assert server.seen[1].at - server.seen[0].at >= 1.0


def test_without_redis_nothing_is_sent(serve: ServerFactory) -> None:
    server = serve(lambda seen: Answer(204))
    client = client_for(server.url, Limiter(redis_nowhere()))

    with pytest.raises(LimiterUnavailable):
        client.suspend("acc:1", "dir-1")

    assert server.seen == []


class _Quota:
    """A fixed window like many gateways keep, told on every answer: to the millisecond, or in seconds rounded up."""

    def __init__(self, limit: int, window: float, *, whole_seconds: bool) -> None:
        self.limit, self.window, self.whole_seconds = limit, window, whole_seconds
        self.lock = threading.Lock()
        self.opened, self.used = 0.0, 0
        self.served: list[tuple[float, int]] = []

    def count(self, status: int, since: float) -> int:
        return sum(at >= since and answered == status for at, answered in self.served)

    def __call__(self, seen: Seen) -> Answer:
        with self.lock:
            now = time.time()
            if now >= self.opened + self.window:
                self.opened, self.used = now, 0
            reset = self.opened + self.window
            stamp = datetime.fromtimestamp(math.ceil(reset) if self.whole_seconds else reset, UTC)
            status = 429 if self.used >= self.limit else 204
            self.used += status == 204
            self.served.append((seen.at, status))
            headers = {
                "X-RateLimit-Limit": str(self.limit),
                "X-RateLimit-Remaining": str(self.limit - self.used),
                "X-RateLimit-Reset": stamp.isoformat(timespec="milliseconds"),
            }
        time.sleep(0.02)
        return Answer(status, headers=headers)


@pytest.mark.parametrize("whole_seconds", [False, True], ids=["exact", "whole"])
def test_a_quota_is_learnt_and_hardly_ever_passed(
    whole_seconds: bool, serve: ServerFactory, redis_client: redis.Redis
) -> None:
    """How much of it is used is a matter of speed: benchmarks/quota.py."""
    quota = _Quota(limit=100, window=2.0, whole_seconds=whole_seconds)
    client = client_for(serve(quota).url, shared(redis_client), max_wait_seconds=30)
    stop = time.monotonic() + 8.0

    def work(number: int) -> None:
        while time.monotonic() < stop:
            client.suspend(f"acc:{number}", "dir-1")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))

    done = quota.count(204, 0)
    assert done > 2 * quota.limit
    assert quota.count(429, 0) <= 0.01 * done


def test_calls_report_what_they_waited(serve: ServerFactory, redis_client: redis.Redis) -> None:
    server: ScriptedServer = serve(lambda seen: Answer(200, ORG, {"Atl-Traceid": "t-1"}))
    limiter = shared(redis_client)
    records = []
    client = client_for(server.url, limiter, observer=records.append)
    limiter.of("org-1").pause(ALL, 0.3)

    client.get_org()

    (record,) = records
    assert record.waited_ms >= 290
    assert record.duration_ms < 250
    assert (record.status, record.request_id, record.family) == (200, "t-1", "orgs.get")
    assert record.path_template == "/admin/v1/orgs/{orgId}"


def test_reads_are_tried_again_a_few_times_when_the_server_fails(serve: ServerFactory) -> None:
    server = serve(lambda seen: Answer(502, b"<html>", content_type="text/html"))
    client: AtlassianClient = client_for(server.url)

    with pytest.raises(Unavailable) as caught:
        client.get_org()

    assert isinstance(caught.value, AtlassianError)
    assert len(server.seen) == 3


def test_a_write_whose_time_is_over_is_not_sent(serve: ServerFactory, redis_client: redis.Redis) -> None:
    server: ScriptedServer = serve(lambda seen: Answer(204))
    client = client_for(server.url, shared(redis_client))

    with transport.starting_before(time.monotonic() - 0.001), pytest.raises(Unavailable) as late:
        client.suspend("acc:1", "dir-1")
    assert late.value.code == "too_late"
    assert not isinstance(late.value, LostAnswer)
    assert server.seen == []

    with transport.starting_before(time.monotonic() + 30):
        client.suspend("acc:1", "dir-1")
    assert len(server.seen) == 1
