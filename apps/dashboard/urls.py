"""Addresses of the dashboard, audit logs, alerts and help, below /o/<org>/."""

from __future__ import annotations

from django.urls import path

from apps.dashboard.views import audit, home, setup

app_name = "dashboard"
urlpatterns = [
    path("", home.dashboard, name="dashboard"),
    path("distribution.csv", home.distribution_csv, name="distribution-csv"),
    path("sync/", home.start_sync, name="start-sync"),
    path("sync/progress/", home.sync_progress, name="sync-progress"),
    path("sync/<int:pk>/", home.sync_detail, name="sync"),
    path("alerts/", home.alerts, name="alerts"),
    path("alerts/<int:pk>/close/", home.close_alert, name="close-alert"),
    path("first-sync/", setup.first_sync, name="first-sync"),
    path("first-rule/", setup.first_rule, name="first-rule"),
    path("audit/", audit.audit, name="audit"),
    path("audit/export/", audit.export, name="audit-export"),
    path("audit/verify/", audit.verify_chain, name="audit-verify"),
    path("audit/runs/<int:number>/", audit.run_preview, name="audit-run"),
    path("audit/events/<int:pk>/", audit.event, name="audit-event"),
    path("help/", home.help_page, name="help"),
]
