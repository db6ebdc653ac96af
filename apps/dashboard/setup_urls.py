"""Addresses of the first run."""

from __future__ import annotations

from django.urls import path

from apps.dashboard.views import look_first, setup

urlpatterns = [
    path("", setup.choose, name="setup"),
    path("demo/", setup.demo, name="setup-demo"),
    path("connect/", setup.connect, name="setup-connect"),
    path("look-first/", look_first.begin, name="setup-look-first"),
    path("<str:token>/", setup.owner, name="setup-owner"),
]
