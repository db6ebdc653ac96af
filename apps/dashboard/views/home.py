"""Dashboard with its sync control, alerts, help."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import Resolver404, resolve
from django.utils import timezone
from django.views.decorators.http import require_POST

from apps.dashboard.selectors import (
    RANGES,
    distribution,
    donut,
    partition_lines,
    recent_activity,
    sync_summary,
)
from apps.notifications import selectors as notices
from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from apps.operators.views import add_errors
from apps.organizations.forms import ReasonForm
from apps.organizations.models import Alert, Organization
from apps.organizations.selectors import connection_state, credential_states, open_alerts
from apps.organizations.services import resolve_alert
from apps.rules.selectors import next_run_at, rules
from apps.savings import selectors as savings
from apps.users.models import Product, SyncRun
from apps.users.selectors import DashboardCounts, dashboard_counts, data_trust, latest_merged_sync, latest_sync
from apps.users.services import accept_baseline, request_sync
from aum.common.csv import neutralise
from aum.common.errors import DomainError
from aum.common.money import Amounts

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
        **_money(organization, counts),
        "activity": recent_activity(organization),
        "alerts": open_alerts(organization)[:5],
        "next_rule": _next_rule(organization),
        "tiles": _tiles(request),
        "returns": notices.returns(organization, since=timezone.now() - timedelta(days=days)),
        "insight_keys": Product.values,
        **_sync_context(organization, sync),
        **_banner(organization),
    }
    return render(request, "dashboard/dashboard.html", context)


# The quick actions: address below /o/<org>/, what it needs, and how it reads (S54–S57).
_TILES = (
    ("rules/", Permission.VIEW, "clock", "Scheduler & Cleanup", "Rules and schedules"),
    ("imports/", Permission.ACT, "upload", "Import users", "Bulk changes from CSV"),
    ("activation/", Permission.VIEW, "bolt", "Auto-Activate Users", "Domain and group rules"),
    ("emails/", Permission.VIEW, "mail", "Email Notifications", "Templates and test emails"),
)


@dataclass(frozen=True)
class Tile:
    url: str
    icon: str
    title: str
    text: str


def _tiles(request: OrganizationRequest) -> list[Tile]:
    """Those whose page exists and may be opened."""
    base = organization_of(request).get_absolute_url()
    found = []
    for path, permission, icon, title, text in _TILES:
        if request.access.may(permission) and _leads_somewhere(base + path):
            found.append(Tile(base + path, icon, title, text))
    return found


def _leads_somewhere(path: str) -> bool:
    try:
        resolve(path)
    except Resolver404:
        return False
    return True


_FOUR = ("inactive_jira", "inactive_confluence", "inactive_everywhere", "inactive_jsm")


def _money(organization: Organization, counts: DashboardCounts) -> dict[str, Any]:
    """Insights, savings of this month and trends: card and chart show the same figures (S279)."""
    books = savings.Books.of(organization)
    every = savings.insights(organization, counts.days)
    month = savings.parse_month("", organization)
    months = books.months(month, 12)
    possible = savings.possible_seats(every)
    by_key = {insight.key: insight for insight in every}
    bars = savings.bars(books, months[-1], possible)
    line, area = savings.sparkline([(row.month.first, _size(row)) for row in months])
    shown = {"total": counts.total, "active": counts.active, "inactive": counts.inactive_card}
    return {
        "insights": [by_key[key] for key in _FOUR],
        "open_insights": sum(insight.is_open for insight in every),
        "month": month,
        "month_name": f"{month.first:%B}",
        "next_name": f"{month.shifted(1, books.today).first:%B}",
        "next_realised": books.projected(1).realised,
        "realised": months[-1].realised,
        "realised_seats": months[-1].seats,
        "possible": Amounts.total(bar.possible for bar in bars),
        "possible_seats": sum(possible.values()),
        "has_prices": books.has_prices,
        "has_savings": bool(books.spans) or any(possible.values()),
        "bars": bars,
        "bars_height": 40 * len(bars),
        "savings_line": line,
        "savings_area": area,
        "trends": savings.trends(organization, counts.days, shown),
        "is_demo_history": organization.is_demo and savings.is_demo_history(organization),
    }


def _size(row: savings.MonthSavings) -> float:
    return float(sum(amount for _currency, amount in row.realised)) or float(row.seats)


def _days(request: OrganizationRequest) -> int:
    text = request.GET.get("range", "30")
    return int(text) if text.isdigit() and int(text) in RANGES else 30


def _banner(organization: Organization) -> dict[str, Any]:
    """The configuration banner (§4.1), and why live rules would not run where the connection itself is fine."""
    state = connection_state(organization)
    invalid = [row.label for row in credential_states(organization) if not row.is_valid]
    named = [_VALUES[check.value] for check in state.failing if check.value in _VALUES]
    wrong = list(dict.fromkeys([*named, *invalid])) if state.code == "invalid" else []
    return {"connection": state, "trust": data_trust(organization), "wrong_values": wrong}


# The fields of the credentials dialog, as a failed check names them.
_VALUES = {"email": "Email ID", "api_token": "API token", "api_key": "API key", "org_id": "Organisation ID"}


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
    if organization_of(request).is_from_file:
        return redirect("dashboard:look-first", organization_of(request).slug)
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
