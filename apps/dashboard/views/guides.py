"""Help & Guides: help center, setup guide, glossary, documents; and the settings of the support contacts."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse

from apps.dashboard.forms import SupportForm
from apps.dashboard.guides import VERBS, doc_names, modules, search_docs
from apps.dashboard.guides import doc as document
from apps.dashboard.models import SupportContact
from apps.dashboard.services import set_support_contact
from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission


def _contact(request: OrganizationRequest) -> SupportContact:
    organization = organization_of(request)
    return SupportContact.objects.of(organization).first() or SupportContact(organization=organization)


def _base(request: OrganizationRequest) -> str:
    return reverse("dashboard:help-docs", args=[organization_of(request).slug])


@require(Permission.VIEW)
def help_center(request: OrganizationRequest) -> HttpResponseBase:
    """Tiles to the setup guide and the contacts, the glossary in short, documents, version."""
    found = modules(organization_of(request))
    ticked = [module for module in found if module.is_done is not None]
    context = {
        "contact": _contact(request),
        "done": sum(1 for module in ticked if module.is_done),
        "total": len(ticked),
        "names": [document(name, _base(request)) for name in doc_names() if "/" not in name],
        "version": settings.AUM_VERSION,
    }
    return render(request, "dashboard/help.html", context)


@require(Permission.VIEW)
def setup_guide(request: OrganizationRequest) -> HttpResponseBase:
    """The manual in modules, from token to user management, with ticks from the real state."""
    found = modules(organization_of(request))
    context = {"modules": found, "contact": _contact(request)}
    return render(request, "dashboard/help_setup.html", context)


@require(Permission.VIEW)
def glossary(request: OrganizationRequest) -> HttpResponseBase:
    """What suspend, deactivate, remove and delete do to access, bill and data, and the way back."""
    return render(request, "dashboard/help_glossary.html", {"verbs": VERBS})


@require(Permission.VIEW)
def docs(request: OrganizationRequest) -> HttpResponseBase:
    """All documents, or those that hold the words of `q`."""
    text = request.GET.get("q", "").strip()[:100]
    base = _base(request)
    context = {
        "q": text,
        "found": search_docs(text, base) if text else [],
        "documents": [document(name, base) for name in doc_names()],
    }
    return render(request, "dashboard/help_docs.html", context)


@require(Permission.VIEW)
def doc(request: OrganizationRequest, name: str) -> HttpResponseBase:
    """One document of docs/."""
    found = document(name, _base(request))
    if found is None:
        raise Http404
    return render(request, "dashboard/help_doc.html", {"document": found})


@require(Permission.SETTINGS)
def support(request: OrganizationRequest) -> HttpResponseBase:
    """Support contacts, shown on the help page; an empty field hides its tile."""
    contact = _contact(request)
    initial = {name: getattr(contact, name) for name in SupportForm.base_fields}
    form = SupportForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        set_support_contact(organization=organization_of(request), values=form.cleaned_data, actor=request.access.actor)
        messages.success(request, "The support contacts are saved.")
        return redirect("organizations:support", organization_of(request).slug)
    context = {"form": form, "section": "support"}
    return render(request, "dashboard/support.html", context, status=422 if form.errors else 200)
