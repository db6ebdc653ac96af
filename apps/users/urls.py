"""Addresses of people and exemptions below /o/<org>/."""

from __future__ import annotations

from django.urls import path

from apps.users import views

app_name = "users"
urlpatterns = [
    path("users/", views.user_list, name="list"),
    path("users/_groups", views.group_options, name="groups"),
    path("users/sync/", views.start_sync, name="sync"),
    path("users/<int:pk>/", views.person, name="person"),
    path("users/<int:pk>/refresh/", views.refresh, name="refresh"),
    path("users/<int:pk>/exempt/", views.exempt, name="exempt"),
    path("users/export/", views.export, name="export"),
    path("exemptions/", views.exemptions, name="exemptions"),
    path("exemptions/<int:pk>/end/", views.end, name="end_exemption"),
]
