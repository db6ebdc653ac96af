"""The list of assignment rules, their switch, and their deletion."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRedirect

from apps.autoactivate import selectors, services
from apps.autoactivate.models import AssignmentRule, Channel
from apps.autoactivate.views.common import changed, found_or_404, may, tabs
from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from aum.common.errors import DomainError


def _context(request: OrganizationRequest) -> dict[str, Any]:
    organization = organization_of(request)
    seen = selectors.seen_channels(organization)
    rows = [_line(rule, seen) for rule in selectors.rules(organization)]
    active = sum(row["rule"].is_active for row in rows)
    draft = selectors.draft_of(organization, request.user, None) if request.access.may(Permission.RULES) else None
    return {
        "tabs": tabs(request, "list"),
        "rows": rows,
        "facts": f"Rules switched on: {active} of {len(rows)}." if rows else "",
        "seen": seen,
        "draft": draft,
        "used_days": selectors.USED_DAYS,
        **may(request),
    }


def _line(rule: AssignmentRule, seen: set[str]) -> dict[str, Any]:
    is_ready = bool(seen & set(rule.channels))
    trigger = rule.trigger_group.name if rule.trigger_group else ", ".join(rule.domains)
    kinds = [kind["name"] for kind in rule.request_types]
    extras = []
    if rule.needs_approval:
        extras.append("asks for an approval")
    if rule.expires_after_days:
        extras.append(f"for {rule.expires_after_days} day{'' if rule.expires_after_days == 1 else 's'}")
    if rule.max_per_day:
        extras.append(f"at most {rule.max_per_day:,} a day")
    if rule.seat_budget:
        extras.append(f"{rule.seat_budget:,} seats")
    return {
        "rule": rule,
        "trigger": trigger,
        "kinds": ", ".join(kinds) if kinds else "any request type",
        "channels": ", ".join(str(Channel(channel).label) for channel in rule.channels),
        "groups": ", ".join(group.name for group in rule.groups.all()),
        "extras": ", ".join(extras),
        "is_ready": is_ready,
        "why_not": "" if is_ready or rule.is_active else services.SetupNotSeen.detail,
    }


@require(Permission.VIEW)
@require_GET
def rule_list(request: OrganizationRequest) -> HttpResponse:
    """All assignment rules (S167–S173)."""
    partial = request.htmx and request.htmx.target == "list"
    return render(request, "autoactivate/_rules.html" if partial else "autoactivate/list.html", _context(request))


def _rule(request: OrganizationRequest, pk: int) -> AssignmentRule:
    return found_or_404(lambda: selectors.rule_by_id(organization_of(request), pk))


@require(Permission.RULES)
@require_POST
def switch(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Switch a rule on or off."""
    rule = _rule(request, pk)
    is_active = request.POST.get("is_active", "") == "on" if "is_active" in request.POST else not rule.is_active

    def change() -> str:
        services.switch_rule(rule=rule, is_active=is_active, actor=request.access.actor)
        return f"“{rule.name}” is switched {'on' if is_active else 'off'}."

    if not request.htmx:
        return changed(request, change, to="list")
    try:
        messages.success(request, change())
    except DomainError as error:
        messages.error(request, error.detail)
    return render(request, "autoactivate/_rules_and_toasts.html", _context(request))


@require(Permission.RULES)
@require_http_methods(["GET", "POST"])
def delete(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Delete a rule whose name was typed. A dialog for htmx, a page otherwise."""
    rule = _rule(request, pk)
    error = ""
    if request.method == "POST":
        if request.POST.get("confirm_name", "").strip() == rule.name:
            services.delete_rule(rule=rule, actor=request.access.actor)
            messages.success(request, f"“{rule.name}” is deleted. What it gave stays.")
            target = reverse("autoactivate:list", args=[organization_of(request).slug])
            return HttpResponseClientRedirect(target) if request.htmx else redirect(target)
        error = "Type the name of the rule exactly as it is shown."
    template = "autoactivate/_delete.html" if request.htmx else "autoactivate/delete.html"
    return render(request, template, {"rule": rule, "error": error}, status=422 if error else 200)
