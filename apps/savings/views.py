"""Pages of savings and insights."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from apps.organizations.models import Organization
from apps.savings import selectors, services
from apps.savings.billing import Month
from apps.savings.selectors.insights import Insight
from apps.savings.services.exports import licences_csv, months_csv
from apps.users.models import Product
from apps.users.products import label_of
from apps.users.selectors import latest_merged_sync
from apps.users.selectors.words import short_label
from aum.common.errors import DomainError, InvalidInput, Missing
from aum.common.money import Amounts

RANGES = (7, 30, 60, 90)
LINES_A_PAGE = 50
MONTHS_LISTED = 36


# --- savings ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One product in the table."""

    product: str
    label: str
    css: str
    price: str
    used: int
    used_query: str
    free: int
    people: int
    realised: Amounts
    seats: int
    scheduled: int
    idle: int
    idle_query: str
    possible: Amounts


@dataclass(frozen=True)
class Choice:
    value: str
    label: str


def _month(request: OrganizationRequest) -> Month:
    """The month asked for; this one where the address names none that exists."""
    organization = organization_of(request)
    try:
        return selectors.parse_month(request.GET.get("month", ""), organization)
    except InvalidInput:
        return selectors.parse_month("", organization)


def _month_choices(organization: Organization, asked: Month, today: date) -> list[Choice]:
    """This month and earlier ones, back to the first of the ledger or the one asked for."""
    first = min(selectors.first_month(organization), asked.first)
    found: list[Choice] = []
    month = Month.of(today, today)
    while month.first >= first and len(found) < MONTHS_LISTED:
        found.append(Choice(month.key, f"{month.first:%B %Y}"))
        month = month.shifted(-1, today)
    if asked.key not in {choice.value for choice in found}:
        found.append(Choice(asked.key, f"{asked.first:%B %Y}"))
    return found


@require(Permission.VIEW)
@require_GET
def savings(request: OrganizationRequest) -> HttpResponseBase:
    """`/o/<org>/savings/`: what was realised, what is scheduled, what is possible; three numbers, never one sum."""
    organization = organization_of(request)
    month = _month(request)
    books = selectors.Books.of(organization)
    months = books.months(month, 12)
    this, before = months[-1], months[-2]
    every = selectors.insights(organization)
    insights = {found.product: found for found in every if _is_idle(found)}
    possible = selectors.possible_seats(every)
    coming = selectors.scheduled(organization, books)
    year_people = selectors.people_in(organization, months[0].month, month)
    back = selectors.given_back(books, months[0].month, month)
    rows = _rows(organization, books, this, insights, coming.seats, month)
    next_month = books.projected(1)
    context = {
        "month": month,
        "month_name": f"{month.first:%B}",
        "month_label": f"{month.first:%B %Y}",
        "choices": _month_choices(organization, month, books.today),
        "previous": month.shifted(-1, books.today).key,
        "next": None if month.is_running or month.last >= books.today else month.shifted(1, books.today).key,
        "is_now": month.first == books.today.replace(day=1),
        "has_prices": books.has_prices,
        "realised": this.realised,
        "realised_seats": this.seats,
        "change": this.realised - before.realised,
        "before_name": f"{before.month.first:%B}",
        "next_name": f"{next_month.month.first:%B}",
        "next_realised": next_month.realised,
        "next_seats": next_month.seats,
        "year": Amounts.total(row.realised for row in months),
        "year_people": sum(year_people.values()),
        "possible": Amounts.total(row.possible for row in rows),
        "possible_seats": sum(possible.values()),
        "scheduled": coming,
        "given_back": back,
        "rows": rows,
        "total": _total(rows),
        "sources": this.by_source(),
        "chart": selectors.area_chart(books, months),
        "months": months,
        "is_demo_history": organization.is_demo and selectors.is_demo_history(organization),
        "is_synced": latest_merged_sync(organization) is not None,
        "is_empty": not books.spans,
    }
    return render(request, "savings/savings.html", context)


def _is_idle(insight: Insight) -> bool:
    return insight.key.startswith("inactive_") and bool(insight.product)


def _rows(
    organization: Organization,
    books: selectors.Books,
    savings_of: selectors.MonthSavings,
    insights: dict[str, Insight],
    coming: dict[str, int],
    month: Month,
) -> list[Row]:
    free, people = selectors.free_now(organization), selectors.people_in(organization, month, month)
    rows = []
    for found in savings_of.products:
        product, insight = found.product, insights.get(found.product)
        amount = Amounts() if found.amount is None else Amounts.of(found.amount, found.currency)
        rows.append(
            Row(
                product=product,
                label=short_label(product) if product in Product.values else label_of(product),
                css=selectors.CLASSES.get(product, ""),
                price=books.price_text(product),
                used=books.seats.get(product, 0),
                used_query=f"account_status=active&membership_status=active&product={product}",
                free=free.get(product, 0),
                people=people.get(product, 0),
                realised=amount,
                seats=found.seats,
                scheduled=coming.get(product, 0),
                idle=insight.count if insight else 0,
                idle_query=insight.list_query if insight else "",
                possible=insight.monthly if insight else Amounts(),
            )
        )
    return rows


def _total(rows: list[Row]) -> dict[str, Any]:
    return {
        "used": sum(row.used for row in rows),
        "free": sum(row.free for row in rows),
        "people": sum(row.people for row in rows),
        "seats": sum(row.seats for row in rows),
        "scheduled": sum(row.scheduled for row in rows),
        "idle": sum(row.idle for row in rows),
        "realised": Amounts.total(row.realised for row in rows),
        "possible": Amounts.total(row.possible for row in rows),
    }


@require(Permission.VIEW)
@require_GET
def licences(request: OrganizationRequest) -> HttpResponseBase:
    """Everybody behind a month's figures: days, and the part of the amount.

    With `show=free` those whose licence is free now, with `show=returned` those given back in the twelve months.
    """
    organization, month = organization_of(request), _month(request)
    product = request.GET.get("product", "")[:60]
    if request.GET.get("show") in ("free", "returned"):
        return _entries(request, organization, month, product)
    lines = selectors.seat_lines(organization, month, product)
    page = _page_number(request, len(lines))
    shown = lines[page * LINES_A_PAGE : (page + 1) * LINES_A_PAGE]
    books = selectors.Books.of(organization)
    amounts = [
        Amounts() if row.amount is None else Amounts.of(row.amount, row.currency)
        for row in books.month(month).products
        if not product or row.product == product
    ]
    context = {
        "month": month,
        "month_label": f"{month.first:%B %Y}",
        "product": product,
        "product_label": label_of(product) if product else "",
        "lines": shown,
        "count": len(lines),
        "realised": Amounts.total(amounts),
        "has_prices": books.has_prices,
        "page_text": f"{page * LINES_A_PAGE + 1:,} to {page * LINES_A_PAGE + len(shown):,} of {len(lines):,}",
        "previous": _page_query(request, page - 1) if page else "",
        "next": _page_query(request, page + 1) if (page + 1) * LINES_A_PAGE < len(lines) else "",
    }
    return render(request, "savings/licences.html", context)


def _entries(request: OrganizationRequest, organization: Organization, month: Month, product: str) -> HttpResponseBase:
    """What stands behind Free now and Given back in 12 months."""
    is_free = request.GET.get("show") == "free"
    entries = selectors.free_entries(organization)
    if not is_free:
        first = month.shifted(-11, selectors.Books.of(organization).today)
        entries = selectors.returned_entries(organization, first, month)
    count = entries.filter(product=product).count() if product else entries.count()
    page = _page_number(request, count)
    shown = selectors.entry_lines(entries, product, page * LINES_A_PAGE, LINES_A_PAGE)
    context = {
        "month": month,
        "month_label": f"{month.first:%B %Y}",
        "show": request.GET["show"],
        "product_label": label_of(product) if product else "",
        "lines": shown,
        "count": count,
        "page_text": f"{page * LINES_A_PAGE + 1:,} to {page * LINES_A_PAGE + len(shown):,} of {count:,}",
        "previous": _page_query(request, page - 1) if page else "",
        "next": _page_query(request, page + 1) if (page + 1) * LINES_A_PAGE < count else "",
    }
    return render(request, "savings/licences.html", context)


def _page_number(request: OrganizationRequest, count: int) -> int:
    text = request.GET.get("page", "1")
    page = int(text) - 1 if text.isascii() and text.isdecimal() and len(text) < 9 else 0
    return max(0, min(page, max(count - 1, 0) // LINES_A_PAGE))


def _page_query(request: OrganizationRequest, page: int) -> str:
    query = request.GET.copy()
    query["page"] = str(page + 1)
    return f"?{query.urlencode()}"


@require(Permission.EXPORT)
@require_GET
def export(request: OrganizationRequest) -> HttpResponseBase:
    """CSV: twelve months by product, or with `what=licences` everybody behind one month."""
    organization, month = organization_of(request), _month(request)
    if request.GET.get("what") == "licences":
        product = request.GET.get("product", "")[:60]
        text = licences_csv(organization, month, product, actor=request.access.actor)
        name = f"aum-licences-{organization.slug}-{month.key}"
    else:
        text = months_csv(organization, month, actor=request.access.actor)
        name = f"aum-savings-{organization.slug}"
    response = HttpResponse(text, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}-{timezone.now():%Y%m%dT%H%MZ}.csv"'
    return response


# --- insights ---------------------------------------------------------------------------------------------------------


def _days(request: OrganizationRequest) -> int:
    text = request.GET.get("range", "30")
    return int(text) if text.isdigit() and int(text) in RANGES else 30


@require(Permission.VIEW)
@require_GET
def insights(request: OrganizationRequest) -> HttpResponseBase:
    """`/o/<org>/insights/`: what asks for an action, what was put aside, what is in order."""
    organization, days = organization_of(request), _days(request)
    found = selectors.insights(organization, days)
    context = {
        "days": days,
        "ranges": RANGES,
        "open": [insight for insight in found if insight.is_open],
        "aside": [insight for insight in found if insight.decision is not None],
        "fine": [insight for insight in found if not insight.count and insight.decision is None],
        "snooze_days": services.SNOOZE_DAYS,
        "is_synced": latest_merged_sync(organization) is not None,
        "has_prices": selectors.Books.of(organization).has_prices,
    }
    return render(request, "savings/insights.html", context)


def _insight(request: OrganizationRequest, key: str) -> Insight:
    try:
        return selectors.insight_named(organization_of(request), key, _days(request))
    except Missing as error:
        raise Http404 from error


@require(Permission.VIEW)
@require_GET
def insight(request: OrganizationRequest, key: str) -> HttpResponseBase:
    """What one insight counts: for people the users list, for other things a list of its own."""
    found = _insight(request, key)
    if found.params:
        return redirect(f"{reverse('users:list', args=[organization_of(request).slug])}?{found.list_query}")
    return render(request, "savings/insight.html", {"insight": found})


def _back(request: OrganizationRequest) -> HttpResponse:
    return redirect("savings:insights", organization_of(request).slug)


@require(Permission.RULES)
@require_POST
def snooze(request: OrganizationRequest, key: str) -> HttpResponseBase:
    """Hide the insight for some days."""
    found = _insight(request, key)
    text = request.POST.get("days", "30")
    days = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0
    try:
        decision = services.snooze_insight(
            organization=organization_of(request), key=key, days=days, actor=request.access.actor
        )
    except InvalidInput as error:
        messages.error(request, " ".join(error.fields.get("days", [error.detail])))
    else:
        messages.success(request, f"“{found.title}” is hidden until {decision.until:%d %b %Y}.")
    return _back(request)


@require(Permission.RULES)
def dismiss(request: OrganizationRequest, key: str) -> HttpResponseBase:
    """Hide the insight for good, with a reason: a page of its own, so that it works without script."""
    found, error = _insight(request, key), ""
    if request.method == "POST":
        try:
            services.dismiss_insight(
                organization=organization_of(request),
                key=key,
                reason=request.POST.get("reason", ""),
                actor=request.access.actor,
            )
        except InvalidInput as refused:
            error = " ".join(refused.fields.get("reason", [refused.detail]))
        else:
            messages.success(request, f"“{found.title}” is dismissed. It can be opened again below.")
            return _back(request)
    context = {"insight": found, "error": error, "reason": request.POST.get("reason", "")}
    return render(request, "savings/dismiss.html", context, status=422 if error else 200)


@require(Permission.RULES)
@require_POST
def reopen(request: OrganizationRequest, key: str) -> HttpResponseBase:
    """Show an insight again that was put aside."""
    found = _insight(request, key)
    try:
        services.reopen_insight(organization=organization_of(request), key=key, actor=request.access.actor)
    except DomainError as error:
        messages.error(request, error.detail)
    else:
        messages.success(request, f"“{found.title}” is open again.")
    return _back(request)
