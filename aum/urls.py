"""All addresses: health, sign-in, set-up, REST, Django admin, and each app's pages under /o/<org>/."""

from __future__ import annotations

from allauth.account import views as account
from allauth.socialaccount.providers.openid_connect import views as openid_connect
from allauth.usersessions import views as usersessions
from django.conf import settings
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from apps.dashboard.views import docs, health, setup
from apps.operators import saml
from apps.operators.views import SignIn

urlpatterns: list[URLPattern | URLResolver] = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", health.metrics, name="metrics"),
    path("", setup.home, name="home"),
    path("login/", SignIn.as_view(), name="account_login"),
    path("logout/", account.logout, name="account_logout"),
    path("me/password/", account.password_change, name="account_change_password"),
    path("reauthenticate/", account.reauthenticate, name="account_reauthenticate"),
    path("sso/<str:provider_id>/login/", openid_connect.login, name="openid_connect_login"),
    path("sso/<str:provider_id>/login/callback/", openid_connect.callback, name="openid_connect_callback"),
    path("sso/saml/<slug:organization_slug>/login/", saml.login, name="saml_login"),
    path("sso/saml/<slug:organization_slug>/acs/", saml.acs, name="saml_acs"),
    path("sso/saml/<slug:organization_slug>/finish/", saml.finish, name="saml_finish_acs"),
    path("sso/saml/<slug:organization_slug>/metadata/", saml.metadata, name="saml_metadata"),
    path("me/two-factor/", include("allauth.mfa.urls")),
    path("me/sessions/", usersessions.list_usersessions, name="usersessions_list"),
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
    path("o/<slug:org>/", include("apps.notifications.urls")),
    path("o/<slug:org>/", include("apps.autoactivate.urls")),
    path("o/<slug:org>/", include("apps.pricing.urls")),
    path("o/<slug:org>/", include("apps.savings.urls")),
]
if settings.AUM_SURFACE != "private":
    urlpatterns.append(path("k/", include("apps.notifications.public_urls")))
    urlpatterns.append(path("hooks/", include("apps.autoactivate.hook_urls")))
