"""Deployment settings: every value comes from the environment, typed and checked at start.

Secrets may be given as NAME or as NAME_FILE (a path that is read at start). docs/deploy.md lists all variables.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import environ
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.FileAwareEnv()


def required(name: str) -> str:
    """The variable's value; raises ImproperlyConfigured that names it when it is missing or empty."""
    value: str = env.str(name, default="").strip()
    if not value:
        raise ImproperlyConfigured(f"Set {name} or {name}_FILE; see docs/deploy.md. script/server sets it by itself.")
    return value


DEBUG = env.bool("AUM_DEBUG", default=False)
SECRET_KEY = required("AUM_SECRET_KEY")
# all: one process serves everything. public: only /hooks/ and /k/, for the internet; private: everything but those.
AUM_SURFACE = env.str("AUM_SURFACE", default="all").strip().lower()
if AUM_SURFACE not in ("all", "private", "public"):
    raise ImproperlyConfigured("Set AUM_SURFACE to all, private or public.")
# The first key encrypts, all of them decrypt: put a new key in front to rotate (docs/deploy.md, "Rotate keys").
AUM_ENCRYPTION_KEYS: list[str] = []
if AUM_SURFACE != "public":  # what faces the internet can decrypt nothing, even where the key was given
    AUM_ENCRYPTION_KEYS = [key for key in required("AUM_ENCRYPTION_KEYS").replace("\n", ",").split(",") if key.strip()]
AUM_AUDIT_SIGNING_KEY = required("AUM_AUDIT_SIGNING_KEY") if AUM_SURFACE != "public" else ""
AUM_INSTANCE_ID = required("AUM_INSTANCE_ID")
# An append-only file outside the database that every sealed head of the audit chain is added to.
AUM_AUDIT_ANCHOR_FILE = env.str("AUM_AUDIT_ANCHOR_FILE", default="")
AUM_EMBEDDED = env.bool("AUM_EMBEDDED", default=False)
AUM_DATA_DIR = Path(env.str("AUM_DATA_DIR", default=str(BASE_DIR / "var")))
AUM_BASE_URL = env.str("AUM_BASE_URL", default="http://localhost:8000").rstrip("/")
# Where keep links and hooks are reached from outside, when that is another address.
AUM_PUBLIC_URL = env.str("AUM_PUBLIC_URL", default=AUM_BASE_URL).rstrip("/")
AUM_NOTICE_SECONDS = env.float("AUM_NOTICE_SECONDS", default=600.0)
AUM_VERSION = "0.1.0"

ATLASSIAN_API_URL = env.str("ATLASSIAN_API_URL", default="https://api.atlassian.com").rstrip("/")
# Further hosts that may be entered as API or site address, besides api.atlassian.com and *.atlassian.net.
ATLASSIAN_SITE_ALLOWLIST = env.list("ATLASSIAN_SITE_ALLOWLIST", default=[])
# Hosts, addresses and networks inside, to which mails and webhooks may go although they are not public.
AUM_OUTGOING_ALLOWLIST = [entry.strip() for entry in env.list("AUM_OUTGOING_ALLOWLIST", default=[]) if entry.strip()]
# Where Slack's Web API is; other addresses serve tests and proxies.
AUM_SLACK_API_URL = env.str("AUM_SLACK_API_URL", default="https://slack.com/api").rstrip("/")
# Below this address Slack takes answers to a command; nothing that a request names elsewhere is ever written to.
AUM_SLACK_HOOKS_URL = env.str("AUM_SLACK_HOOKS_URL", default="https://hooks.slack.com").rstrip("/")
# Fernet keys that open the signing secrets of inbound activation and nothing else; empty: derived from the keys above.
AUM_INBOUND_KEYS = env.list("AUM_INBOUND_KEYS", default=[])
AUM_DEMO_API_URL = env.str("AUM_DEMO_API_URL", default="").rstrip("/")
# Called by each sign of life of beat and a worker, so that silence alerts outside. Empty: nobody is told.
AUM_HEARTBEAT_URL = env.str("AUM_HEARTBEAT_URL", default="")
# Who may read /readyz and /metrics from other machines: a bearer token.
AUM_METRICS_TOKEN = env.str("AUM_METRICS_TOKEN", default="").strip()
# Role that the command line acts with when no --as is given; never one that approves.
AUM_CLI_ROLE = env.str("AUM_CLI_ROLE", default="admin")
AUM_READ_BACK_DELAY_SECONDS = env.float("AUM_READ_BACK_DELAY_SECONDS", default=30.0)
AUM_ITEM_LEASE_SECONDS = env.float("AUM_ITEM_LEASE_SECONDS", default=120.0)
# A run whose worker gave no sign of life for so long is taken up by another; how often that is looked for.
AUM_DRIVER_SECONDS = env.float("AUM_DRIVER_SECONDS", default=45.0)
# So many workers execute one large run side by side, where that many are free.
AUM_RUN_DRIVERS = env.int("AUM_RUN_DRIVERS", default=2)
# Data migrations rest while more statements than this are at work in the database.
AUM_BACKFILL_MAX_ACTIVE = env.int("AUM_BACKFILL_MAX_ACTIVE", default=8)
AUM_SWEEP_SECONDS = env.float("AUM_SWEEP_SECONDS", default=15.0)
# Longest time that a sync, an event from outside or a batch of mails belongs to a worker without a sign of life.
AUM_LEASE_SECONDS = env.float("AUM_LEASE_SECONDS", default=180.0)

ALLOWED_HOSTS = env.list("AUM_ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = [AUM_BASE_URL] if AUM_BASE_URL.startswith("https://") else []

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django.contrib.admin",
    "django_htmx",
    "django_celery_beat",
    "django_filters",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.socialaccount.providers.saml",
    "allauth.usersessions",
    "apps.organizations",
    "apps.operators",
    "apps.audit",
    "apps.migrations_mgmt",
    "apps.users",
    "apps.pricing",
    "apps.operations",
    "apps.notifications",
    "apps.rules",
    "apps.autoactivate",
    "apps.savings",
    "apps.dashboard",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "aum.common.middleware.RequestIdMiddleware",
    "aum.common.middleware.ForwardedAddressMiddleware",
    "aum.common.middleware.PrivacyHeadersMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "aum.common.uploads.RefuseLargeUploads",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "apps.operators.middleware.OrganizationMiddleware",
]

ROOT_URLCONF = "aum.urls"
WSGI_APPLICATION = "aum.wsgi.application"
if AUM_SURFACE == "public":
    # Nothing that reads a session, signs somebody in, or serves a file of the private pages. allauth wants to see its
    # middleware before it starts; here it finds nothing to do.
    ROOT_URLCONF = "aum.public_urls"
    MIDDLEWARE = [
        name
        for name in MIDDLEWARE
        if name.startswith(("aum.common.", "csp.", "django.middleware.", "allauth.account.")) and "Csrf" not in name
    ]
    # The admin is not served there, and without sessions there is nothing that another site could ride on.
    SILENCED_SYSTEM_CHECKS = ["admin.E408", "admin.E409", "admin.E410", "security.W003"]
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "OPTIONS": {
            "loaders": [
                (
                    "django.template.loaders.cached.Loader",
                    ["django.template.loaders.filesystem.Loader", "django.template.loaders.app_directories.Loader"],
                )
            ],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "apps.operators.context.shell",
            ],
            "builtins": ["aum.common.templatetags.aum"],
        },
    }
]

DATABASES: dict[str, Any] = {"default": env.db_url_config(required("DATABASE_URL"))}
DATABASES["default"].update(
    {
        "ENGINE": "django.db.backends.postgresql",
        "CONN_MAX_AGE": 0,
        # A pooled connection is tried before it is used: those of a PostgreSQL that was restarted are dead.
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            "pool": {"min_size": 1, "max_size": env.int("AUM_DB_POOL", default=20), "timeout": 30},
            "options": "-c jit=off -c timezone=UTC",
        },
    }
)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = required("REDIS_URL")
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL, "KEY_PREFIX": "aum"}
}

AUTH_USER_MODEL = "operators.Operator"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_ADAPTER = "apps.operators.adapters.AccountAdapter"
ACCOUNT_SESSION_REMEMBER = False
ACCOUNT_RATE_LIMITS = {"login": "60/m/ip", "login_failed": "20/m/ip,5/300s/key"}
ACCOUNT_LOGOUT_ON_GET = False
# A second sign-in before what is dangerous: live runs, credentials, people (`apps.operators.access.fresh`).
AUM_REAUTHENTICATE_MINUTES = env.int("AUM_REAUTHENTICATE_MINUTES", default=15)
ACCOUNT_REAUTHENTICATION_TIMEOUT = AUM_REAUTHENTICATE_MINUTES * 60
SOCIALACCOUNT_ADAPTER = "apps.operators.adapters.SocialAdapter"
# A link, not a form: the policy lets no form of ours end up at another host. `state` guards the way back.
SOCIALACCOUNT_LOGIN_ON_GET = True
SOCIALACCOUNT_STORE_TOKENS = False
MFA_ADAPTER = "apps.operators.adapters.MfaAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_FORMS = {"authenticate": "apps.operators.forms.CodeForm", "reauthenticate": "apps.operators.forms.CodeAgainForm"}
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_TOTP_ISSUER = "AUM"
MFA_TOTP_TOLERANCE = 1
# Addresses are not verified by mail: an owner gives them.
MFA_ALLOW_UNVERIFIED_EMAIL = True

SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
_https = AUM_BASE_URL.startswith("https://")
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not _https
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _https
SECURE_SSL_REDIRECT = env.bool("AUM_SSL_REDIRECT", default=_https)
SECURE_HSTS_SECONDS = 31536000 if _https else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = _https
AUM_PROXY_HOPS = env.int("AUM_PROXY_HOPS", default=1) if env.bool("AUM_BEHIND_PROXY", default=False) else 0
if AUM_PROXY_HOPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    USE_X_FORWARDED_HOST = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF],
        "font-src": [SELF],
        "connect-src": [SELF],
        "frame-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    }
}

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-gb"
USE_I18N = True
USE_THOUSAND_SEPARATOR = False

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = AUM_DATA_DIR / "static"
# Served from the source folders by WhiteNoise, so no collected copy has to exist.
WHITENOISE_USE_FINDERS = True
WHITENOISE_MAX_AGE = 3600
DATA_UPLOAD_MAX_MEMORY_SIZE = 5 * 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 5000

EMAIL_BACKEND = env.str("AUM_EMAIL_BACKEND", default="django.core.mail.backends.smtp.EmailBackend")
DEFAULT_FROM_EMAIL = env.str("AUM_FROM_EMAIL", default="aum@localhost")

# Requests of one token, or of one person's session, to /api/v1/.
AUM_API_REQUESTS_PER_MINUTE = env.int("AUM_API_REQUESTS_PER_MINUTE", default=600)
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "apps.operators.authentication.ApiTokenAuthentication",
        "apps.operators.authentication.OperatorSessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["apps.operators.authentication.HasPermission"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "aum.common.api.exception_handler",
    "DEFAULT_PAGINATION_CLASS": None,
    "DATETIME_FORMAT": "%Y-%m-%dT%H:%M:%S.%fZ",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "AUM",
    "DESCRIPTION": "Automated User Management for Atlassian Cloud.",
    "VERSION": AUM_VERSION,
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
}

CELERY_BROKER_URL = REDIS_URL
CELERY_RESULT_BACKEND = None
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_DEFAULT_QUEUE = "default"
# Short work never waits behind a long run or sync: those have queues, and workers, of their own.
CELERY_TASK_ROUTES = {
    "operations.execute": {"queue": "operations"},
    "operations.help": {"queue": "operations"},
    "users.sync": {"queue": "sync"},
    "users.write_export": {"queue": "sync"},
    "notifications.*": {"queue": "mail"},
}
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 3600, "health_check_interval": 10}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_SOFT_TIME_LIMIT = 1500
CELERY_TASK_TIME_LIMIT = 1800
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "apps.rules.scheduler:WatchfulScheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 5
# Written after each task that was sent: health checks read from it whether beat is alive.
CELERY_BEAT_SYNC_EVERY = 1
DJANGO_CELERY_BEAT_TZ_AWARE = True
CELERY_BEAT_SCHEDULE = {
    name: {"task": name, "schedule": seconds}
    for name, seconds in (
        ("operations.sweep", AUM_SWEEP_SECONDS),
        ("operations.apply_safeguards", 60.0),
        ("users.sync_sweep", 2 * AUM_SWEEP_SECONDS),
        ("users.exemptions", 300.0),
        ("rules.sweep", 4 * AUM_SWEEP_SECONDS),
        ("rules.notices", AUM_NOTICE_SECONDS),
        ("notifications.sweep", 2 * AUM_SWEEP_SECONDS),
        ("autoactivate.sweep", min(10.0, AUM_SWEEP_SECONDS)),
        ("autoactivate.poll", 60.0),
        ("autoactivate.expire", 300.0),
        ("audit.seal", 60.0),
        ("audit.ensure_partitions", 86400.0),
        ("audit.sweep", 60.0),
        ("audit.retention", 3600.0),
        ("migrations.advance", 30.0),
        ("savings.sweep", 300.0),
        ("savings.daily", 21600.0),
        ("dashboard.heartbeat", 30.0),
    )
}

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"context": {"()": "aum.common.logs.ContextFilter"}},
    "formatters": {
        "plain": {"()": "aum.common.logs.PlainFormatter"},
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "format": "%(asctime)s %(levelname)s %(name)s %(message)s",
            "rename_fields": {"asctime": "at", "levelname": "level", "name": "logger", "message": "event"},
        },
    },
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "filters": ["context"],
            "formatter": env.str("AUM_LOG_FORMAT", default="plain"),
        }
    },
    "root": {"handlers": ["stderr"], "level": env.str("AUM_LOG_LEVEL", default="INFO")},
    "loggers": {
        "django.request": {"level": "ERROR"},
        "django.server": {"level": "WARNING"},
        "celery": {"level": "WARNING"},
        "urllib3": {"level": "WARNING"},
    },
}
TESTING = "pytest" in sys.modules
