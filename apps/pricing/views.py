"""Pages of the price book, and of the numbers of licences that raise an alert."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from apps.operators.views import add_errors
from apps.organizations.models import Organization
from apps.pricing import selectors, services
from apps.pricing.forms import FourForm, PriceForm, initial_of
from apps.pricing.models import ProductPrice
from apps.pricing.services.prices import values_of
from apps.users.models import Product
from apps.users.products import label_of
from aum.common.errors import InvalidInput, Missing
from aum.common.money import money_text


@dataclass(frozen=True)
class Line:
    """One row of the price book in words."""

    price: ProductPrice
    label: str
    amount: str
    unit: str
    tiers: list[str]
    state: str


@dataclass(frozen=True)
class Licences:
    """Use of one product, and the number that raises an alert."""

    product: str
    label: str
    used: int
    above: Any
    error: str
    is_over: bool


def _line(price: ProductPrice, in_force: set[int], today: date) -> Line:
    places = max(2, -int(price.unit_price.normalize().as_tuple().exponent))
    tiers = [
        f"from user {tier.from_users:,}: {money_text(tier.unit_price, price.currency, decimals=places)}"
        for tier in price.tiers.all()
    ]
    state = "now" if price.pk in in_force else "later" if price.valid_from > today else "past"
    return Line(
        price=price,
        label=label_of(price.product),
        amount=money_text(price.unit_price, price.currency, decimals=places),
        unit="per user and year" if price.billing == ProductPrice.Billing.ANNUAL else "per user and month",
        tiers=tiers if price.tier_mode != ProductPrice.TierMode.FLAT else [],
        state=state,
    )


def _page(
    request: OrganizationRequest,
    *,
    four: FourForm | None = None,
    typed: dict[str, str] | None = None,
    errors: dict[str, str] | None = None,
) -> HttpResponseBase:
    organization = organization_of(request)
    today = selectors.today(organization)
    rows = list(selectors.prices(organization))
    in_force: dict[str, int] = {}
    for row in rows:
        if row.valid_from <= today:
            in_force.setdefault(row.product, row.pk)
    lines = [_line(row, set(in_force.values()), today) for row in rows]
    alerts, used = selectors.licence_alerts(organization), selectors.seats(organization)
    typed, errors = typed or {}, errors or {}
    licences = [
        Licences(
            product=product,
            label=label_of(product),
            used=used.get(product, 0),
            above=typed.get(product, alerts[product].above if product in alerts else ""),
            error=errors.get(product, ""),
            is_over=product in alerts and used.get(product, 0) > alerts[product].above,
        )
        for product in dict.fromkeys((*Product.values, *sorted(used), *sorted(alerts)))
    ]
    context = {
        "lines": lines,
        "currencies": sorted({row.currency for row in rows if row.pk in in_force.values()}),
        "four": four or (None if rows else FourForm(initial=_start(organization, today))),
        "licences": licences,
        "section": "prices",
        "has_demo": any(row.is_demo for row in rows),
    }
    is_wrong = bool(errors) or bool(four and four.errors)
    return render(request, "pricing/prices.html", context, status=422 if is_wrong else 200)


def _start(organization: Organization, today: date) -> dict[str, Any]:
    return {
        "currency": organization.currency,
        "billing": ProductPrice.Billing.MONTHLY,
        "valid_from": today.replace(day=1).isoformat(),
    }


@require(Permission.VIEW)
@require_GET
def prices(request: OrganizationRequest) -> HttpResponseBase:
    """The price book by product, and use of licences; without prices the form with the four products."""
    return _page(request)


@require(Permission.SETTINGS)
@require_POST
def first_prices(request: OrganizationRequest) -> HttpResponseBase:
    """Save the prices of several products at once: all of them, or none where one is wrong."""
    form = FourForm(request.POST)
    organization = organization_of(request)
    if form.is_valid():
        inputs = form.inputs()
        if not inputs:
            form.add_error(None, "Enter the price of at least one product.")
        with transaction.atomic():
            for field, values in inputs.items():
                try:
                    services.add_price(organization=organization, values=values, actor=request.access.actor)
                except InvalidInput as error:
                    renamed = {
                        field if name in ("unit_price", "product") else name: t for name, t in error.fields.items()
                    }
                    add_errors(form, InvalidInput(fields=renamed))
            if form.errors:
                transaction.set_rollback(True)
        if not form.errors:
            messages.success(request, "The prices are saved. Savings are shown in money now.")
            return redirect("pricing:prices", organization.slug)
    return _page(request, four=form)


@require(Permission.SETTINGS)
@require_http_methods(["GET", "POST"])
def new_price(request: OrganizationRequest) -> HttpResponseBase:
    """A further price: of another product, or of the same from a later day on."""
    organization = organization_of(request)
    initial = {**_start(organization, selectors.today(organization)), "tier_mode": ProductPrice.TierMode.FLAT}
    wanted = request.GET.get("product", "")[:60]
    latest = selectors.prices(organization).filter(product=wanted).first() if wanted else None
    if latest is not None:
        initial = {**initial_of(values_of(latest)), "valid_from": initial["valid_from"]}
    elif wanted:
        initial["product"] = wanted
    form = PriceForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            price = services.add_price(organization=organization, values=form.values(), actor=request.access.actor)
        except InvalidInput as error:
            add_errors(form, error)
        else:
            messages.success(request, f"The price of {label_of(price.product)} from {price.valid_from} is saved.")
            return redirect("pricing:prices", organization.slug)
    return _form_page(request, form, None)


def _form_page(request: OrganizationRequest, form: PriceForm, price: ProductPrice | None) -> HttpResponseBase:
    context = {"form": form, "price": price, "products": Product.choices, "section": "prices"}
    return render(request, "pricing/price.html", context, status=422 if form.errors else 200)


def _price(request: OrganizationRequest, pk: int) -> ProductPrice:
    try:
        return selectors.price_by_id(organization_of(request), pk)
    except Missing as error:
        raise Http404 from error


@require(Permission.SETTINGS)
@require_http_methods(["GET", "POST"])
def edit_price(request: OrganizationRequest, pk: int) -> HttpResponseBase:
    """Correct a price; its months are computed anew."""
    price = _price(request, pk)
    form = PriceForm(request.POST or None, initial=initial_of(values_of(price)))
    if request.method == "POST" and form.is_valid():
        try:
            services.change_price(price=price, values=form.values(), actor=request.access.actor)
        except InvalidInput as error:
            add_errors(form, error)
        else:
            messages.success(request, "The price is changed. Savings of its months are computed anew.")
            return redirect("pricing:prices", organization_of(request).slug)
    return _form_page(request, form, price)


@require(Permission.SETTINGS)
@require_http_methods(["GET", "POST"])
def remove_price(request: OrganizationRequest, pk: int) -> HttpResponseBase:
    """Take a price out, after a page that says what follows."""
    price = _price(request, pk)
    if request.method == "POST":
        services.remove_price(price=price, actor=request.access.actor)
        messages.success(request, f"The price of {label_of(price.product)} from {price.valid_from} is removed.")
        return redirect("pricing:prices", organization_of(request).slug)
    return render(request, "pricing/remove.html", {"price": price, "label": label_of(price.product)})


@require(Permission.SETTINGS)
@require_POST
def alerts(request: OrganizationRequest) -> HttpResponseBase:
    """Save the numbers of licences of all products: all of them, or none where one is wrong."""
    organization = organization_of(request)
    typed = {name.removeprefix("above_"): str(text) for name, text in request.POST.items() if name.startswith("above_")}
    errors: dict[str, str] = {}
    with transaction.atomic():
        for product, text in typed.items():
            try:
                services.set_licence_alert(
                    organization=organization, product=product, above=text, actor=request.access.actor
                )
            except InvalidInput as error:
                errors[product] = " ".join(error.fields.get("above", [error.detail]))
        if errors:
            transaction.set_rollback(True)
    if errors:
        return _page(request, typed=typed, errors=errors)
    messages.success(request, "The licence alerts are saved.")
    return redirect("pricing:prices", organization.slug)
