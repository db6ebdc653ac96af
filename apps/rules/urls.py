"""Addresses of Scheduler & Cleanup below /o/<org>/."""

from __future__ import annotations

from django.urls import path

from apps.rules import history_views, views

app_name = "rules"
urlpatterns = [
    path("rules/", views.rule_list, name="list"),
    path("rules/new/", views.new, name="new"),
    path("rules/_estimate", views.estimate, name="estimate"),
    path("rules/_groups", views.group_options, name="groups"),
    path("rules/<int:pk>/edit/", views.edit, name="edit"),
    path("rules/ladders/", history_views.ladder_list, name="ladders"),
    path("rules/<int:pk>/versions/", history_views.version_list, name="versions"),
    path("rules/<int:pk>/what-if/", history_views.what_if, name="what-if"),
    path("rules/<int:pk>/compare/", history_views.compare_plans, name="compare"),
    path("rules/<int:pk>/compare/export/", history_views.export_differences, name="compare-export"),
    path("rules/<int:pk>/preview/", views.preview, name="preview"),
    path("rules/<int:pk>/run/", views.run, name="run"),
    path("rules/<int:pk>/pause/", views.pause, name="pause"),
    path("rules/<int:pk>/resume/", views.resume, name="resume"),
    path("rules/<int:pk>/duplicate/", views.duplicate, name="duplicate"),
    path("rules/<int:pk>/delete/", views.delete, name="delete"),
]
