"""Addresses of one's own account, tokens, and people."""

from __future__ import annotations

from django.urls import path

from apps.operators import views

app_name = "operators"
urlpatterns = [
    path("me/", views.me, name="me"),
    path("me/theme/", views.theme, name="theme"),
    path("o/<slug:org>/api-access/", views.tokens, name="tokens"),
    path("o/<slug:org>/api-access/<int:pk>/revoke/", views.revoke, name="revoke"),
    path("o/<slug:org>/settings/people/", views.people, name="people"),
    path("o/<slug:org>/settings/people/<int:pk>/disable/", views.disable, name="disable"),
]
