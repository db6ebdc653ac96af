"""Addresses below /o/<org>/settings/. The pages live here because they show sign-in, people and groups as well."""

from __future__ import annotations

from django.urls import path

from apps.dashboard.views import guides, look_first, retention, settings
from apps.notifications.views import settings as notices

app_name = "organizations"
urlpatterns = [
    path("general/", settings.general, name="settings"),
    path("connection/", settings.connection, name="connection"),
    path("connection/replace/", settings.replace, name="replace"),
    path("connection/connect/", look_first.connect, name="connect"),
    path("connection/check/", settings.check, name="check"),
    path("safeguards/", settings.safeguards, name="safeguards"),
    path("groups/", settings.protected_groups, name="groups"),
    path("groups/<int:pk>/protect/", settings.protect, name="protect"),
    path("groups/<int:pk>/unprotect/", settings.unprotect, name="unprotect"),
    path("retention/", retention.settings_page, name="retention"),
    path("support/", guides.support, name="support"),
    path("mail/", notices.mail, name="mail"),
    path("mail/test/", notices.mail_test, name="mail-test"),
    path("mail/secret/", notices.mail_secret, name="mail-secret"),
    path("channels/", notices.channel_list, name="channels"),
    path("channels/<int:pk>/", notices.channel, name="channel"),
    path("channels/<int:pk>/test/", notices.channel_test, name="channel-test"),
    path("channels/<int:pk>/toggle/", notices.channel_toggle, name="channel-toggle"),
    path("channels/<int:pk>/delete/", notices.channel_delete, name="channel-delete"),
    path("channels/<int:pk>/log/<int:delivery>/again/", notices.channel_again, name="channel-again"),
    path("stop/", settings.stop, name="stop"),
    path("demo/", settings.remove_demo, name="remove-demo"),
]
