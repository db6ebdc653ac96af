"""Sign-in, one's own account, people and roles, API tokens."""

from __future__ import annotations

import secrets
from typing import Any

from allauth.account.views import LoginView
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods, require_POST

from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.forms import AccountForm, PersonForm, SignInForm, TokenForm
from apps.operators.models import ApiToken, Grant, Operator, Role
from apps.operators.permissions import Permission
from apps.operators.selectors import permissions_of
from apps.operators.services import create_operator, create_token, disable_operator, grant_role, revoke_token
from apps.organizations.recorder import record
from aum.common.errors import DomainError, InvalidInput


class SignIn(LoginView):  # type: ignore[misc]
    """`/login/`: email and password; a refused form answers 422 as every other one does."""

    form_class = SignInForm

    def form_invalid(self, form: SignInForm) -> HttpResponse:
        """The page again, saying how many tries are left."""
        response: HttpResponse = self.render_to_response(self.get_context_data(form=form), status=422)
        return response

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Adds whether a demo can be had here."""
        return {**super().get_context_data(**kwargs), "has_demo": bool(settings.AUM_DEMO_API_URL)}


def add_errors(form: Any, error: DomainError) -> None:
    """Put a service's refusal on the form: each sentence at its field, the rest above the form."""
    for name, texts in error.fields.items():
        for text in texts:
            form.add_error(name if name in form.fields else None, text)
    if not error.fields:
        form.add_error(None, error.detail)


@login_required
@require_http_methods(["GET", "POST"])
def me(request: HttpRequest) -> HttpResponse:
    """`/me/`: own name, theme, shortcuts; links to the password page."""
    assert isinstance(request.user, Operator)
    form = AccountForm(request.POST or None, instance=request.user)
    if request.method == "POST" and form.is_valid():
        form.save()
        messages.success(request, "Your settings are saved.")
        return redirect("operators:me")
    grants = Grant.objects.filter(operator=request.user).select_related("organization").order_by("organization__name")
    status = 422 if form.errors else 200
    return render(request, "operators/me.html", {"form": form, "grants": grants}, status=status)


@login_required
@require_POST
def theme(request: HttpRequest) -> HttpResponse:
    """Store the theme and go back to the page it was chosen on."""
    assert isinstance(request.user, Operator)
    wanted = request.POST.get("theme", "")
    if wanted in Operator.Theme.values:
        Operator.objects.filter(pk=request.user.pk).update(theme=wanted)
    back = request.POST.get("next", "")
    is_ours = url_has_allowed_host_and_scheme(back, {request.get_host()}, require_https=request.is_secure())
    return redirect(back if is_ours else "/")


@require(Permission.TOKENS)
def tokens(request: OrganizationRequest) -> HttpResponseBase:
    """API tokens: one's own; an owner sees everybody's. A new one is shown once, in the answer to its POST."""
    form = TokenForm(request.POST or None)
    token, secret = None, ""
    if request.method == "POST" and form.is_valid():
        try:
            token, secret = create_token(
                organization=organization_of(request),
                operator=request.user,
                scopes=form.cleaned_data["scopes"],
                name=form.cleaned_data["name"],
                expires_at=form.expires_at,
                actor=request.access.actor,
            )
            form = TokenForm()
        except InvalidInput as error:
            error.fields["expires_on"] = error.fields.pop("expires_at", [])
            add_errors(form, error)
    context = {
        "form": form,
        "tokens": _tokens(request),
        "token": token,
        "secret": secret,
        "base_url": settings.AUM_BASE_URL,
    }
    response = render(request, "operators/tokens.html", context, status=422 if form.errors else 200)
    if secret:
        response["Cache-Control"] = "no-store"
    return response


def _tokens(request: OrganizationRequest) -> list[ApiToken]:
    rows = ApiToken.objects.of(organization_of(request)).select_related("operator")
    if not request.access.may(Permission.OWN):
        rows = rows.filter(operator=request.user)
    return list(rows)


@require(Permission.TOKENS)
def revoke(request: OrganizationRequest, pk: int) -> HttpResponseBase:
    """A page that asks, then the token stops working at once."""
    token = next((row for row in _tokens(request) if row.pk == pk), None)
    if token is None:
        raise Http404
    if request.method == "POST":
        revoke_token(organization=organization_of(request), token_id=pk, actor=request.access.actor)
        messages.success(request, f"The token {token.name} is revoked.")
        return redirect("operators:tokens", organization_of(request).slug)
    return render(request, "operators/token_revoke.html", {"token": token})


@require(Permission.OWN)
def people(request: OrganizationRequest) -> HttpResponseBase:
    """People and roles. A new person gets a first password that is shown once."""
    form = PersonForm(request.POST or None)
    added, password = None, ""
    if request.method == "POST" and form.is_valid():
        try:
            added, password = _add_person(request, form.cleaned_data)
            form = PersonForm()
        except InvalidInput as error:
            add_errors(form, error)
    grants = Grant.objects.of(organization_of(request)).select_related("operator").order_by("operator__email", "role")
    members: dict[int, dict[str, Any]] = {}
    for grant in grants:
        member = members.setdefault(grant.operator_id, {"operator": grant.operator, "grants": []})
        member["grants"].append(grant)
    context = {
        "form": form,
        "members": list(members.values()),
        "added": added,
        "password": password,
        "section": "people",
    }
    response = render(request, "operators/people.html", context, status=422 if form.errors else 200)
    if password:
        response["Cache-Control"] = "no-store"
    return response


@transaction.atomic
def _add_person(request: OrganizationRequest, values: dict[str, Any]) -> tuple[Operator, str]:
    """(operator, first password or "" for a person who signs in here already)."""
    existing = Operator.objects.filter(email__iexact=values["email"], is_active=True).first()
    password = "" if existing else secrets.token_urlsafe(12)
    operator = existing or create_operator(email=values["email"], name=values["name"], password=password)
    grant_role(
        organization=organization_of(request), operator=operator, role=values["role"], actor=request.access.actor
    )
    if existing:
        messages.success(request, f"{existing} is now {Role(values['role']).label} here too.")
    return operator, password


@require(Permission.OWN)
def disable(request: OrganizationRequest, pk: int) -> HttpResponseBase:
    """A page that asks, then sign-in, sessions and tokens of the person end.

    Refused for oneself, and for a person who works in an organisation that the owner may not decide about.
    """
    grant = Grant.objects.of(organization_of(request)).filter(operator_id=pk).select_related("operator").first()
    if grant is None:
        raise Http404
    operator = grant.operator
    refusal = _why_not_disable(request, operator)
    if request.method == "POST" and not refusal:
        with transaction.atomic():
            disable_operator(operator=operator)
            record(
                organization=organization_of(request),
                actor=request.access.actor,
                action="operator.disabled",
                target_kind="operator",
                target_ref=str(operator.pk),
                target_name=str(operator),
                target_email=operator.email,
            )
        messages.success(request, f"{operator} can no longer sign in.")
        return redirect("operators:people", organization_of(request).slug)
    context = {"operator": operator, "refusal": refusal, "section": "people"}
    return render(request, "operators/person_disable.html", context, status=409 if request.method == "POST" else 200)


def _why_not_disable(request: OrganizationRequest, operator: Operator) -> str:
    if operator.pk == request.user.pk:
        return "You cannot disable yourself. Ask another owner."
    if not operator.is_active:
        return "This person is disabled already."
    elsewhere = Grant.objects.filter(operator=operator).exclude(organization=organization_of(request))
    for grant in elsewhere.select_related("organization"):
        if Permission.OWN not in permissions_of(request.user, grant.organization):
            return f"{operator} also works in an organisation that you do not own. Ask its owner."
    return ""
