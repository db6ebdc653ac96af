"""Counting requests in windows of time, shared by all web processes through the cache."""

from __future__ import annotations

import hashlib
import logging
import time

from django.core.cache import cache
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)


def count_in_window(name: str, window_seconds: int) -> int:
    """Count one more request under `name` and say how many there were in this window.

    0 while the cache does not answer: a limit that cannot be counted must not close the door.
    """
    window = int(time.time() // window_seconds)
    # Names can hold addresses and tokens; the cache's keys hold neither.
    key = f"rate:{hashlib.sha256(name.encode()).hexdigest()[:40]}:{window}"
    try:
        cache.add(key, 0, window_seconds * 2)
        return int(cache.incr(key))
    except ValueError:  # emptied between the two calls
        return 1
    except (RedisError, OSError) as error:
        logger.warning("rate.not_counted", extra={"error": type(error).__name__})
        return 0
