"""The admin as a whole: it is entered by the same sign-in as the pages, and every table of AUM has a page in it."""

from __future__ import annotations

from allauth.account.decorators import secure_admin_login
from django.apps import apps
from django.contrib import admin

from aum.common.admin import register_plainly

admin.site.site_header = "AUM support"
admin.site.site_title = "AUM support"
admin.site.index_title = "Look, and act only by the listed actions: each is recorded"
# The admin's own form would know nothing of lock-out and second factors.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]

# This module is the last of its kind to be loaded, since the dashboard spans all apps.
for model in apps.get_models():
    if model.__module__.startswith("apps.") and not admin.site.is_registered(model):
        register_plainly(model)
