"""Dashboard with its sync control, alerts, help."""

from __future__ import annotations

import csv
import io
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST

from apps.dashboard.selectors import (
    RANGES,
    distribution,
    donut,
    insights,
    partition_lines,
    recent_activity,
    seats,
    sync_summary,
)
from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from apps.operators.views import add_errors
from apps.organizations.forms import ReasonForm
from apps.organizations.models import Alert, Organization
from apps.organizations.selectors import connection_state, open_alerts
from apps.organizations.services import resolve_alert
from apps.rules.selectors import next_run_at, rules
from apps.users.models import ProtectedGroup, SyncRun
from apps.users.selectors import dashboard_counts, data_trust, latest_merged_sync, latest_sync
from apps.users.services import accept_baseline, request_sync
from aum.common.csv import neutralise
from aum.common.errors import DomainError

# After this time a poll that still runs asks less often.
_SLOW_AFTER = timedelta(minutes=1)


@require(Permission.VIEW)
def dashboard(request: OrganizationRequest) -> HttpResponseBase:
    """`/o/<org>/`: figures over one range of days, insights, activity, what needs attention."""
    organization = organization_of(request)
    days = _days(request)
    counts = dashboard_counts(organization, days)
    parts = distribution(counts)
    sync = latest_sync(organization)
    context = {
        "days": days,
        "ranges": RANGES,
        "counts": counts,
        "parts": parts,
        "arcs": donut(parts),
        "lines": partition_lines(counts),
        "seats": seats(counts),
        "seat_total": counts.licensed,
        "insights": insights(counts),
        "activity": recent_activity(organization),
        "alerts": open_alerts(organization)[:5],
        "next_rule": _next_rule(organization),
        **_sync_context(organization, sync),
        **_banner(organization),
    }
    return render(request, "dashboard/dashboard.html", context)


def _days(request: OrganizationRequest) -> int:
    text = request.GET.get("range", "30")
    return int(text) if text.isdigit() and int(text) in RANGES else 30


def _banner(organization: Organization) -> dict[str, Any]:
    """The configuration banner (§4.1), and why live rules would not run where the connection itself is fine."""
    return {"connection": connection_state(organization), "trust": data_trust(organization)}


def _next_rule(organization: Organization) -> tuple[Any, datetime] | None:
    """(rule, instant) of the rule that is due first; None without an active rule."""
    due = [(row, at) for row in rules(organization) if (at := next_run_at(row)) is not None]
    return min(due, key=lambda pair: pair[1]) if due else None


def _sync_context(organization: Organization, sync: SyncRun | None) -> dict[str, Any]:
    merged = latest_merged_sync(organization)
    is_open = sync is not None and sync.status in SyncRun.OPEN
    is_slow = is_open and sync is not None and sync.created_at < timezone.now() - _SLOW_AFTER
    return {
        "sync": sync,
        "sync_is_open": is_open,
        "sync_words": sync_summary(sync) if sync else "",
        "merged_sync": merged,
        "poll_seconds": 5 if is_slow else 2,
    }


@require(Permission.VIEW)
def distribution_csv(request: OrganizationRequest) -> HttpResponseBase:
    """The figures of the chart as CSV."""
    counts = dashboard_counts(organization_of(request), _days(request))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["range_days", "part", "users"])
    for line in partition_lines(counts):
        writer.writerow([counts.days, neutralise(line.label), line.count])
    response = HttpResponse("\ufeff" + text.getvalue(), content_type="text/csv; charset=utf-8")
    stamp = f"{counts.counted_at:%Y%m%dT%H%MZ}"
    name = f"aum-distribution-{organization_of(request).slug}-{stamp}.csv"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


@require(Permission.SYNC)
def start_sync(request: OrganizationRequest) -> HttpResponseBase:
    """Refresh: asks for a sync, or shows the one that runs."""
    return _start_sync(request)


@require_POST
def _start_sync(request: OrganizationRequest) -> HttpResponse:
    sync = request_sync(organization=organization_of(request), actor=request.access.actor, exist_ok=True)
    if request.headers.get("HX-Request"):
        return render(request, "dashboard/_sync.html", _sync_context(organization_of(request), sync))
    messages.info(request, "The sync runs. Its progress is shown here.")
    return redirect("dashboard:dashboard", organization_of(request).slug)


@require(Permission.VIEW)
def sync_progress(request: OrganizationRequest) -> HttpResponseBase:
    """The fragment that polls while a sync runs; `?page=setup` is the first run's larger one."""
    sync = latest_sync(organization_of(request))
    context = _sync_context(organization_of(request), sync)
    is_setup = request.GET.get("page") == "setup"
    response = render(request, "dashboard/_setup_sync.html" if is_setup else "dashboard/_sync.html", context)
    if not is_setup and sync is not None and not context["sync_is_open"]:
        # What the page counts may have changed: it is loaded anew once.
        response["HX-Refresh"] = "true"
    return response


@require(Permission.VIEW)
def sync_detail(request: OrganizationRequest, pk: int) -> HttpResponseBase:
    """One sync: what it read, changed, how it was judged; and, where it is distrusted, accepting what it found."""
    sync = SyncRun.objects.of(organization_of(request)).filter(pk=pk).first()
    if sync is None:
        raise Http404
    form = ReasonForm(request.POST or None)
    if request.method == "POST":
        if not request.access.may(Permission.APPROVE):
            return render(request, "operators/refused.html", {"permission": Permission.APPROVE}, status=403)
        if form.is_valid():
            try:
                accept_baseline(sync_run=sync, reason=form.cleaned_data["reason"], actor=request.access.actor)
            except DomainError as error:
                add_errors(form, error)
            else:
                messages.success(request, "The new state is accepted. Live rules work again.")
                return redirect("dashboard:sync", organization_of(request).slug, pk)
    merged = latest_merged_sync(organization_of(request))
    context = {
        "sync": sync,
        "sync_words": sync_summary(sync),
        "is_open": sync.status in SyncRun.OPEN,
        "is_acceptable": merged is not None and merged.pk == sync.pk and sync.is_trusted is False,
        "form": form,
    }
    return render(request, "dashboard/sync.html", context, status=422 if form.errors else 200)


@require(Permission.VIEW)
def alerts(request: OrganizationRequest) -> HttpResponseBase:
    """Open alerts and the last closed ones."""
    organization = organization_of(request)
    closed = Alert.objects.of(organization).filter(resolved_at__isnull=False).order_by("-resolved_at")[:25]
    return render(request, "dashboard/alerts.html", {"alerts": open_alerts(organization)[:200], "closed": closed})


@require(Permission.SETTINGS)
def close_alert(request: OrganizationRequest, pk: int) -> HttpResponseBase:
    """Close an open alert; it opens anew when its cause comes back."""
    alert = Alert.objects.of(organization_of(request)).filter(pk=pk).first()
    if alert is None or request.method != "POST":
        raise Http404
    if alert.resolved_at is None:
        resolve_alert(organization=organization_of(request), dedup_key=alert.dedup_key, by=request.access.actor.name)
        messages.success(request, f"Closed: {alert.title}")
    return redirect("dashboard:alerts", organization_of(request).slug)


@require(Permission.VIEW)
def help_page(request: OrganizationRequest) -> HttpResponseBase:
    """Setup guide with ticks from the real state, glossary, shortcuts, version."""
    organization = organization_of(request)
    state = connection_state(organization)
    all_rules = list(rules(organization))
    steps = {
        "credentials": state.is_usable,
        "sync": latest_merged_sync(organization) is not None,
        "groups": ProtectedGroup.objects.of(organization).exists(),
        "rule": bool(all_rules),
    }
    context = {"steps": steps, "version": settings.AUM_VERSION, "connection": state}
    return render(request, "dashboard/help.html", context)
