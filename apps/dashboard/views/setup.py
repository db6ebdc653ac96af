"""First run: first owner, demo or own organisation, first sync, first rule. Also where `/` leads."""

from __future__ import annotations

import logging
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from apps.dashboard.forms import ApprovalChoiceForm
from apps.operators.access import OrganizationRequest, organization_of, require, sign_in
from apps.operators.context import may_connect
from apps.operators.forms import FirstOwnerForm
from apps.operators.models import Operator, Role
from apps.operators.permissions import Permission
from apps.operators.selectors import first_owner_link, has_operators, organizations_of
from apps.operators.services import choose_one_operator, create_first_owner, grant_role
from apps.operators.views import add_errors
from apps.organizations.forms import NewConnectionForm
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.organizations.services import ConnectionInput, connect_organization, demo_values, want_demo
from apps.organizations.services.connections import AlreadyConnected, ConnectionRefused, DemoUnavailable
from apps.savings.selectors import dashboard_insights
from apps.users.selectors import dashboard_counts, latest_sync
from apps.users.services import request_sync
from aum.common.errors import DomainError, InvalidInput

logger = logging.getLogger(__name__)


def home(request: HttpRequest) -> HttpResponse:
    """`/`: to the first organisation, to set-up where there is none, to sign-in."""
    if not isinstance(request.user, Operator):
        if not has_operators():
            return render(request, "dashboard/setup_no_link.html")
        return redirect("account_login")
    organization = organizations_of(request.user).first()
    return redirect(organization) if organization else redirect("setup")


@never_cache
@require_http_methods(["GET", "POST"])
def owner(request: HttpRequest, token: str) -> HttpResponse:
    """`/setup/<token>/`: the first owner. A used or old link explains itself."""
    if first_owner_link(token) is None:
        return render(request, "dashboard/setup_link_used.html", {"has_operators": has_operators()}, status=404)
    form = FirstOwnerForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            operator = create_first_owner(secret=token, **form.cleaned_data)
        except DomainError as error:
            add_errors(form, error)
        else:
            sign_in(request, operator)
            return redirect("setup")
    return render(request, "dashboard/setup_owner.html", {"form": form}, status=422 if form.errors else 200)


@login_required
def choose(request: HttpRequest) -> HttpResponse:
    """`/setup/`: the demo, or one's own organisation."""
    if not may_connect(_operator(request)):
        return render(request, "dashboard/setup_ask_owner.html", status=403)
    has_demo_already = Organization.objects.filter(is_demo=True).exists()
    context = {
        "form": ApprovalChoiceForm(),
        "has_demo": bool(settings.AUM_DEMO_API_URL),
        "has_demo_already": has_demo_already,
        "others": organizations_of(_operator(request)),
    }
    return render(request, "dashboard/setup_choose.html", context)


@login_required
@require_http_methods(["GET", "POST"])
def demo(request: HttpRequest) -> HttpResponse:
    """Connect the demo organisation. While its server starts, the page asks again by itself."""
    if not may_connect(_operator(request)):
        return render(request, "dashboard/setup_ask_owner.html", status=403)
    if request.method == "GET":
        return redirect("setup")
    choice = ApprovalChoiceForm(request.POST)
    choice.is_valid()
    try:
        if settings.AUM_DEMO_API_URL:
            want_demo()
        organization = _connect(request, demo_values(), is_demo=True, is_one_operator=choice.is_one_operator)
    except DemoUnavailable as error:
        return _demo_starting(request, choice, error)
    except (AlreadyConnected, IntegrityError):
        mine = organizations_of(_operator(request)).filter(is_demo=True).first()
        if mine is None:
            messages.error(request, "The demo organisation is connected already. Ask its owner for a role in it.")
            return _go(request, "setup")
        return _go(request, "dashboard:dashboard", mine.slug)
    except (ConnectionRefused, InvalidInput) as error:
        texts = [text for found in error.fields.values() for text in found]
        messages.error(request, f"The demo organisation did not accept its own credentials. {' '.join(texts)}")
        return _go(request, "setup")
    return _go(request, "dashboard:first-sync", organization.slug)


def _demo_starting(request: HttpRequest, choice: ApprovalChoiceForm, error: DemoUnavailable) -> HttpResponse:
    """The waiting page; after a minute of tries it says what to look at."""
    tries = min(int(request.POST.get("tries") or 0) + 1 if request.POST.get("tries", "0").isdigit() else 1, 1000)
    context = {
        "tries": tries,
        "approver": "one" if choice.is_one_operator else "second",
        "error": error,
        "has_demo": bool(settings.AUM_DEMO_API_URL),
        "is_slow": tries > 60,
    }
    name = "dashboard/_setup_demo_wait.html" if request.headers.get("HX-Request") else "dashboard/setup_demo_wait.html"
    return render(request, name, context)


@login_required
@require_http_methods(["GET", "POST"])
def connect(request: HttpRequest) -> HttpResponse:
    """One's own organisation: the credentials, checked one by one before anything is saved."""
    if not may_connect(_operator(request)):
        return render(request, "dashboard/setup_ask_owner.html", status=403)
    form = NewConnectionForm(request.POST or None)
    choice = ApprovalChoiceForm(request.POST or None)
    results: list[Any] = []
    if request.method == "POST" and form.is_valid() and choice.is_valid():
        try:
            organization = _connect(request, form.values(), is_demo=False, is_one_operator=choice.is_one_operator)
        except ConnectionRefused as error:
            results = error.results
            add_errors(form, error)
        except DomainError as error:
            add_errors(form, error)
        else:
            return redirect("dashboard:first-sync", organization.slug)
    context = {
        "form": form,
        "choice": choice,
        "results": results,
        "failing": sum(1 for result in results if not result.ok and result.code != "not_checked"),
        "has_demo": bool(settings.AUM_DEMO_API_URL),
    }
    return render(request, "dashboard/setup_connect.html", context, status=422 if form.errors else 200)


def _connect(request: HttpRequest, values: ConnectionInput, *, is_demo: bool, is_one_operator: bool) -> Organization:
    """The connected organisation with the operator as its owner and its first sync asked for."""
    operator = _operator(request)
    actor = Actor.operator(operator, request.META.get("REMOTE_ADDR") or None)
    organization, _results = connect_organization(values=values, actor=actor, is_demo=is_demo)
    grant_role(organization=organization, operator=operator, role=Role.OWNER, actor=actor, is_founding=True)
    if is_one_operator:
        choose_one_operator(organization=organization, operator=operator, actor=actor)
    request_sync(organization=organization, actor=actor, exist_ok=True)
    return organization


def _operator(request: HttpRequest) -> Operator:
    assert isinstance(request.user, Operator)
    return request.user


def _go(request: HttpRequest, name: str, *args: str) -> HttpResponse:
    """A redirect that htmx follows as a whole page."""
    response = redirect(name, *args)
    if request.headers.get("HX-Request"):
        answer = HttpResponse(status=204)
        answer["HX-Redirect"] = response["Location"]
        return answer
    return response


@require(Permission.VIEW)
def first_sync(request: OrganizationRequest) -> HttpResponseBase:
    """Progress of the first sync; it goes on when the page is left."""
    return render(request, "dashboard/setup_sync.html", {"sync": latest_sync(organization_of(request))})


@require(Permission.VIEW)
def first_rule(request: OrganizationRequest) -> HttpResponseBase:
    """The largest insight as a suggestion for the first rule, in Safe mode."""
    counts = dashboard_counts(organization_of(request), 30)
    largest = max(dashboard_insights(organization_of(request), counts.days), key=lambda insight: insight.count)
    return render(
        request, "dashboard/setup_rule.html", {"insight": largest if largest.count else None, "counts": counts}
    )
