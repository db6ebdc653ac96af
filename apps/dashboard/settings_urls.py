"""Addresses below /o/<org>/settings/. The pages live here because they show sign-in, people and groups as well."""

from __future__ import annotations

from django.urls import path

from apps.dashboard.views import settings

app_name = "organizations"
urlpatterns = [
    path("general/", settings.general, name="settings"),
    path("connection/", settings.connection, name="connection"),
    path("connection/replace/", settings.replace, name="replace"),
    path("connection/check/", settings.check, name="check"),
    path("safeguards/", settings.safeguards, name="safeguards"),
    path("groups/", settings.protected_groups, name="groups"),
    path("groups/<int:pk>/protect/", settings.protect, name="protect"),
    path("groups/<int:pk>/unprotect/", settings.unprotect, name="unprotect"),
    path("stop/", settings.stop, name="stop"),
    path("demo/", settings.remove_demo, name="remove-demo"),
]
