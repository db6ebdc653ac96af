"""Pages about a rule over time: its versions, plans held against each other, what other days would do, its ladder."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.http import require_GET, require_POST

from apps.audit.services import record
from apps.operations.models import Operation
from apps.operations.reasons import reason_sentence
from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from apps.rules import compare, selectors, services
from apps.rules.forms import LABELS
from apps.rules.models import CleanupRule
from aum.common.csv import neutralise
from aum.common.errors import DomainError, Missing

ROWS = 100
PART_LABELS = {"added": "Added", "removed": "Removed", "changed": "Changed", "unchanged": "Unchanged"}
# Sign in the gutter, and its colour.
SIGNS = {"added": ("+", "add"), "removed": ("−", "del"), "changed": ("~", "eq"), "unchanged": ("=", "eq")}


def _rule(request: OrganizationRequest, pk: int) -> CleanupRule:
    try:
        return selectors.rule_by_id(organization_of(request), pk)
    except Missing as error:
        raise Http404 from error


@require(Permission.VIEW)
@require_GET
def ladder_list(request: OrganizationRequest) -> HttpResponse:
    """Rules that share a target, rung by rung."""
    organization = organization_of(request)
    return render(request, "rules/ladders.html", {"ladders": selectors.ladders(organization)})


# --- versions -------------------------------------------------------------------------------------------------------


@require(Permission.VIEW)
@require_GET
def version_list(request: OrganizationRequest, pk: int) -> HttpResponse:
    """All versions; two of them side by side: `new` and `old`, by default the last and the one before it."""
    rule = _rule(request, pk)
    found = list(selectors.versions(rule))
    by_number = {version.version: version for version in found}
    newer = by_number.get(_number(request, "new"), found[0])
    older = by_number.get(_number(request, "old")) or by_number.get(newer.version - 1)
    changes = [
        {"label": LABELS.get(change.name, change.name), "before": change.before, "after": change.after}
        for change in selectors.version_changes(older, newer)
    ]
    context = {"rule": rule, "versions": found, "newer": newer, "older": older, "changes": changes}
    return render(request, "rules/versions.html", context)


def _number(request: OrganizationRequest, name: str) -> int:
    text = request.GET.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0


# --- plans held against each other ----------------------------------------------------------------------------------


@require(Permission.PREVIEW)
@require_POST
def what_if(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Plan the rule with other days, then show it beside the rule's last plan."""
    rule = _rule(request, pk)
    access = request.access
    try:
        operation = services.what_if(
            rule=rule,
            actor=access.actor,
            operator=access.operator,
            inactive_days=request.POST.get("what_if_inactive_days"),
            never_active_days=request.POST.get("what_if_never_active_days"),
            status_days=request.POST.get("what_if_status_days"),
        )
    except DomainError as error:
        sentences = [text for texts in error.fields.values() for text in texts] or [error.detail]
        messages.error(request, f"What if: {' '.join(sentences)}")
        return redirect("rules:edit", organization_of(request).slug, rule.pk)
    base = reverse("rules:compare", args=[organization_of(request).slug, rule.pk])
    return redirect(f"{base}?{urlencode({'new': operation.number})}")


@dataclass(frozen=True)
class Tab:
    key: str
    label: str
    count: int
    url: str
    is_current: bool


@dataclass(frozen=True)
class Row:
    subject: str
    name: str
    email: str
    sign: str
    css: str
    part: str
    why: str
    url: str


def _chosen(
    request: OrganizationRequest, rule: CleanupRule
) -> tuple[list[Operation], Operation | None, Operation | None]:
    """The plans offered, the newer one, and the older one that it is held against."""
    plans = list(compare.plans_of(rule)[: compare.PLANS_OFFERED])
    by_number = {plan.number: plan for plan in compare.plans_of(rule).filter(number__in=_numbers(request))}
    by_number |= {plan.number: plan for plan in plans}
    newer = by_number.get(_number(request, "new")) if request.GET.get("new") else (plans[0] if plans else None)
    older = by_number.get(_number(request, "old"))
    if newer is not None and older is None:
        own = [plan for plan in plans if plan.pk != newer.pk and plan.pk < newer.pk and plan.rule_id == rule.pk]
        older = own[0] if own else None
    return plans, newer, older


def _numbers(request: OrganizationRequest) -> list[int]:
    return [_number(request, "new"), _number(request, "old")]


@require(Permission.VIEW)
@require_GET
def compare_plans(request: OrganizationRequest, pk: int) -> HttpResponse:
    """Two plans of a rule: `new` and `old` by number, `show` a group of people, `after` the last subject shown."""
    rule, organization = _rule(request, pk), organization_of(request)
    plans, newer, older = _chosen(request, rule)
    waiting = _waiting(request, rule) if newer is None and request.GET.get("new") else None
    context: dict[str, Any] = {
        "rule": rule,
        "plans": plans,
        "newer": newer,
        "older": older,
        "waiting": waiting,
        "tabs": [],
        "rows": [],
    }
    if newer is not None and older is not None:
        counts = compare.counts(newer, older)
        show = request.GET.get("show", "")
        if show not in compare.GROUPS:
            show = next((part for part in compare.GROUPS if counts[part]), "added")
        pair: dict[str, str | int] = {"new": newer.number, "old": older.number}
        found = compare.differences(newer, older, show, after=request.GET.get("after", "")[:320], limit=ROWS + 1)
        rows, now = found[:ROWS], timezone.now()
        context |= {
            "tabs": [
                Tab(part, PART_LABELS[part], counts[part], f"?{urlencode({**pair, 'show': part})}", part == show)
                for part in compare.GROUPS
            ],
            "rows": [_row(entry, now, organization.slug) for entry in rows],
            "next_url": f"?{urlencode({**pair, 'show': show, 'after': rows[-1].subject})}" if len(found) > ROWS else "",
            "export_url": f"export/?{urlencode(pair)}",
            "may_export": request.access.may(Permission.EXPORT),
        }
    return render(request, "rules/compare.html", context)


def _waiting(request: OrganizationRequest, rule: CleanupRule) -> Operation | None:
    """A plan of the rule that is still being made, or that could not be."""
    found = Operation.objects.of(rule.organization).filter(number=_number(request, "new"), plan_hash="").first()
    is_own = found is not None and rule.pk in (found.rule_id, found.frozen.get("what_if", {}).get("rule_id"))
    return found if is_own else None


def _why(entry: compare.Difference, now: Any) -> str:
    """Why somebody is in the plan; of those whom the newer one has no more, first why not."""
    why = reason_sentence(entry.reason, now)
    return f"{entry.why_not}. Before: {why}" if entry.why_not else why


def _row(entry: compare.Difference, now: Any, slug: str) -> Row:
    account = entry.account
    return Row(
        subject=entry.subject,
        name=account.name if account else entry.subject,
        email=(account.email or "") if account else "",
        sign=SIGNS[entry.part][0],
        css=SIGNS[entry.part][1],
        part=PART_LABELS[entry.part],
        why=_why(entry, now),
        url=reverse("users:person", args=[slug, account.pk]) if account else "",
    )


class _Echo:
    """A file of which csv writes each line straight into the answer."""

    def write(self, value: str) -> str:
        return value


@require(Permission.EXPORT)
@require_GET
def export_differences(request: OrganizationRequest, pk: int) -> HttpResponseBase:
    """Who was added, removed or changed between two plans, as CSV; logged."""
    rule, organization = _rule(request, pk), organization_of(request)
    _plans, newer, older = _chosen(request, rule)
    if newer is None or older is None:
        raise Http404
    record(
        organization=organization,
        actor=request.access.actor,
        action="rule.difference_exported",
        target_kind="rule",
        target_ref=str(rule.pk),
        target_name=rule.name,
        rule_id=rule.pk,
        rule_name=rule.name,
        rule_version=rule.version,
        after={"new": newer.number, "old": older.number},
    )
    response = StreamingHttpResponse(_csv_lines(newer, older), content_type="text/csv; charset=utf-8")
    name = f"aum-difference-{newer.number}-{older.number}-{organization.slug}-{timezone.now():%Y%m%dT%H%MZ}.csv"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _csv_lines(newer: Operation, older: Operation) -> Iterator[str]:
    writer, now = csv.writer(_Echo()), timezone.now()
    yield "\ufeff" + writer.writerow(["Change", "Account id", "Name", "Email", "Why"])
    for entry in compare.all_differences(newer, older):
        account = entry.account
        cells = [
            entry.part,
            entry.subject,
            account.name if account else "",
            (account.email or "") if account else "",
            _why(entry, now),
        ]
        yield writer.writerow([neutralise(cell) for cell in cells])
