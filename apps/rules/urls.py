"""Addresses of Scheduler & Cleanup below /o/<org>/."""

from __future__ import annotations

from django.urls import path

from apps.rules import views

app_name = "rules"
urlpatterns = [
    path("rules/", views.rule_list, name="list"),
    path("rules/new/", views.new, name="new"),
    path("rules/_estimate", views.estimate, name="estimate"),
    path("rules/_groups", views.group_options, name="groups"),
    path("rules/<int:pk>/edit/", views.edit, name="edit"),
    path("rules/<int:pk>/preview/", views.preview, name="preview"),
    path("rules/<int:pk>/run/", views.run, name="run"),
    path("rules/<int:pk>/pause/", views.pause, name="pause"),
    path("rules/<int:pk>/resume/", views.resume, name="resume"),
    path("rules/<int:pk>/duplicate/", views.duplicate, name="duplicate"),
    path("rules/<int:pk>/delete/", views.delete, name="delete"),
]
