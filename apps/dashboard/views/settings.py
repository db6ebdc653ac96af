"""Settings of one organisation: general, connection, safeguards, protected groups, emergency stop, end of a demo."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponseBase
from django.shortcuts import redirect, render

from apps.operations.reasons import safeguard_lines
from apps.operations.selectors import open_safeguard_changes
from apps.operations.services import Proposal, propose_change, propose_unprotect
from apps.operations.services.handoffs import coverage
from apps.operations.views.safeguards import change_rows
from apps.operators.access import OrganizationRequest, fresh, organization_of, proof_first, require
from apps.operators.permissions import Permission
from apps.operators.views import add_errors
from apps.organizations.forms import GeneralForm, ReasonForm, ReplaceCredentialsForm, SafeguardsForm
from apps.organizations.models import CapabilityCheck, Organization
from apps.organizations.selectors import connection_state, credential_states, primary_site
from apps.organizations.services import (
    check_connection,
    delete_demo,
    release_kill_switch,
    save_credentials,
    turn_kill_switch_on,
)
from apps.organizations.services.connections import ConnectionRefused
from apps.users.models import Group, ProtectedGroup, SyncRun
from apps.users.selectors import groups
from apps.users.services import protect_group
from aum.common.errors import DomainError, InvalidInput


@require(Permission.SETTINGS)
def general(request: OrganizationRequest) -> HttpResponseBase:
    """Name, timezone, currency and what syncs and screens follow."""
    form = GeneralForm(request.POST or None, instance=_copy(request))
    if request.method == "POST" and form.is_valid():
        changes = {name: form.cleaned_data[name] for name in form.changed_data}
        try:
            propose_change(
                organization=organization_of(request),
                changes=changes,
                reason="",
                actor=request.access.actor,
                operator=request.access.operator,
            )
        except InvalidInput as error:
            add_errors(form, error)
        else:
            messages.success(request, "The settings are saved." if changes else "Nothing was changed.")
            return redirect("organizations:settings", organization_of(request).slug)
    context = {"form": form, "section": "general"}
    return render(request, "organizations/general.html", context, status=422 if form.errors else 200)


def _copy(request: OrganizationRequest) -> Organization:
    """A fresh instance for a form to write on, so that the page's own stays as stored."""
    return Organization.objects.get(pk=organization_of(request).pk)


@require(Permission.SETTINGS)
def safeguards(request: OrganizationRequest) -> HttpResponseBase:
    """The limits. Stricter values are saved at once; looser ones wait for another person."""
    organization = organization_of(request)
    form = SafeguardsForm(request.POST or None, instance=_copy(request))
    if request.method == "POST" and form.is_valid():
        try:
            proposal = propose_change(
                organization=organization,
                changes=form.changes(),
                reason=form.cleaned_data["reason"],
                actor=request.access.actor,
                operator=request.access.operator,
            )
        except InvalidInput as error:
            add_errors(form, error)
        else:
            _say(request, proposal)
            return redirect("organizations:safeguards", organization.slug)
    context = {
        "form": form,
        "section": "safeguards",
        "changes": change_rows(request, open_safeguard_changes(organization)),
    }
    return render(request, "organizations/safeguards.html", context, status=422 if form.errors else 200)


def _say(request: OrganizationRequest, proposal: Proposal) -> None:
    if proposal.saved:
        messages.success(request, "The safeguards are saved.")
    for change in proposal.superseded:
        said = "; ".join(line.sentence for line in safeguard_lines(change))
        messages.warning(request, f"An earlier change is superseded and will not take effect: {said}.")
    if proposal.pending:
        messages.warning(
            request, "What becomes looser waits for an approval and takes effect one hour after it. It is listed below."
        )
    if not proposal.saved and not proposal.pending:
        messages.success(request, "Nothing was changed.")


@require(Permission.SETTINGS)
def connection(request: OrganizationRequest) -> HttpResponseBase:
    """State of both secrets and the checks one by one; an owner replaces the secrets in the dialog."""
    return _connection_page(request)


def _connection_page(
    request: OrganizationRequest, form: ReplaceCredentialsForm | None = None, results: Any = None, status: int = 200
) -> HttpResponseBase:
    organization = organization_of(request)
    context = {
        **_dialog_context(request, form, results),
        "section": "connection",
        "state": connection_state(organization),
        "credentials": credential_states(organization),
        "checks": list(CapabilityCheck.objects.of(organization)),
        "coverage": coverage(organization),
        "last_syncs": list(SyncRun.objects.of(organization).order_by("-created_at", "-id")[:5]),
    }
    return render(request, "organizations/connection.html", context, status=status)


def _dialog_context(request: OrganizationRequest, form: ReplaceCredentialsForm | None, results: Any) -> dict[str, Any]:
    """What the dialog "Configure Atlassian API credentials" shows: the saved e-mail and dates, never a secret."""
    states = credential_states(organization_of(request))
    token = next((state for state in states if state.kind == "api_token"), None)
    key = next((state for state in states if state.kind == "api_key"), None)
    initial = {
        "email": token.owner_email if token else "",
        "api_token_expires_on": token.expires_on if token else None,
        "api_key_expires_on": key.expires_on if key else None,
    }
    return {
        "site": primary_site(organization_of(request)),
        "form": form or ReplaceCredentialsForm(initial=initial),
        "is_dialog_open": form is not None or "replace" in request.GET,
        "results": results or [],
    }


@require(Permission.OWN)
@fresh("Save the credentials", on_get=True)
def replace(request: OrganizationRequest) -> HttpResponseBase:
    """Save new credentials after Atlassian accepted them. Typed values stay after a refusal, secrets do not.

    The dashboard asks for the dialog alone, as a fragment.
    """
    if organization_of(request).is_from_file:
        return redirect("organizations:connect", organization_of(request).slug)
    if request.method != "POST" and request.headers.get("HX-Request"):
        context = {**_dialog_context(request, None, None), "is_dialog_open": True}
        return render(request, "organizations/_replace_dialog.html", context)
    if request.method != "POST":
        return redirect("organizations:connection", organization_of(request).slug)
    form = ReplaceCredentialsForm(request.POST)
    results = None
    if form.is_valid():
        try:
            save_credentials(organization=organization_of(request), values=form.values(), actor=request.access.actor)
        except DomainError as error:
            results = error.results if isinstance(error, ConnectionRefused) else None
            add_errors(form, error)
        else:
            messages.success(request, "Atlassian accepted the credentials. They are saved.")
            return redirect("organizations:connection", organization_of(request).slug)
    return _connection_page(request, form, results, status=422)


@require(Permission.SETTINGS)
def check(request: OrganizationRequest) -> HttpResponseBase:
    """Check the saved credentials once more."""
    if request.method == "POST":
        try:
            failing = [result for result in check_connection(organization=organization_of(request)) if not result.ok]
        except DomainError as error:
            messages.error(request, error.detail)
        else:
            if failing:
                things = "1 check" if len(failing) == 1 else f"{len(failing)} checks"
                messages.error(request, f"{things} did not pass. The list says what to do.")
            else:
                messages.success(request, "All checks passed.")
    return redirect("organizations:connection", organization_of(request).slug)


@require(Permission.SETTINGS)
def protected_groups(request: OrganizationRequest) -> HttpResponseBase:
    """Groups whose members no run takes access from; search and add, remove."""
    organization = organization_of(request)
    search = request.GET.get("q", "").strip()
    found = groups(organization, search).filter(protection__isnull=True)[:20] if search else []
    rows = ProtectedGroup.objects.of(organization).select_related("group__directory").order_by("group__name")
    ending = {
        change.group_id: change for change in open_safeguard_changes(organization) if change.kind == "unprotect_group"
    }
    protected = [(row, ending.get(row.group_id)) for row in rows]
    context = {"section": "groups", "protected": protected, "search": search, "found": found}
    if request.headers.get("HX-Request"):
        return render(request, "organizations/_group_results.html", context)
    return render(request, "organizations/protected_groups.html", context)


@require(Permission.SETTINGS)
def protect(request: OrganizationRequest, pk: int) -> HttpResponseBase:
    """Protect a group."""
    group = _group(request, pk)
    if request.method == "POST":
        protect_group(group=group, actor=request.access.actor)
        messages.success(request, f"{group.name} is protected.")
    return redirect("organizations:groups", organization_of(request).slug)


@require(Permission.SETTINGS)
def unprotect(request: OrganizationRequest, pk: int) -> HttpResponseBase:
    """A page that says what would end, and asks for the reason; an approval and an hour stand before it."""
    group = _group(request, pk)
    form = ReasonForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            propose_unprotect(
                group=group,
                reason=form.cleaned_data["reason"],
                actor=request.access.actor,
                operator=request.access.operator,
            )
        except InvalidInput as error:
            add_errors(form, error)
        else:
            messages.warning(
                request, f"{group.name} stays protected until this is approved, and for one hour after that."
            )
            return redirect("organizations:groups", organization_of(request).slug)
    context = {"section": "groups", "group": group, "form": form}
    return render(request, "organizations/unprotect.html", context, status=422 if form.errors else 200)


def _group(request: OrganizationRequest, pk: int) -> Group:
    group: Group | None = groups(organization_of(request), include_vanished=True).filter(pk=pk).first()
    if group is None:
        raise Http404
    return group


@require(Permission.KILL_SWITCH)
def stop(request: OrganizationRequest) -> HttpResponseBase:
    """Emergency stop: on by those who may act or approve, off by an owner; both with a reason."""
    organization = organization_of(request)
    form = ReasonForm(request.POST or None)
    may_release = request.access.may(Permission.OWN)
    if request.method == "POST" and organization.is_killed and not may_release:
        return render(request, "operators/refused.html", {"permission": Permission.OWN}, status=403)
    if request.method == "POST" and form.is_valid():
        reason = form.cleaned_data["reason"]
        # Stopping never waits; letting everything go on again does.
        if organization.is_killed and (asked := proof_first(request, "Release the emergency stop")):
            return asked
        if organization.is_killed:
            release_kill_switch(organization=organization, reason=reason, actor=request.access.actor)
            messages.success(request, "The emergency stop is released. Runs go on.")
        else:
            turn_kill_switch_on(organization=organization, reason=reason, actor=request.access.actor)
            messages.warning(request, "The emergency stop is on. Nothing is written to Atlassian.")
        return redirect("organizations:stop", organization.slug)
    context = {"section": "stop", "form": form, "may_release": may_release}
    return render(request, "organizations/stop.html", context, status=422 if form.errors else 200)


@require(Permission.OWN)
@fresh("Delete the demo")
def remove_demo(request: OrganizationRequest) -> HttpResponseBase:
    """Delete the demo, or an organisation that only a file filled, and everything of it, after typing its name."""
    organization = organization_of(request)
    if not (organization.is_demo or organization.is_from_file):
        raise Http404
    typed = request.POST.get("name", "").strip()
    is_wrong = request.method == "POST" and typed != organization.name
    if request.method == "POST" and not is_wrong:
        delete_demo(organization=organization)
        messages.success(request, f"{organization.name} is deleted.")
        return redirect("home")
    context = {"section": "demo", "is_wrong": is_wrong, "typed": typed}
    return render(request, "organizations/remove_demo.html", context, status=422 if is_wrong else 200)
