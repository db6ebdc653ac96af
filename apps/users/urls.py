"""Addresses of people and exemptions below /o/<org>/."""

from __future__ import annotations

from django.urls import path

from apps.users import views

app_name = "users"
urlpatterns = [
    path("users/", views.user_list, name="list"),
    path("users/_groups", views.group_options, name="groups"),
    path("users/columns/", views.columns, name="columns"),
    path("users/selection/", views.pick, name="pick"),
    path("users/views/new/", views.save_view, name="save_view"),
    path("users/views/<int:pk>/edit/", views.edit_view, name="edit_view"),
    path("users/views/<int:pk>/update/", views.update_view, name="update_view"),
    path("users/views/<int:pk>/delete/", views.delete_view, name="delete_view"),
    path("users/sync/", views.start_sync, name="sync"),
    path("users/<int:pk>/", views.person, name="person"),
    path("users/<int:pk>/timeline/", views.timeline_export, name="timeline_export"),
    path("users/<int:pk>/refresh/", views.refresh, name="refresh"),
    path("users/<int:pk>/exempt/", views.exempt, name="exempt"),
    path("users/export/", views.export, name="export"),
    path("users/exports/", views.exports, name="exports"),
    path("users/exports/<int:pk>/", views.export_job, name="export_job"),
    path("users/exports/<int:pk>/download/", views.download, name="download"),
    path("users/exports/<int:pk>/end/", views.end_export, name="end_export"),
    path("exemptions/", views.exemptions, name="exemptions"),
    path("exemptions/new/", views.exempt_set, name="exempt_set"),
    path("exemptions/snooze/", views.snooze, name="snooze"),
    path("exemptions/<int:pk>/extend/", views.extend, name="extend_exemption"),
    path("exemptions/<int:pk>/end/", views.end, name="end_exemption"),
]
