"""Look first: an organisation from an uploaded export, a newer export for it, and connecting it at last."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from apps.dashboard.forms import ApprovalChoiceForm, ExportFileForm, LookFirstForm
from apps.operators.access import OrganizationRequest, fresh, organization_of, require
from apps.operators.context import may_connect
from apps.operators.models import Operator, Role
from apps.operators.permissions import Permission
from apps.operators.services import choose_one_operator, grant_role
from apps.operators.views import add_errors
from apps.organizations.forms import FileConnectionForm
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.organizations.services import connect_file_organization, create_from_file
from apps.organizations.services.connections import ConnectionRefused
from apps.users import csv_layouts
from apps.users.selectors import latest_merged_sync
from apps.users.services import checked_export, fill_from_file, request_sync
from aum.common.errors import DomainError


def _too_large(request: HttpRequest, form: ExportFileForm) -> None:
    if "too-large" in request.GET:
        form.full_clean()
        form.errors.clear()
        form.add_error("file", csv_layouts.TOO_LARGE)


def _form(request: HttpRequest, kind: type[ExportFileForm]) -> ExportFileForm:
    """The sent form, or an empty one; with what was said of a file too large to be read."""
    if request.method == "POST":
        return kind(request.POST, request.FILES)
    form = kind(data={}) if "too-large" in request.GET else kind()
    _too_large(request, form)
    return form


@login_required
@require_http_methods(["GET", "POST"])
def begin(request: HttpRequest) -> HttpResponse:
    """`/setup/look-first/`: a name and an export make an organisation to look at."""
    operator = request.user
    assert isinstance(operator, Operator)
    if not may_connect(operator):
        return render(request, "dashboard/setup_ask_owner.html", status=403)
    form = _form(request, LookFirstForm)
    choice = ApprovalChoiceForm(request.POST or None)
    if request.method == "POST" and form.is_valid() and choice.is_valid():
        try:
            organization = _begin(request, form, operator, is_one_operator=choice.is_one_operator)
        except DomainError as error:
            add_errors(form, error)
        else:
            return redirect("dashboard:first-sync", organization.slug)
    status = 422 if form.errors or choice.errors else 200
    return render(request, "dashboard/setup_look_first.html", {"form": form, "choice": choice}, status=status)


@transaction.atomic
def _begin(request: HttpRequest, form: ExportFileForm, operator: Operator, *, is_one_operator: bool) -> Organization:
    """The organisation with its owner and the reading of the file; nothing of it where the file is refused."""
    actor = Actor.operator(operator, request.META.get("REMOTE_ADDR") or None)
    checked_export(**form.upload())
    organization = create_from_file(name=form.cleaned_data["name"], actor=actor)
    grant_role(organization=organization, operator=operator, role=Role.OWNER, actor=actor, is_founding=True)
    if is_one_operator:
        choose_one_operator(organization=organization, operator=operator, actor=actor)
    fill_from_file(organization=organization, actor=actor, **form.upload(), **form.details())
    return organization


def _of_file(request: OrganizationRequest) -> Organization:
    organization = organization_of(request)
    if not organization.is_from_file:
        raise Http404
    return organization


@require(Permission.SYNC)
@require_http_methods(["GET", "POST"])
def upload(request: OrganizationRequest) -> HttpResponseBase:
    """A newer export takes the place of the one that filled the organisation."""
    organization = _of_file(request)
    run = latest_merged_sync(organization)
    form = _form(request, ExportFileForm)
    if not form.is_bound and run is not None:
        form.initial["domains"] = ", ".join(run.found.get("domains", []))
    if request.method == "POST" and form.is_valid():
        try:
            fill_from_file(organization=organization, actor=request.access.actor, **form.upload(), **form.details())
        except DomainError as error:
            add_errors(form, error)
        else:
            messages.info(request, "The file is read. What it says takes the place of the earlier one.")
            return redirect("dashboard:dashboard", organization.slug)
    context = {"form": form, "run": run}
    return render(request, "dashboard/look_first_upload.html", context, status=422 if form.errors else 200)


@require(Permission.OWN)
@fresh("Save the credentials", on_get=True)
def connect(request: OrganizationRequest) -> HttpResponseBase:
    """Credentials for an organisation that a file filled: checked, saved, and then everything is read."""
    organization = _of_file(request)
    form = FileConnectionForm(request.POST or None)
    results: list[Any] = []
    if request.method == "POST" and form.is_valid():
        try:
            connect_file_organization(organization=organization, values=form.values(), actor=request.access.actor)
        except ConnectionRefused as error:
            results = list(error.results)
            add_errors(form, error)
        except DomainError as error:
            add_errors(form, error)
        else:
            request_sync(organization=organization, actor=request.access.actor, exist_ok=True)
            messages.success(request, "Atlassian accepted the credentials. Everything is read now.")
            return redirect("dashboard:first-sync", organization.slug)
    context = {
        "section": "connection",
        "form": form,
        "results": results,
        "failing": sum(1 for result in results if not result.ok and result.code != "not_checked"),
    }
    return render(request, "organizations/connect_file.html", context, status=422 if form.errors else 200)
