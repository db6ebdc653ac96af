"""Whether the process lives, and whether it can work."""

from __future__ import annotations

import hmac
import ipaddress

import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST

from apps.dashboard import heartbeat
from apps.dashboard.metrics import exposition


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """Answers while the process serves requests; asks nothing of the databases."""
    return HttpResponse("ok", content_type="text/plain")


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """200 when PostgreSQL and the queue answer, else 503 with which one does not.

    `workers` tells whether beat and a worker worked lately, `old_syncs` whose directory was not read for long: pages
    work without either, so that alone takes no web process out of service.

    Only from this machine, or with `Authorization: Bearer <AUM_METRICS_TOKEN>`; anybody else gets 404.
    """
    if not _may_ask(request):
        return HttpResponse(status=404)
    state = {"database": _database_answers(), "queue": _queue_answers()}
    further = {
        "workers": state["queue"] and heartbeat.is_alive(),
        "old_syncs": heartbeat.old_syncs() if state["database"] else [],
    }
    return JsonResponse({**state, **further}, status=200 if all(state.values()) else 503)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Figures for Prometheus; who may ask is as for `readyz`."""
    if not _may_ask(request):
        return HttpResponse(status=404)
    return HttpResponse(exposition(), content_type=CONTENT_TYPE_LATEST)


def _may_ask(request: HttpRequest) -> bool:
    token = str(getattr(settings, "AUM_METRICS_TOKEN", ""))
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if token and hmac.compare_digest(token.encode(), given.encode()):
        return True
    # Behind a proxy every request comes from its address, often loopback: then only the token counts.
    if "X-Forwarded-For" in request.headers:
        return False
    try:
        return ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False


def _database_answers() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return False
    return True


def _queue_answers() -> bool:
    try:
        with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
