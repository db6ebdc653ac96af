"""The REST schema and its reference page, for signed-in operators and bearers of tokens."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from drf_spectacular.views import SpectacularAPIView
from rest_framework.permissions import IsAuthenticated

schema = SpectacularAPIView.as_view(permission_classes=[IsAuthenticated])


@login_required
def reference(request: HttpRequest) -> HttpResponse:
    """Browsable documentation. Its script is started by a file of ours, because the policy forbids inline code."""
    return render(request, "dashboard/api_docs.html")
