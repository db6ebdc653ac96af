"""The evidence pack of a run, downloaded from its page."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect

from apps.dashboard.evidence import NotEnded, evidence_name, stream_evidence
from apps.dashboard.services import record_evidence
from apps.operations.models import Operation
from apps.operators.access import OrganizationRequest, organization_of, require
from apps.operators.permissions import Permission


@require(Permission.EXPORT)
def pack(request: OrganizationRequest, number: int) -> HttpResponseBase:
    """A zip, streamed as it is made; the download is in the log."""
    organization = organization_of(request)
    operation = Operation.objects.of(organization).select_related("organization").filter(number=number).first()
    if operation is None:
        raise Http404
    try:
        stream = stream_evidence(operation, made_by=request.access.actor.name)
    except NotEnded as error:
        messages.error(request, str(error.detail))
        return redirect(operation)
    record_evidence(operation=operation, actor=request.access.actor)
    response = StreamingHttpResponse(stream, content_type="application/zip")
    response["Content-Disposition"] = f'attachment; filename="{evidence_name(operation)}"'
    return response
