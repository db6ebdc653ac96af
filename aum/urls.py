"""All addresses: health, sign-in, set-up, REST, Django admin, and each app's pages under /o/<org>/."""

from __future__ import annotations

from allauth.account import views as account
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from apps.dashboard.views import docs, health, setup
from apps.operators.views import SignIn

urlpatterns: list[URLPattern | URLResolver] = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("", setup.home, name="home"),
    path("login/", SignIn.as_view(), name="account_login"),
    path("logout/", account.logout, name="account_logout"),
    path("me/password/", account.password_change, name="account_change_password"),
    path("reauthenticate/", account.reauthenticate, name="account_reauthenticate"),
    path("setup/", include("apps.dashboard.setup_urls")),
    path("api/schema/", docs.schema, name="api-schema"),
    path("api/docs/", docs.reference, name="api-docs"),
    path("api/v1/", include("aum.api_urls")),
    path("admin/", admin.site.urls),
    path("", include("apps.operators.urls")),
    path("o/<slug:org>/settings/", include("apps.dashboard.settings_urls")),
    path("o/<slug:org>/", include("apps.dashboard.urls")),
    path("o/<slug:org>/", include("apps.users.urls")),
    path("o/<slug:org>/", include("apps.rules.urls")),
    path("o/<slug:org>/", include("apps.operations.urls")),
]
