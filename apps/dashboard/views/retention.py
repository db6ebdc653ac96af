"""What leaves the log: retention periods, Clear logs with its archives, erasure of a person's name. For owners."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect, render

from apps.audit import retention
from apps.audit.models import LogClearance
from apps.audit.selectors import archive_parts, clearances, people_in_log, retention_days
from apps.audit.services import NothingToClear, clear_logs, clear_phrase, record, set_retention
from apps.dashboard.activity import erasable_figures
from apps.dashboard.services import erase_person
from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission
from aum.common.errors import InvalidInput


@require(Permission.OWN)
def settings_page(request: OrganizationRequest) -> HttpResponseBase:
    """Days per kind of record; empty keeps it. Also what was cleared, with its archives."""
    organization = organization_of(request)
    policies = retention_days(organization)
    typed = {kind.key: request.POST.get(kind.key, "").strip() for kind in retention.kinds()}
    errors: dict[str, list[str]] = {}
    if request.method == "POST":
        errors = {
            key: ["Enter a whole number of days."] for key, text in typed.items() if text and not _is_number(text)
        }
        if not errors:
            try:
                days = {key: int(text) if text else None for key, text in typed.items()}
                set_retention(organization=organization, days=days, actor=request.access.actor)
            except InvalidInput as error:
                errors = dict(error.fields)
            else:
                messages.success(request, "The retention periods are saved. What is older is removed within the hour.")
                return redirect("organizations:retention", organization.slug)
    rows = [
        {
            "kind": kind,
            "policy": policies.get(kind.key),
            "value": typed[kind.key] if request.method == "POST" else getattr(policies.get(kind.key), "days", ""),
            "errors": errors.get(kind.key, []),
        }
        for kind in retention.kinds()
    ]
    context = {"section": "retention", "rows": rows, "clearances": clearances(organization)[:20], "has_errors": errors}
    return render(request, "dashboard/retention.html", context, status=422 if errors else 200)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 8


@require(Permission.OWN)
def clear(request: OrganizationRequest) -> HttpResponseBase:
    """Clear logs: a page that says what happens, and asks for a typed phrase and a reason."""
    organization = organization_of(request)
    figures = erasable_figures(organization)
    errors: dict[str, list[str]] = {}
    if request.method == "POST":
        try:
            clear_logs(
                organization=organization,
                phrase=request.POST.get("phrase", ""),
                reason=request.POST.get("reason", ""),
                operations=figures.operations,
                actor=request.access.actor,
            )
        except InvalidInput as error:
            errors = dict(error.fields)
        except NothingToClear as error:
            messages.info(request, str(error.detail))
            return redirect("dashboard:audit", organization.slug)
        else:
            messages.success(request, "The log is cleared. An archive of it is being made under Data retention.")
            return redirect("dashboard:audit", organization.slug)
    context = {
        "figures": figures,
        "phrase": clear_phrase(organization),
        "typed": request.POST,
        "errors": errors,
    }
    return render(request, "dashboard/audit_clear.html", context, status=422 if errors else 200)


@require(Permission.OWN)
def archive(request: OrganizationRequest, pk: int) -> HttpResponseBase:
    """The archive of one clearance, a CSV packed by gzip; each download is in the log."""
    organization = organization_of(request)
    clearance = LogClearance.objects.of(organization).filter(pk=pk, archive_removed_at=None).exclude(sha256="").first()
    if clearance is None:
        raise Http404
    record(
        organization=organization,
        actor=request.access.actor,
        action="audit.archive_downloaded",
        target_kind="log_clearance",
        target_ref=str(clearance.pk),
        after={"sha256": clearance.sha256, "events": clearance.events},
    )
    response = StreamingHttpResponse(archive_parts(clearance), content_type="application/gzip")
    name = f"aum-audit-{organization.slug}-{clearance.requested_at:%Y%m%dT%H%MZ}.csv.gz"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


@require(Permission.OWN)
def erase(request: OrganizationRequest) -> HttpResponseBase:
    """Find a person in the log and take name and e-mail out of every entry, without breaking the chain."""
    organization = organization_of(request)
    text = (request.POST.get("q") or request.GET.get("q", "")).strip()[:320]
    people = people_in_log(organization, text) if len(text) >= 3 else []
    errors: dict[str, str] = {}
    if request.method == "POST":
        kind, _, key = request.POST.get("person", "").partition(":")
        person = next((one for one in people if (one.kind, one.key) == (kind, key)), None)
        if person is None:
            errors["person"] = "Choose one of the people found."
        elif request.POST.get("confirm", "").strip().lower() != "erase":
            errors["confirm"] = "Type erase to confirm."
        else:
            count = erase_person(
                organization=organization,
                kind=person.kind,
                key=person.key,
                emails=person.emails,
                reason=request.POST.get("reason", "").strip()[:500],
                actor=request.access.actor,
            )
            messages.success(request, f"Erased: {count} text{'' if count == 1 else 's'}. The chain stays valid.")
            return redirect("dashboard:audit-erase", organization.slug)
    context = {"q": text, "people": people, "errors": errors, "typed": request.POST, "is_short": 0 < len(text) < 3}
    return render(request, "dashboard/audit_erase.html", context, status=422 if errors else 200)
