"""Settings of the test run: the real engines, a fast hasher, mail kept in memory, secrets that exist only here."""

import os

from cryptography.fernet import Fernet

os.environ.setdefault("AUM_SECRET_KEY", "only-for-tests")
os.environ.setdefault("AUM_ENCRYPTION_KEYS", Fernet.generate_key().decode())
os.environ.setdefault("AUM_AUDIT_SIGNING_KEY", "11" * 32)
os.environ.setdefault("AUM_INSTANCE_ID", "test-instance")
os.environ.setdefault("DATABASE_URL", "postgres://aum:aum@127.0.0.1:1/aum")
os.environ.setdefault("REDIS_URL", "redis://127.0.0.1:1/0")

from aum.settings import *  # noqa: F403 - a settings module is its names

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
# Each test process opens few connections; the pool would keep them across test databases.
DATABASES["default"]["OPTIONS"].pop("pool", None)  # noqa: F405
# A database that is migrated already: each test process copies it instead of running every migration again.
if "AUM_TEST_TEMPLATE" in os.environ:
    DATABASES["default"]["TEST"] = {"TEMPLATE": os.environ["AUM_TEST_TEMPLATE"]}  # noqa: F405
ATLASSIAN_SITE_ALLOWLIST = ["127.0.0.1", "localhost"]
AUM_READ_BACK_DELAY_SECONDS = 0.2
WHITENOISE_AUTOREFRESH = True
ALLOWED_HOSTS = ["*"]
# Generated requests come faster than any script; the limit has a test of its own.
AUM_API_REQUESTS_PER_MINUTE = 1_000_000
ACCOUNT_RATE_LIMITS = {"login_failed": "5/300s/key"}
