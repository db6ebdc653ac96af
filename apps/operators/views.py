"""Sign-in, one's own account, people and roles, API tokens."""

from __future__ import annotations

from typing import Any

from allauth.account.views import LoginView
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from apps.operators import saml
from apps.operators.access import PENDING, OrganizationRequest, fresh, organization_of, require, sign_in
from apps.operators.forms import (
    AcceptForm,
    AccountForm,
    GroupRolesForm,
    InvitationForm,
    ProviderForm,
    RolesForm,
    SignInForm,
    SignInSettingsForm,
    TokenForm,
)
from apps.operators.models import ApiToken, Grant, GroupRole, IdentityProvider, Operator, Role
from apps.operators.permissions import Permission
from apps.operators.selectors import (
    PROVIDER_ID,
    active_provider,
    has_second_factor,
    identity_provider,
    members_of,
    open_invitation,
    open_invitations,
    permissions_of,
    provider_sign_in_url,
)
from apps.operators.services import (
    ProviderInput,
    accept_invitation,
    create_token,
    disable_operator,
    enable_operator,
    invite,
    may_change_provider,
    note_break_glass,
    require_second_factor,
    revoke_invitation,
    revoke_token,
    save_provider,
    set_group_roles,
    set_roles,
)
from apps.organizations.recorder import Actor
from aum.common.errors import DomainError, InvalidInput, Missing


class SignIn(LoginView):  # type: ignore[misc]
    """`/login/`: email and password; a refused form answers 422 as every other one does."""

    form_class = SignInForm

    def form_invalid(self, form: SignInForm) -> HttpResponse:
        """The page again, saying how many tries are left."""
        response: HttpResponse = self.render_to_response(self.get_context_data(form=form), status=422)
        return response

    def form_valid(self, form: SignInForm) -> HttpResponse:
        """Signs in; the sealed way in is told to everybody."""
        provider = active_provider()
        if provider is not None and provider.is_password_off:
            note_break_glass(operator=form.user, actor=Actor.operator(form.user, self.request.META.get("REMOTE_ADDR")))
        response: HttpResponse = super().form_valid(form)
        return response

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Adds the single sign-on, and whether a demo can be had here."""
        return {
            **super().get_context_data(**kwargs),
            "provider": active_provider(),
            "provider_url": provider_sign_in_url(),
            "has_demo": bool(settings.AUM_DEMO_API_URL),
        }


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
    context = {"form": form, "grants": grants, "has_second_factor": has_second_factor(request.user)}
    return render(request, "operators/me.html", context, status=422 if form.errors else 200)


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
@fresh("Create a token")
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
                networks=form.cleaned_data["networks"],
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
@fresh("Invite a person")
def people(request: OrganizationRequest) -> HttpResponseBase:
    """People, their roles, and open invitations. The link of a new invitation is shown once."""
    organization = organization_of(request)
    form = InvitationForm(request.POST or None)
    invitation, link = None, ""
    if request.method == "POST" and form.is_valid():
        try:
            invitation, secret = invite(organization=organization, actor=request.access.actor, **form.cleaned_data)
            link = f"{settings.AUM_BASE_URL.rstrip('/')}{reverse('operators:accept', args=[secret])}"
            form = InvitationForm()
        except InvalidInput as error:
            add_errors(form, error)
    context = {
        "form": form,
        "members": members_of(organization),
        "invitations": open_invitations(organization),
        "invitation": invitation,
        "link": link,
        "sign_in_form": SignInSettingsForm(
            initial={"is_second_factor_required": organization.is_second_factor_required}
        ),
        "section": "people",
    }
    response = render(request, "operators/people.html", context, status=422 if form.errors else 200)
    if link:
        response["Cache-Control"] = "no-store"
    return response


@require(Permission.OWN)
@fresh("Save how people sign in")
def sign_in_settings(request: OrganizationRequest) -> HttpResponseBase:
    """Whether a second factor is required."""
    organization = organization_of(request)
    form = SignInSettingsForm(request.POST)
    if request.method != "POST" or not form.is_valid():
        return redirect("operators:people", organization.slug)
    wanted = form.cleaned_data["is_second_factor_required"]
    try:
        require_second_factor(
            organization=organization, is_required=wanted, operator=request.user, actor=request.access.actor
        )
    except InvalidInput as error:
        messages.error(request, " ".join(error.fields["is_second_factor_required"]))
    else:
        messages.success(request, f"A second factor is {'required' if wanted else 'no longer required'} here.")
    return redirect("operators:people", organization.slug)


@require(Permission.OWN)
@fresh("Save single sign-on", on_get=True)
def single_sign_on(request: OrganizationRequest) -> HttpResponseBase:
    """The identity provider of the installation, and which of its groups hold which role in this organisation."""
    organization = organization_of(request)
    provider = identity_provider()
    owners = Operator.objects.filter(is_active=True, grants__role=Role.OWNER).distinct().order_by("email")
    may_change = may_change_provider(request.user)
    is_provider = request.POST.get("form") == "provider"
    form = ProviderForm(
        request.POST if is_provider else None,
        owners=owners if may_change else [],
        initial=_provider_values(provider),
    )
    roles = GroupRole.objects.of(organization)
    mapping = "\n".join(f"{row.group}: {row.role}" for row in roles)
    roles_form = GroupRolesForm(
        request.POST if request.POST.get("form") == "roles" else None, initial={"mapping": mapping}
    )
    try:
        if is_provider and form.is_valid():
            save_provider(values=ProviderInput(**form.cleaned_data), operator=request.user, actor=request.access.actor)
            messages.success(request, "Single sign-on is saved. Its configuration was read.")
            return redirect("operators:single-sign-on", organization.slug)
        if roles_form.is_bound and roles_form.is_valid():
            set_group_roles(
                organization=organization, pairs=roles_form.cleaned_data["mapping"], actor=request.access.actor
            )
            messages.success(request, "The groups are saved. They count from each person’s next sign-in.")
            return redirect("operators:single-sign-on", organization.slug)
    except InvalidInput as error:
        add_errors(form if is_provider else roles_form, error)
    context = {
        "form": form,
        "roles_form": roles_form,
        "provider": provider,
        "may_change": may_change,
        "callback": request.build_absolute_uri(reverse("openid_connect_callback", args=[PROVIDER_ID])),
        "saml_callback": saml.callback_url(request),
        "saml_entity": saml.metadata_url(request),
        "section": "sso",
    }
    status = 422 if form.errors or roles_form.errors else 200
    return render(request, "operators/single_sign_on.html", context, status=status)


def _provider_values(provider: IdentityProvider | None) -> dict[str, Any]:
    if provider is None:
        return {}
    names = ("name", "protocol", "client_id", "metadata_url", "groups_claim", "is_active", "is_password_off")
    is_saml = provider.protocol == IdentityProvider.Protocol.SAML
    return {
        **{name: getattr(provider, name) for name in names},
        "issuer": "" if is_saml else provider.issuer,
        "break_glass_id": provider.break_glass_id,
    }


@require(Permission.OWN)
@fresh("Change roles")
def person_roles(request: OrganizationRequest, pk: int) -> HttpResponseBase:
    """Which roles a person holds here; none takes them out of the organisation."""
    organization = organization_of(request)
    operator = _member(request, pk)
    held = list(Grant.objects.of(organization).filter(operator=operator).values_list("role", flat=True))
    form = RolesForm(request.POST if request.method == "POST" else None, initial={"roles": held})
    if request.method == "POST" and form.is_valid():
        try:
            set_roles(
                organization=organization,
                operator=operator,
                roles=form.cleaned_data["roles"],
                actor=request.access.actor,
            )
        except DomainError as error:
            add_errors(form, error)
        else:
            roles = ", ".join(str(Role(role).label) for role in form.cleaned_data["roles"])
            messages.success(
                request, f"{operator} is now {roles} here." if roles else f"{operator} no longer sees {organization}."
            )
            if operator.pk == request.user.pk and Role.OWNER not in form.cleaned_data["roles"]:
                return redirect("/")
            return redirect("operators:people", organization.slug)
    context = {"operator": operator, "form": form, "section": "people"}
    return render(request, "operators/person_roles.html", context, status=422 if form.errors else 200)


def _member(request: OrganizationRequest, pk: int) -> Operator:
    """The operator with a role here; raises Http404."""
    grant = Grant.objects.of(organization_of(request)).filter(operator_id=pk).select_related("operator").first()
    if grant is None:
        raise Http404
    operator: Operator = grant.operator
    return operator


@require(Permission.OWN)
@fresh("Change who may sign in")
def disable(request: OrganizationRequest, pk: int) -> HttpResponseBase:
    """A page that asks, then sign-in, sessions and tokens of the person end; or, for a disabled one, work again.

    Refused for oneself, for the last owner, and for a person who works in an organisation that the owner may not
    decide about.
    """
    operator = _member(request, pk)
    refusal = _why_not_disable(request, operator)
    if request.method == "POST" and not refusal:
        try:
            if operator.is_active:
                disable_operator(operator=operator, actor=request.access.actor)
                messages.success(request, f"{operator} can no longer sign in.")
            else:
                enable_operator(operator=operator, actor=request.access.actor)
                messages.success(request, f"{operator} can sign in again.")
            return redirect("operators:people", organization_of(request).slug)
        except DomainError as error:
            refusal = error.detail
    context = {"operator": operator, "refusal": refusal, "section": "people"}
    return render(request, "operators/person_disable.html", context, status=409 if request.method == "POST" else 200)


def _why_not_disable(request: OrganizationRequest, operator: Operator) -> str:
    if operator.pk == request.user.pk:
        return "You cannot disable yourself. Ask another owner."
    elsewhere = Grant.objects.filter(operator=operator).exclude(organization=organization_of(request))
    for grant in elsewhere.select_related("organization"):
        if Permission.OWN not in permissions_of(request.user, grant.organization):
            return f"{operator} also works in an organisation that you do not own. Ask its owner."
    return ""


@require(Permission.OWN)
@require_POST
def withdraw_invitation(request: OrganizationRequest, pk: int) -> HttpResponseBase:
    """The link stops working at once."""
    try:
        revoke_invitation(organization=organization_of(request), invitation_id=pk, actor=request.access.actor)
    except Missing as error:
        raise Http404 from error
    messages.success(request, "The invitation is withdrawn.")
    return redirect("operators:people", organization_of(request).slug)


@never_cache
@require_http_methods(["GET", "POST"])
def accept(request: HttpRequest, secret: str) -> HttpResponseBase:
    """`/invite/<secret>/`: choose a name and a password; who signs in here already accepts while signed in."""
    invitation = open_invitation(secret)
    if invitation is None:
        return render(request, "operators/invitation_over.html", status=404)
    existing = Operator.objects.filter(email__iexact=invitation.email, is_active=True).first()
    signed_in = request.user if isinstance(request.user, Operator) else None
    form = None if existing else AcceptForm(request.POST or None, initial={"name": invitation.name})
    refusal = ""
    if request.method == "POST" and (form is None or form.is_valid()):
        try:
            operator = accept_invitation(
                secret=secret,
                signed_in=signed_in,
                ip_address=request.META.get("REMOTE_ADDR"),
                **(form.cleaned_data if form else {}),
            )
        except InvalidInput as error:
            assert form is not None
            add_errors(form, error)
        except DomainError as error:
            refusal = error.detail
        else:
            if signed_in is None:
                sign_in(request, operator)
            messages.success(request, f"You are now part of {invitation.organization.name}.")
            return redirect(invitation.organization)
    context = {
        "invitation": invitation,
        "roles": [Role(role).label for role in invitation.roles],
        "form": form,
        "existing": existing,
        "is_signed_in": bool(existing and signed_in and existing.pk == signed_in.pk),
        "other": signed_in if signed_in and not (existing and existing.pk == signed_in.pk) else None,
        "refusal": refusal,
    }
    status = 409 if refusal else 422 if form is not None and form.errors else 200
    return render(request, "operators/invitation.html", context, status=status)


@login_required
def go_on(request: HttpRequest) -> HttpResponse:
    """After confirming who one is: what was about to be done, with everything that was filled in."""
    pending = request.session.get(PENDING)
    if not pending:
        return redirect("/")
    fields = [(name, value) for name, values in pending["fields"].items() for value in values]
    return render(request, "operators/go_on.html", {"pending": pending, "fields": fields})
