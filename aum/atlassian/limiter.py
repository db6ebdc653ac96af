"""The pace of all requests to Atlassian, shared by every process through Redis (P13; STACK.md "Limiter in Redis").

A *bucket* is `host/family`, e.g. `api.atlassian.com/users.search`, of one organisation. Each bucket has a GCRA rate, a
pace learnt from Atlassian's own X-RateLimit headers, and pauses of three reaches: the bucket, its host (`host/*`), or
the whole organisation (`*`). One Lua script decides, on Redis's clock, so that workers on several machines agree.

A waiter reserves its slot and sleeps once, instead of polling; after the sleep it looks at the pauses again, because
one may have begun meanwhile. A Redis that knows nothing (fresh, or flushed) starts with an *empty* burst. Without Redis
nothing is granted: `LimiterUnavailable`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import redis

from aum.atlassian.errors import LimiterUnavailable, WaitTooLong

logger = logging.getLogger(__name__)

ALL: Final = "*"
"""The pause that holds every bucket of the organisation."""

OnPause = Callable[[str, str, datetime], None]
"""Called with the organisation's key, the reach of the pause (bucket, `host/*` or `*`) and its end (aware, UTC)."""


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_second` requests a second on average, at most `burst` at once after a quiet time."""

    per_second: float
    burst: int = 1

    def __post_init__(self) -> None:
        if self.per_second <= 0 or self.burst < 1:
            raise ValueError("A rate needs per_second > 0 and burst >= 1.")


# Ceilings until the headers teach better. Published or measured (API.md §2, §4): events 10/min, last-active about
# 200/min, Jira GET 100/s per tenant shared with every other app. The rest is unpublished, and concurrency binds it
# first.
DEFAULT_RATES: Final[Mapping[str, Rate]] = {
    "default": Rate(50, 20),
    "events": Rate(9 / 60, 1),
    "users.last_active": Rate(3, 3),
    "jira": Rate(20, 10),
    "jsm": Rate(10, 5),
}


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to start one request now. `serial` numbers the grants of a bucket, for `observe`."""

    waited_seconds: float
    serial: int = 0


class SharedLimiter(Protocol):
    """What a client is given: the limiter of all organisations, of which it takes its own."""

    def of(self, organization_key: str) -> LimiterLike: ...


class LimiterLike(Protocol):
    """What a client needs of the limiter of its organisation."""

    def acquire(self, family: str, max_wait_seconds: float) -> Grant: ...
    def pause(self, family: str, seconds: float) -> None: ...
    def pause_remaining(self, family: str = ALL) -> float: ...
    def observe(self, family: str, *, limit: int | None, remaining: int, reset_seconds: float, serial: int) -> None: ...
    def penalise(self, family: str) -> int: ...
    def succeeded(self, family: str) -> None: ...


# State of a bucket (hash): tat = theoretical arrival time in ms, serial, pace (ms) until pace_until, steady (ms,
# learnt), window (ms; a guess unless measured is 1), quota, reset_at, opened, hold_until, strikes. Pauses (sorted set):
# reach -> end in ms. Times are Redis's.
_ACQUIRE = """
local t = redis.call('TIME'); local now = t[1] * 1000 + t[2] / 1000
local free_at = now
for i = 1, 3 do
  local till = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[i]) or '0')
  if till > free_at then free_at = till end
end
local base, burst, max_wait, keep = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local s = redis.call('HMGET', KEYS[1], 'tat', 'pace', 'pace_until', 'steady', 'hold_until')
local steady, pace_until = math.max(base, tonumber(s[4] or '0')), tonumber(s[3] or '0')
if steady > base or pace_until > now then burst = 1 end
local hold = tonumber(s[5] or '0')
if hold > free_at then free_at = hold end
local credit = (burst - 1) * base
local tat = math.max(tonumber(s[1] or '0'), now)
if not s[1] then tat = now + credit end
if free_at > now then tat = math.max(tat, free_at + credit) end
local step = steady
-- A pace holds for the slots of its window only: a step over its end is cut, or waiters would queue far beyond it.
if tat < pace_until then step = math.min(math.max(base, tonumber(s[2])), pace_until - tat + steady) end
local wait = math.max(0, math.ceil(tat - credit - now))
if wait > max_wait then return {0, wait, 0} end
redis.call('HSET', KEYS[1], 'tat', string.format('%.3f', tat + step))
redis.call('PEXPIRE', KEYS[1], keep)
return {1, wait, redis.call('HINCRBY', KEYS[1], 'serial', 1)}
"""

_PAUSE = """
local t = redis.call('TIME'); local now = t[1] * 1000 + t[2] / 1000
local till = now + tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local changed = redis.call('ZADD', KEYS[1], 'GT', 'CH', string.format('%.3f', till), ARGV[1])
local keep = math.ceil(tonumber(ARGV[2])) + 60000
if redis.call('PTTL', KEYS[1]) < keep then redis.call('PEXPIRE', KEYS[1], keep) end
return changed
"""

_REMAINING = """
local t = redis.call('TIME'); local now = t[1] * 1000 + t[2] / 1000
local left = 0
for i = 1, #ARGV do
  left = math.max(left, math.ceil(tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]) or '0') - now))
end
return left
"""

# Spread what is left of the quota over what is left of its window. Requests granted after the one that was answered are
# taken off, since the server had not counted them yet. Two per cent (five while learning) stay free, because requests
# overtake each other and windows begin unseen. Resets come in whole seconds, so the length of a window is measured from
# one beginning to the next (smoothed), and a stated reset is corrected by it, by a second at most. An answer that
# belongs to an earlier window teaches nothing.
_OBSERVE = """
local t = redis.call('TIME'); local now = t[1] * 1000 + t[2] / 1000
local limit, remaining, reset_in, serial = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local s = redis.call('HMGET', KEYS[1], 'tat', 'serial', 'window', 'quota', 'reset_at', 'opened', 'measured')
local window, reset_at, opened = tonumber(s[3] or '0'), tonumber(s[5] or '0'), tonumber(s[6] or '0')
local measured, stated = tonumber(s[7] or '0'), now + reset_in
if tonumber(s[4] or '0') ~= limit then window = 0; reset_at = 0; opened = 0; measured = 0 end
if stated < reset_at - 250 then return 0 end
if stated > reset_at + 250 then
  if opened > 0 then
    local length = math.min(math.max(now - opened, reset_in - 1000, 1), reset_in + 1000)
    if measured == 1 then window = window + (length - window) * 0.3 else window = length; measured = 1 end
  else
    window = math.max(window, reset_in)
  end
  if reset_at > 0 then opened = now end
  reset_at = stated
end
local set = {'window', string.format('%.3f', window), 'quota', limit, 'reset_at', string.format('%.3f', reset_at),
             'opened', string.format('%.3f', opened), 'measured', measured}
if limit > 0 then set[#set + 1] = 'steady'; set[#set + 1] = string.format('%.3f', window / limit * 1.03) end
local till = stated
if measured == 1 then till = math.min(math.max(opened + window, stated - 1000), stated + 1000) end
local spare = 0.05
if measured == 1 then spare = 0.02 end
local left = remaining - math.floor(limit * spare)
if serial > 0 then left = left - math.max(0, tonumber(s[2] or '0') - serial) end
local room = till - math.max(now, tonumber(s[1] or '0'))
if remaining <= 0 then
  set[#set + 1] = 'hold_until'; set[#set + 1] = string.format('%.3f', stated)
elseif room > 0 then
  set[#set + 1] = 'pace'; set[#set + 1] = string.format('%.3f', room / math.max(left, 1))
  set[#set + 1] = 'pace_until'; set[#set + 1] = string.format('%.3f', till)
end
redis.call('HSET', KEYS[1], unpack(set))
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 0
"""

# A 429 that named no time: count it, and go at half the pace for a minute. Those that come together, from requests that
# were under way at once, count as one.
_PENALISE = """
local t = redis.call('TIME'); local now = t[1] * 1000 + t[2] / 1000
local s = redis.call('HMGET', KEYS[1], 'pace', 'pace_until', 'steady', 'struck_at', 'strikes')
if now - tonumber(s[4] or '0') < 500 then return tonumber(s[5] or '1') end
local base = math.max(tonumber(ARGV[1]), tonumber(s[3] or '0'))
local interval = base
if tonumber(s[2] or '0') > now then interval = math.max(interval, tonumber(s[1])) end
redis.call('HSET', KEYS[1], 'pace', string.format('%.3f', math.min(interval * 2, base * 16)),
           'pace_until', string.format('%.3f', now + 60000), 'struck_at', string.format('%.3f', now))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('HINCRBY', KEYS[1], 'strikes', 1)
"""

# Long enough that a quiet bucket keeps what it learnt; an older one starts again with an empty burst, which is
# harmless.
_KEEP_MS: Final = 3_600_000
# A pause beyond this is a mistake of somebody's clock; it is looked at again when it ends.
MAX_PAUSE_SECONDS: Final = 6 * 3600.0


class Limiter:
    """The shared limiter, over one Redis; one object serves every organisation and thread of a process.

    `rates` overrides DEFAULT_RATES per family; a family without a rate uses its first word (`jira` for `jira.myself`),
    then `default`. `on_pause` is called in the thread that heard the answer, whenever a pause begins or grows, also
    without Redis, so that the pause can be stored in PostgreSQL. Give `client` a socket time-out: a hung Redis
    must not hang the workers.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        rates: Mapping[str, Rate] | None = None,
        on_pause: OnPause | None = None,
        key_prefix: str = "aum:limit",
    ) -> None:
        self.client = client
        self.key_prefix = key_prefix
        self.on_pause = on_pause
        self._rates = {**DEFAULT_RATES, **(rates or {})}
        self.acquire_script = client.register_script(_ACQUIRE)
        self.pause_script = client.register_script(_PAUSE)
        self.remaining_script = client.register_script(_REMAINING)
        self.observe_script = client.register_script(_OBSERVE)
        self.penalise_script = client.register_script(_PENALISE)

    def of(self, organization_key: str) -> OrganizationLimiter:
        """The limiter of one organisation; its name is free text, unique to the organisation."""
        return OrganizationLimiter(self, organization_key)

    def rate_of(self, family: str) -> Rate:
        """The configured ceiling of a bucket or family."""
        name = family.rpartition("/")[2]
        return self._rates.get(name) or self._rates.get(name.partition(".")[0]) or self._rates["default"]


class OrganizationLimiter:
    """The pace of one organisation. `family` is a bucket `host/family`; a pause may also name `host/*` or ALL."""

    def __init__(self, shared: Limiter, organization_key: str) -> None:
        self._shared = shared
        self._organization_key = organization_key
        # The braces keep an organisation's keys in one slot of a Redis cluster.
        self._prefix = f"{shared.key_prefix}:{{{organization_key}}}"

    def acquire(self, family: str, max_wait_seconds: float) -> Grant:
        """Wait for leave to start one request in the bucket `family`; start it at once.

        Raises WaitTooLong (nothing reserved, nothing slept in vain) when the wait would exceed `max_wait_seconds`, and
        LimiterUnavailable without Redis.
        """
        rate = self._shared.rate_of(family)
        began = time.monotonic()
        while True:
            left = max(0.0, max_wait_seconds - (time.monotonic() - began))
            granted, wait_ms, serial = self._run(
                self._shared.acquire_script,
                [self._bucket_key(family), self._pauses_key],
                [*_reaches(family), 1000 / rate.per_second, rate.burst, left * 1000, _KEEP_MS],
            )
            if not granted:
                raise WaitTooLong(
                    f"The shared limit asks for a wait of {wait_ms / 1000:.1f} s.", wait_seconds=wait_ms / 1000
                )
            if wait_ms == 0:
                return Grant(time.monotonic() - began, serial)
            time.sleep(wait_ms / 1000)
            if self.pause_remaining(family) == 0:
                return Grant(time.monotonic() - began, serial)

    def pause(self, family: str, seconds: float) -> None:
        """Start no request in `family` (a bucket, `host/*`, or ALL) for `seconds` from now; never shortens a pause."""
        seconds = min(max(seconds, 0.0), MAX_PAUSE_SECONDS)
        if seconds == 0:
            return
        try:
            changed = bool(self._run(self._shared.pause_script, [self._pauses_key], [family, seconds * 1000]))
        except LimiterUnavailable:
            self._tell(family, seconds)
            raise
        if changed:
            self._tell(family, seconds)

    def pause_remaining(self, family: str = ALL) -> float:
        """Seconds until `family` is free of every pause that reaches it; 0.0 when it is."""
        return float(self._run(self._shared.remaining_script, [self._pauses_key], list(_reaches(family)))) / 1000

    def pauses(self) -> dict[str, float]:
        """Every running pause of the organisation: reach -> seconds left."""
        try:
            seconds, micros = self._shared.client.time()
            now = seconds * 1000 + micros / 1000
            found: Any = self._shared.client.zrangebyscore(self._pauses_key, now, "+inf", withscores=True)
        except redis.RedisError as error:
            raise _unavailable(error) from None
        return {_text(reach): (until - now) / 1000 for reach, until in found}

    def observe(self, family: str, *, limit: int | None, remaining: int, reset_seconds: float, serial: int) -> None:
        """Learn from an answer's X-RateLimit headers: spread `remaining` requests over the next `reset_seconds`."""
        self._run(
            self._shared.observe_script,
            [self._bucket_key(family)],
            [limit or 0, remaining, max(0.0, reset_seconds) * 1000, serial, _KEEP_MS],
        )

    def penalise(self, family: str) -> int:
        """Note a 429 that named no time; returns how many came in a row over all workers, those at once as one."""
        return int(
            self._run(
                self._shared.penalise_script,
                [self._bucket_key(family)],
                [1000 / self._shared.rate_of(family).per_second, _KEEP_MS],
            )
        )

    def succeeded(self, family: str) -> None:
        """End a row of nameless 429s."""
        try:
            self._shared.client.hdel(self._bucket_key(family), "strikes")
        except redis.RedisError as error:
            raise _unavailable(error) from None

    @property
    def _pauses_key(self) -> str:
        return f"{self._prefix}:pauses"

    def _bucket_key(self, family: str) -> str:
        return f"{self._prefix}:bucket:{family}"

    def _tell(self, family: str, seconds: float) -> None:
        """Tell `on_pause`. Its failure must not cost the answer that is being heard: it is logged, no more."""
        if self._shared.on_pause is None:
            return
        try:
            self._shared.on_pause(self._organization_key, family, datetime.now(UTC) + timedelta(seconds=seconds))
        except Exception:
            logger.exception("atlassian.pause_not_stored", extra={"reach": family, "seconds": round(seconds, 1)})

    def _run(self, script: Any, keys: list[str], args: list[Any]) -> Any:
        try:
            return script(keys=keys, args=args)
        except redis.RedisError as error:
            raise _unavailable(error) from None


def _reaches(family: str) -> tuple[str, str, str]:
    """The pauses that hold `family`: its own, its host's, the organisation's."""
    host, slash, _ = family.rpartition("/")
    return family, f"{host}/{ALL}" if slash else ALL, ALL


def _unavailable(error: redis.RedisError) -> LimiterUnavailable:
    logger.warning("atlassian.limiter_unavailable", extra={"error": type(error).__name__})
    return LimiterUnavailable(f"The shared limiter is out of reach ({type(error).__name__}).")


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


@dataclass
class NullLimiter:
    """No limit and no wait, for single-process tools and unit tests. Keeps what it was told, for assertions."""

    pauses: list[tuple[str, float]] = field(default_factory=list)
    strikes: dict[str, int] = field(default_factory=dict)

    def of(self, organization_key: str) -> NullLimiter:
        return self

    def acquire(self, family: str, max_wait_seconds: float) -> Grant:
        return Grant(0.0)

    def pause(self, family: str, seconds: float) -> None:
        self.pauses.append((family, seconds))

    def pause_remaining(self, family: str = ALL) -> float:
        return 0.0

    def observe(self, family: str, *, limit: int | None, remaining: int, reset_seconds: float, serial: int) -> None:
        return None

    def penalise(self, family: str) -> int:
        self.strikes[family] = self.strikes.get(family, 0) + 1
        return self.strikes[family]

    def succeeded(self, family: str) -> None:
        self.strikes.pop(family, None)
