"""Addresses below /hooks/: the only ones of activation that the internet has to reach."""

from __future__ import annotations

from django.urls import path

from apps.autoactivate.views import hooks
from aum.common import public_files

app_name = "hooks"
urlpatterns = [
    path("jira/<str:key>", hooks.jira, name="jira"),
    path("jira-webhook/<str:key>", hooks.jira_webhook, name="jira-webhook"),
    path("slack/<str:key>", hooks.slack, name="slack"),
    path("teams/<str:key>", hooks.teams, name="teams"),
    path("intranet/<str:key>", hooks.intranet, name="intranet"),
    path("form/<str:key>/", hooks.form, name="form"),
    path("confirm/<str:token>/", hooks.confirm, name="confirm"),
    path("request/<str:token>/", hooks.request_access, name="request"),
    path("extend/<str:token>/", hooks.extend, name="extend"),
    path("style.css", public_files.stylesheet, name="style"),
    path("icon.svg", public_files.icon, name="icon"),
]
