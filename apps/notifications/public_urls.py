"""Addresses below /k/: keep links and the mail provider's events. The internet may reach them."""

from __future__ import annotations

from django.urls import path

from apps.notifications.views import public
from aum.common import public_files

app_name = "keep"
urlpatterns = [
    path("style.css", public_files.stylesheet, name="style"),
    path("icon.svg", public_files.icon, name="icon"),
    path("events/<slug:slug>/", public.mail_events, name="events"),
    path("<str:token>/", public.keep, name="link"),
]
