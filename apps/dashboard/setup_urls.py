"""Addresses of the first run."""

from __future__ import annotations

from django.urls import path

from apps.dashboard.views import setup

urlpatterns = [
    path("", setup.choose, name="setup"),
    path("demo/", setup.demo, name="setup-demo"),
    path("connect/", setup.connect, name="setup-connect"),
    path("<str:token>/", setup.owner, name="setup-owner"),
]
