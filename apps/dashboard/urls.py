"""Addresses of the dashboard, audit logs, alerts and help, below /o/<org>/."""

from __future__ import annotations

from django.urls import path

from apps.dashboard.views import audit, evidence, guides, home, look_first, migration, retention, setup

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
    path("look-first/", look_first.upload, name="look-first"),
    path("first-rule/", setup.first_rule, name="first-rule"),
    path("audit/", audit.audit, name="audit"),
    path("audit/export/", audit.export, name="audit-export"),
    path("audit/verify/", audit.verify_chain, name="audit-verify"),
    path("audit/cards/<slug:name>/", audit.card, name="audit-card"),
    path("audit/cards/<slug:name>/export/", audit.card_export, name="audit-card-export"),
    path("audit/clear/", retention.clear, name="audit-clear"),
    path("audit/archives/<int:pk>/", retention.archive, name="audit-archive"),
    path("audit/erase/", retention.erase, name="audit-erase"),
    path("audit/runs/<int:number>/", audit.run_preview, name="audit-run"),
    path("audit/events/<int:pk>/", audit.event, name="audit-event"),
    path("runs/<int:number>/evidence/", evidence.pack, name="evidence"),
    path("migration/", migration.migrations_page, name="migration"),
    path("migration/_status", migration.status, name="migration-status"),
    path("migration/<slug:kind>/retry/", migration.retry_kind, name="migration-retry"),
    path("migration/logs/import/", migration.import_log, name="migration-import-log"),
    path("migration/logs/import/<int:pk>/retry/", migration.retry_import, name="migration-retry-import"),
    path("migration/rules/import/", migration.import_rules_file, name="migration-import-rules"),
    path("help/", guides.help_center, name="help"),
    path("help/setup/", guides.setup_guide, name="help-setup"),
    path("help/glossary/", guides.glossary, name="help-glossary"),
    path("help/docs/", guides.docs, name="help-docs"),
    path("help/docs/<path:name>/", guides.doc, name="help-doc"),
]
