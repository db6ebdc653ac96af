"""Migration: Logs migration and Rules migration with progress and Retry, and what is brought from another product."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponseBase
from django.shortcuts import redirect, render

from apps.audit.models import LogImport
from apps.audit.selectors import log_imports
from apps.audit.services import AlreadyImported, retry_log_import, start_log_import
from apps.dashboard.migration import KEPT_DAYS, KINDS, cards, retry_migration
from apps.dashboard.rules_csv import EXAMPLE, yaml_of_csv
from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from apps.rules.services import import_rules
from aum.common.errors import InvalidInput

MAX_RULES_BYTES = 1_000_000


@require(Permission.SETTINGS)
def migrations_page(request: OrganizationRequest) -> HttpResponseBase:
    """`/migration/`: both cards, imports, information."""
    return render(request, "dashboard/migration.html", _context(request))


def _context(request: OrganizationRequest) -> dict[str, Any]:
    organization = organization_of(request)
    imports = list(log_imports(organization)[:20])
    shown = cards(organization)
    return {
        "cards": shown,
        "imports": imports,
        "is_open": any(card.is_open for card in shown)
        or any(row.status == LogImport.Status.RUNNING for row in imports),
        "kept_days": KEPT_DAYS,
        "example": EXAMPLE,
    }


@require(Permission.SETTINGS)
def status(request: OrganizationRequest) -> HttpResponseBase:
    """The cards and imports alone: what Refresh status and the poll ask for."""
    context = _context(request)
    if not request.headers.get("HX-Request"):
        return redirect("dashboard:migration", organization_of(request).slug)
    return render(request, "dashboard/_migration.html", context)


@require(Permission.SETTINGS)
def retry_kind(request: OrganizationRequest, kind: str) -> HttpResponseBase:
    """Retry of one kind: GET asks, POST resets its status and starts it again."""
    if kind not in KINDS:
        raise Http404
    organization = organization_of(request)
    if request.method != "POST":
        return render(request, "dashboard/migration_retry.html", {"kind": kind, "title": KINDS[kind]})
    begun = retry_migration(organization=organization, kind=kind, actor=request.access.actor)
    messages.success(
        request,
        f"{KINDS[kind]} starts again." if begun else f"{KINDS[kind]} is in progress already; nothing was reset.",
    )
    return redirect("dashboard:migration", organization.slug)


@require(Permission.SETTINGS)
def import_log(request: OrganizationRequest) -> HttpResponseBase:
    """Take over the audit CSV of another product."""
    organization = organization_of(request)
    if request.method != "POST":
        return redirect("dashboard:migration", organization.slug)
    upload = request.FILES.get("file")
    errors: list[str] = []
    if upload is None:
        errors = ["Choose a CSV file."]
    else:
        try:
            start_log_import(
                organization=organization,
                name=upload.name or "",
                content=upload.read(),
                actor=request.access.actor,
            )
        except InvalidInput as error:
            errors = [sentence for found in error.fields.values() for sentence in found]
        except AlreadyImported as error:
            errors = [str(error.detail)]
        else:
            messages.success(request, "The file is being taken over. Its progress is shown here.")
            return redirect("dashboard:migration", organization.slug)
    return render(request, "dashboard/migration.html", {**_context(request), "log_errors": errors}, status=422)


@require(Permission.SETTINGS)
def retry_import(request: OrganizationRequest, pk: int) -> HttpResponseBase:
    """Begin a failed import anew."""
    found = LogImport.objects.of(organization_of(request)).defer("content").filter(pk=pk).first()
    if found is None or request.method != "POST":
        raise Http404
    retry_log_import(log_import=found, actor=request.access.actor)
    return redirect("dashboard:migration", organization_of(request).slug)


@require(Permission.RULES)
def import_rules_file(request: OrganizationRequest) -> HttpResponseBase:
    """Rules as YAML or CSV: looked at first, taken over with the second button; all of them or none."""
    organization = organization_of(request)
    if request.method != "POST":
        return redirect("dashboard:migration", organization.slug)
    upload = request.FILES.get("file")
    name, text = request.POST.get("name", ""), request.POST.get("text", "")
    errors: list[str] = []
    report = None
    try:
        if upload is not None:
            name, text = upload.name or "", _text(upload.read(MAX_RULES_BYTES + 1))
            if not name.lower().endswith((".yaml", ".yml")):
                text = yaml_of_csv(text)
        elif not text:
            raise InvalidInput(fields={"file": ["Choose a YAML or CSV file."]})
        report = import_rules(
            organization=organization,
            text=text,
            actor=request.access.actor,
            operator=request.access.operator,
            dry_run="apply" not in request.POST,
        )
    except InvalidInput as error:
        errors = [sentence for found in error.fields.values() for sentence in found]
    if report is not None and not report.errors and "apply" in request.POST:
        messages.success(request, f"Rules: {len(report.created)} created, {len(report.updated)} updated.")
        return redirect("rules:list", organization.slug)
    context = {**_context(request), "rule_errors": errors, "report": report, "text": text, "name": name}
    context["rule_count"] = len(report.created) + len(report.updated) if report is not None else 0
    has_errors = bool(errors or (report is not None and report.errors))
    return render(request, "dashboard/migration.html", context, status=422 if has_errors else 200)


def _text(content: bytes) -> str:
    if len(content) > MAX_RULES_BYTES:
        raise InvalidInput(fields={"file": ["The file is larger than 1 MB."]})
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput(fields={"file": ["The file is not UTF-8 text."]}) from None
