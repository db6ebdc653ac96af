"""Pages below /o/<org>/: savings ledger and insights."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from apps.savings import views

app_name = "savings"
urlpatterns: list[URLPattern | URLResolver] = [
    path("savings/", views.savings, name="savings"),
    path("savings/licences/", views.licences, name="licences"),
    path("savings/export.csv", views.export, name="export"),
    path("insights/", views.insights, name="insights"),
    path("insights/<slug:key>/", views.insight, name="insight"),
    path("insights/<slug:key>/snooze/", views.snooze, name="snooze"),
    path("insights/<slug:key>/dismiss/", views.dismiss, name="dismiss"),
    path("insights/<slug:key>/reopen/", views.reopen, name="reopen"),
]
