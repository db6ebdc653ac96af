"""How many requests a caller of the REST API may make a minute."""

from __future__ import annotations

import time
from dataclasses import dataclass

from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from apps.operators.models import ApiToken
from aum.common.rates import count_in_window

WINDOW_SECONDS = 60


@dataclass(frozen=True)
class Allowance:
    """What a caller has left in this window; told in the headers of each answer."""

    limit: int
    remaining: int
    reset_seconds: int

    @property
    def headers(self) -> dict[str, str]:
        """`RateLimit-*` as the IETF draft names them (draft-ietf-httpapi-ratelimit-headers-07)."""
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_seconds),
        }


class CallerThrottle(BaseThrottle):
    """Counts by token, or by operator for a session, in windows of a minute shared by all web processes."""

    allowance: Allowance | None = None

    def allow_request(self, request: Request, view: object) -> bool:
        caller = _caller(request)
        if caller is None:
            return True
        used = count_in_window(f"api:{caller}", WINDOW_SECONDS)
        limit: int = settings.AUM_API_REQUESTS_PER_MINUTE
        until_next = WINDOW_SECONDS - time.time() % WINDOW_SECONDS
        self.allowance = Allowance(limit, max(limit - used, 0), int(until_next) + 1)
        request.allowance = self.allowance  # type: ignore[attr-defined]
        return used <= limit

    def wait(self) -> float | None:
        """Seconds until the next window."""
        return float(self.allowance.reset_seconds) if self.allowance else None


def _caller(request: Request) -> str | None:
    if isinstance(request.auth, ApiToken):
        return f"token:{request.auth.pk}"
    return f"operator:{request.user.pk}" if request.user and request.user.is_authenticated else None
