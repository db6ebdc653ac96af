"""The limiter over a real Valkey, alone and across processes."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Barrier

import pytest
import redis

from aum.atlassian.errors import LimiterUnavailable, WaitTooLong
from aum.atlassian.limiter import ALL, Limiter, OrganizationLimiter, Rate
from tests.atlassian.conftest import redis_nowhere

BUCKET = "api.example/users.search"
OTHER = "api.example/groups.search"


def limiter(client: redis.Redis, *, per_second: float = 1000.0, burst: int = 1) -> OrganizationLimiter:
    return Limiter(client, rates={"default": Rate(per_second, burst)}).of("org-1")


def test_a_fresh_redis_starts_with_an_empty_burst(redis_client: redis.Redis) -> None:
    one = limiter(redis_client, per_second=20, burst=10)
    began = time.monotonic()

    for _ in range(3):
        one.acquire(BUCKET, 5)

    assert time.monotonic() - began >= 0.095


def test_a_burst_is_saved_up_in_quiet_times_only(redis_client: redis.Redis) -> None:
    one = limiter(redis_client, per_second=50, burst=5)
    one.acquire(BUCKET, 5)
    time.sleep(0.25)
    began = time.monotonic()

    waits = [one.acquire(BUCKET, 5).waited_seconds for _ in range(7)]

    assert max(waits[:4]) < 0.015
    assert time.monotonic() - began >= 0.03


def test_the_rate_holds_over_all_threads(redis_client: redis.Redis) -> None:
    one = limiter(redis_client, per_second=100)
    began = time.monotonic()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: one.acquire(BUCKET, 10), range(60)))

    assert 0.57 <= time.monotonic() - began <= 0.9


def test_a_pause_reaches_its_bucket_its_host_or_everything(redis_client: redis.Redis) -> None:
    one = limiter(redis_client)

    one.pause(BUCKET, 30)
    assert one.pause_remaining(BUCKET) == pytest.approx(30, abs=0.5)
    assert one.pause_remaining(OTHER) == 0
    one.pause("api.example/*", 40)
    assert one.pause_remaining(OTHER) == pytest.approx(40, abs=0.5)
    assert one.pause_remaining("site.example/jira.myself") == 0
    one.pause(ALL, 50)
    assert one.pause_remaining("site.example/jira.myself") == pytest.approx(50, abs=0.5)
    assert set(one.pauses()) == {BUCKET, "api.example/*", ALL}
    assert Limiter(redis_client).of("org-2").pause_remaining(BUCKET) == 0


def test_a_shorter_pause_never_shortens_a_longer_one(redis_client: redis.Redis) -> None:
    one = limiter(redis_client)

    one.pause(BUCKET, 30)
    one.pause(BUCKET, 1)

    assert one.pause_remaining(BUCKET) > 28


def test_a_wait_beyond_what_the_caller_allows_is_refused_at_once(redis_client: redis.Redis) -> None:
    one = limiter(redis_client)
    one.pause(BUCKET, 30)
    began = time.monotonic()

    with pytest.raises(WaitTooLong) as caught:
        one.acquire(BUCKET, 2)

    assert caught.value.wait_seconds == pytest.approx(30, abs=0.5)
    assert time.monotonic() - began < 0.5


def test_a_refused_wait_takes_no_slot(redis_client: redis.Redis) -> None:
    one = limiter(redis_client, per_second=2)
    one.acquire(BUCKET, 5)
    for _ in range(20):
        with pytest.raises(WaitTooLong):
            one.acquire(BUCKET, 0.01)

    began = time.monotonic()
    one.acquire(BUCKET, 5)

    assert time.monotonic() - began <= 0.6


def test_a_waiter_starts_no_request_when_a_pause_begins_while_it_sleeps(redis_client: redis.Redis) -> None:
    one = limiter(redis_client, per_second=5)
    one.acquire(BUCKET, 5)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(lambda: (one.acquire(BUCKET, 10), time.monotonic())[1]) for _ in range(3)]
        time.sleep(0.05)
        one.pause("api.example/*", 1.0)
        paused_until = time.monotonic() + 1.0

        started = [future.result() for future in waiting]

    assert min(started) >= paused_until - 0.005
    # And they come one after the other when it ends, not as a herd.
    assert max(started) - min(started) >= 0.35


def test_without_redis_nothing_is_granted_and_the_pause_is_still_told() -> None:
    told: list[tuple[str, str, datetime]] = []
    one = Limiter(redis_nowhere(), on_pause=lambda *pause: told.append(pause)).of("org-1")

    with pytest.raises(LimiterUnavailable):
        one.acquire(BUCKET, 1)
    with pytest.raises(LimiterUnavailable):
        one.pause(BUCKET, 60)

    organization, reach, until = told[0]
    assert (organization, reach) == ("org-1", BUCKET)
    assert until - datetime.now(UTC) == pytest.approx(timedelta(seconds=60), abs=timedelta(seconds=2))


def test_the_caller_hears_of_a_pause_only_when_it_grows(redis_client: redis.Redis) -> None:
    told: list[str] = []
    one = Limiter(redis_client, on_pause=lambda _, reach, __: told.append(reach)).of("org-1")

    for seconds in (5, 1, 2, 60):
        one.pause(BUCKET, seconds)

    assert told == [BUCKET, BUCKET]


def test_what_is_left_of_a_quota_is_spread_over_its_window(redis_client: redis.Redis) -> None:
    one = limiter(redis_client)
    grant = one.acquire(BUCKET, 5)
    # Five of a hundred are kept back until the window has been measured: twenty over a second.
    one.observe(BUCKET, limit=100, remaining=25, reset_seconds=1.0, serial=grant.serial)
    began = time.monotonic()

    for _ in range(10):
        one.acquire(BUCKET, 5)

    assert 0.44 <= time.monotonic() - began <= 0.8


def test_requests_on_their_way_are_taken_off_what_is_left(redis_client: redis.Redis) -> None:
    one = limiter(redis_client)
    first = one.acquire(BUCKET, 5)
    for _ in range(8):
        one.acquire(BUCKET, 5)
    one.observe(BUCKET, limit=100, remaining=10, reset_seconds=1.0, serial=first.serial)
    began = time.monotonic()

    one.acquire(BUCKET, 5)
    one.acquire(BUCKET, 5)

    assert time.monotonic() - began >= 0.4


def test_a_nearly_spent_quota_does_not_hold_waiters_beyond_its_window(redis_client: redis.Redis) -> None:
    one = limiter(redis_client)
    one.observe(BUCKET, limit=100, remaining=1, reset_seconds=0.5, serial=0)
    began = time.monotonic()

    for _ in range(6):
        one.acquire(BUCKET, 5)

    assert 0.45 <= time.monotonic() - began <= 0.8


def test_a_spent_quota_holds_its_bucket_until_the_reset(redis_client: redis.Redis) -> None:
    one = limiter(redis_client)
    one.observe(BUCKET, limit=100, remaining=0, reset_seconds=0.5, serial=0)
    began = time.monotonic()

    one.acquire(OTHER, 5)
    assert time.monotonic() - began < 0.2
    one.acquire(BUCKET, 5)
    assert time.monotonic() - began >= 0.49


def test_the_learnt_pace_outlives_the_window(redis_client: redis.Redis) -> None:
    one = limiter(redis_client)
    grant = one.acquire(BUCKET, 5)
    one.observe(BUCKET, limit=10, remaining=9, reset_seconds=0.5, serial=grant.serial)
    time.sleep(0.6)
    began = time.monotonic()

    for _ in range(5):
        one.acquire(BUCKET, 5)

    assert time.monotonic() - began >= 0.19


def test_nameless_refusals_are_counted_and_slow_the_bucket(redis_client: redis.Redis) -> None:
    one = limiter(redis_client, per_second=20)

    assert [one.penalise(BUCKET) for _ in range(16)] == [1] * 16
    time.sleep(0.51)
    assert one.penalise(BUCKET) == 2
    one.succeeded(BUCKET)
    time.sleep(0.51)
    assert one.penalise(BUCKET) == 1
    one.acquire(BUCKET, 5)
    began = time.monotonic()
    one.acquire(BUCKET, 5)
    assert time.monotonic() - began >= 0.3


def _take(url: str, seconds: float, out: multiprocessing.Queue[list[float]], together: Barrier) -> None:
    one = limiter(redis.Redis.from_url(url), per_second=50)
    together.wait(60)
    granted = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        one.acquire(BUCKET, 10)
        granted.append(time.monotonic())
    out.put(granted)


def test_processes_share_the_rate_and_the_pause(redis_client: redis.Redis, redis_url: str) -> None:
    # Not forked: a process made from one with threads can hang in a lock that some thread held.
    context = multiprocessing.get_context("spawn")
    out: multiprocessing.Queue[list[float]] = context.Queue()
    together = context.Barrier(3)
    workers = [context.Process(target=_take, args=(redis_url, 2.5, out, together), daemon=True) for _ in range(2)]
    for worker in workers:
        worker.start()
    together.wait(60)
    time.sleep(0.7)
    before = time.monotonic()
    limiter(redis_client).pause(BUCKET, 1.0)
    after = time.monotonic()

    granted = sorted(at for _ in workers for at in out.get(timeout=20))
    for worker in workers:
        worker.join()

    inside = [at for at in granted if after + 0.01 < at < before + 0.995]
    assert inside == []
    outside = (granted[-1] - granted[0]) - 1.0
    assert len(granted) == pytest.approx(outside * 50, rel=0.15)
