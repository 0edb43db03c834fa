"""All settings of Farebox, from the environment (.env is read; .env.example lists every variable)."""

from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django_stubs_ext
import environ
import structlog
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from config.addresses import AddressMissing, find_addresses, with_database_number
from core.redaction import redact_links

django_stubs_ext.monkeypatch()

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()
if (BASE_DIR / ".env").is_file():
    env.read_env(BASE_DIR / ".env")

VAR_DIR = Path(env.str("FAREBOX_VAR_DIR", default=str(BASE_DIR / "var")))
if (
    VAR_DIR / "secret.env"
).is_file():  # made by `make demo` and `make run`, so that manage.py fits the running servers
    env.read_env(VAR_DIR / "secret.env")
DEBUG = env.bool("DEBUG", default=False)


def _secret(name: str, hint: str) -> str:
    """A secret that must be set, except in DEBUG, where a fixed one that nobody may use in production stands in."""
    value: str = env.str(name, default="")
    if not value and DEBUG:
        return "insecure-development-value-" + name.lower().replace("_", "-")
    if not value:
        raise ImproperlyConfigured(f"{name} is not set. {hint}")
    return value


SECRET_KEY = _secret(
    "SECRET_KEY",
    "Make one: python -c 'import secrets; print(secrets.token_urlsafe(50))'",
)
# Comma-separated, newest first: all are tried for reading, the first writes (core/crypto.py).
ENCRYPTION_KEYS: list[str] = env.list("ENCRYPTION_KEYS", default=[])
ADMIN_API_KEY = env.str("ADMIN_API_KEY", default="")

ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", default=[])
BRAND_NAME = env.str("FAREBOX_BRAND_NAME", default="Farebox")
PORTAL_URL = env.str("FAREBOX_PORTAL_URL", default="http://127.0.0.1:8000").rstrip("/")
GATEWAY_URL = env.str("FAREBOX_GATEWAY_URL", default="http://127.0.0.1:9090").rstrip("/")
STAFF_EMAILS: list[str] = env.list("FAREBOX_STAFF_EMAILS", default=[])

# --- servers -----------------------------------------------------------------------------------------------------
try:
    _addresses = find_addresses(
        database_url=env.str("DATABASE_URL", default=""),
        redis_url=env.str("REDIS_URL", default=""),
        state_file=VAR_DIR / "servers.json",
    )
except AddressMissing as missing:
    raise ImproperlyConfigured(str(missing)) from missing

DATABASES: dict[str, dict[str, Any]] = {"default": env.db_url_config(_addresses.database_url)}
DATABASES["default"]["CONN_MAX_AGE"] = env.int("DATABASE_CONN_MAX_AGE", default=60)
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DATABASES["default"].setdefault("OPTIONS", {}).setdefault("connect_timeout", 5)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = _addresses.redis_url
try:
    BROKER_URL = env.str("BROKER_URL", default="") or with_database_number(REDIS_URL, 1)
    CACHE_URL = env.str("CACHE_URL", default="") or with_database_number(REDIS_URL, 2)
except AddressMissing as missing:
    raise ImproperlyConfigured(str(missing)) from missing
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": CACHE_URL,
        "OPTIONS": {
            "IGNORE_EXCEPTIONS": True,
            "SOCKET_TIMEOUT": 2,
            "SOCKET_CONNECT_TIMEOUT": 2,
        },
    }
}
DJANGO_REDIS_LOG_IGNORED_EXCEPTIONS = True

# --- applications ------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "config.admin.FareboxAdminConfig",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "drf_standardized_errors",
    "csp",
    "django_htmx",
    "template_partials",
    "django_structlog",
    "djstripe",
    "core",
    "accounts",
    "plans",
    "keys",
    "metering",
    "billing",
    "dashboard",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "core.middleware.RequestIdMiddleware",
    "core.middleware.HealthMiddleware",
    "csp.middleware.CSPMiddleware",
    "django_permissions_policy.PermissionsPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "core.middleware.ErrorMiddleware",
    "django_ratelimit.middleware.RatelimitMiddleware",
    "dashboard.middleware.TimeZoneMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "dashboard.context.shell",
            ],
        },
    }
]
FORM_RENDERER = "django.forms.renderers.DjangoTemplates"

# --- accounts ----------------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["accounts.backends.AuthenticationBackend"]
# The same unconfirmed address may stand on several accounts; the backend above knows (it says why).
# dj-stripe wants the webhook's secret in its table; ours stays in the environment (billing/stripe/webhooks.py). A
# STRIPE_API_HOST that is not a stand-in's is refused below.
SILENCED_SYSTEM_CHECKS = ["auth.W004", "djstripe.W002", "djstripe.W005", "djstripe.I006"]
ACCOUNT_PREVENT_ENUMERATION = "strict"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
    )
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "dashboard:usage"
LOGOUT_REDIRECT_URL = "dashboard:landing"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "optional"  # the test key works at once; the live key waits for the confirmation
ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS = False
ACCOUNT_CONFIRM_EMAIL_ON_GET = False
ACCOUNT_LOGIN_ON_EMAIL_CONFIRMATION = False
ACCOUNT_REAUTHENTICATION_TIMEOUT = 900
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_ADAPTER = "dashboard.adapter.AccountAdapter"
CSRF_FAILURE_VIEW = "dashboard.views.errors.csrf_failure"
ACCOUNT_FORMS = {"signup": "dashboard.forms.signup.SignupForm"}
ACCOUNT_RATE_LIMITS = {
    "login_failed": "10/m/ip,5/5m/key",
    "reset_password": "20/m/ip,5/m/key",
}
ALLAUTH_TRUSTED_PROXY_COUNT = env.int("TRUSTED_PROXY_COUNT", default=0)
INVITATION_DAYS = 7
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_TOTP_ISSUER = BRAND_NAME
MFA_ADAPTER = "accounts.mfa_adapter.MFAAdapter"
SIGN_UP_RATE = env.str("FAREBOX_SIGN_UP_RATE", default="10/h")  # from one address

# --- tokens of staff at the owner's API (docs/owner-api.md) ---
# Comma-separated, newest first: the first signs, all are accepted. Empty: made from SECRET_KEY.
JWT_KEYS: list[str] = env.list("FAREBOX_JWT_KEYS", default=[])
JWT_ACCESS = timedelta(minutes=env.int("FAREBOX_JWT_ACCESS_MINUTES", default=10))
JWT_SESSION = timedelta(hours=env.int("FAREBOX_JWT_SESSION_HOURS", default=12))

# --- mail --------------------------------------------------------------------------------------------------------
# FAREBOX_MAILBOX=1 keeps mails in the database and shows them on /mailbox/ (development and demo only).
MAILBOX = env.bool("FAREBOX_MAILBOX", default=DEBUG)
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="Farebox <farebox@localhost>")
SERVER_EMAIL = DEFAULT_FROM_EMAIL
EMAIL_TIMEOUT = 10
if MAILBOX:
    EMAIL_BACKEND = "dashboard.mailbox.MailboxBackend"
else:
    vars().update(env.email_url("EMAIL_URL", default="smtp://localhost:25"))

# --- API ---------------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "core.api_errors.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "NUM_PROXIES": ALLAUTH_TRUSTED_PROXY_COUNT,
}
DRF_STANDARDIZED_ERRORS = {"EXCEPTION_FORMATTER_CLASS": "core.api_errors.ProblemFormatter"}
SPECTACULAR_SETTINGS = {
    "TITLE": "Farebox API",
    "DESCRIPTION": "Keys, usage and accounts. Errors are RFC 9457 problem documents.",
    "VERSION": "0.1.0",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "gateway.schema.add_gateway"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {  # one name for each set of choices of a field named "kind", "state" or "status"
        "AlertKind": "metering.models.AlertKind",
        "DocumentKind": "billing.models.StatementKind",
        "DocumentState": ["draft", "finalised", "void"],
        "KeyState": ["active", "rotating", "expired", "revoked"],
        "TenantStatus": ["active", "disabled"],
        "VerdictStatus": ["accepted", "duplicate", "rejected"],
    },
}
MAX_TRACK_EVENTS = 1_000
# /api/v1/places/: endpoints of our own over the sample's data, for the demo and the tests.
SAMPLE_API = env.bool("FAREBOX_SAMPLE_API", default=False)
DATA_UPLOAD_MAX_MEMORY_SIZE = 5 * 1024 * 1024
# Events reported later than this are refused at the door; their period has long been billed.
TRACK_OLDEST_DAYS = env.int("FAREBOX_TRACK_OLDEST_DAYS", default=100)
TRACK_AHEAD_SECONDS = 300

# --- metering ----------------------------------------------------------------------------------------------------
RECORD_SECONDS = 60  # a worker trusts its copy of a key's record this long (ENGINE.md, section 8)
RESERVATION_SECONDS = 60
# Price lists in this currency are shown first; without a choice they are the ones on sale.
DEFAULT_CURRENCY = env.str("FAREBOX_DEFAULT_CURRENCY", default="USD")
# Sums over several currencies are shown in this one too, by the dated exchange rates of the admin; nothing is charged in it.
REPORTING_CURRENCY = env.str("FAREBOX_REPORTING_CURRENCY", default="") or DEFAULT_CURRENCY
# A plan that sells below so many times what its calls cost is warned of.
COST_MARGIN_FACTOR = env.int("FAREBOX_COST_MARGIN_FACTOR", default=3)
PAST_DUE_GRACE_DAYS = env.int("FAREBOX_PAST_DUE_GRACE_DAYS", default=7)
TEST_MODE_PLAN = "free"  # test keys run at this plan's limits
GATEWAY_LOG_CALLS = env.bool(
    "FAREBOX_LOG_CALLS", default=False
)  # a line for every call, not only for failed ones
# Answers kept for retries with an Idempotency-Key, in CACHE_URL: the longest, and bytes as stored, of an organization and of all.
REPLAY_ANSWER_BYTES = env.int("FAREBOX_REPLAY_ANSWER_BYTES", default=4 * 1024 * 1024)
REPLAY_ORGANIZATION_BYTES = env.int("FAREBOX_REPLAY_ORGANIZATION_BYTES", default=16 * 1024 * 1024)
REPLAY_TOTAL_BYTES = env.int("FAREBOX_REPLAY_TOTAL_BYTES", default=128 * 1024 * 1024)
UPSTREAM_ALLOW_PRIVATE = env.bool("FAREBOX_UPSTREAM_ALLOW_PRIVATE", default=True)
# PEM files: an authority of one's own for upstreams over TLS (beside the system's), and what is shown to those that ask.
UPSTREAM_CA_FILE = env.str("UPSTREAM_CA_FILE", default="")
UPSTREAM_CLIENT_CERT_FILE = env.str("UPSTREAM_CLIENT_CERT_FILE", default="")
UPSTREAM_CLIENT_KEY_FILE = env.str("UPSTREAM_CLIENT_KEY_FILE", default="")
# From the head of an upstream's answer to its end; 0: as long as pieces of it come in their route's time.
UPSTREAM_LONGEST_ANSWER_SECONDS = env.int("UPSTREAM_LONGEST_ANSWER_SECONDS", default=0)
# Where fewer of several upstream servers are well, per cent, all are asked: those left would not stand all calls.
UPSTREAM_PANIC_PERCENT = env.int("UPSTREAM_PANIC_PERCENT", default=50)
# Servers of language models that have none of their own in the admin: base address with its version, and key.
UPSTREAM_OPENAI_BASE_URL = env.str("UPSTREAM_OPENAI_BASE_URL", default="")
UPSTREAM_OPENAI_API_KEY = env.str("UPSTREAM_OPENAI_API_KEY", default="")
UPSTREAM_ANTHROPIC_BASE_URL = env.str("UPSTREAM_ANTHROPIC_BASE_URL", default="")
UPSTREAM_ANTHROPIC_API_KEY = env.str("UPSTREAM_ANTHROPIC_API_KEY", default="")
WEBHOOK_ALLOW_PRIVATE = env.bool("FAREBOX_WEBHOOK_ALLOW_PRIVATE", default=False)

# --- other gateways (docs/forward-auth.md) ------------------------------------------------------------------------
# Addresses and networks of gateways that may ask for their clients; empty: none.
FORWARD_AUTH_FROM: list[str] = env.list("FAREBOX_FORWARD_AUTH_FROM", default=[])
# A call whose end was to be reported and was not within so many seconds is billed, or free.
FORWARD_AUTH_REPORT_SECONDS = env.int("FAREBOX_FORWARD_AUTH_REPORT_SECONDS", default=300)
FORWARD_AUTH_UNREPORTED = env.str("FAREBOX_FORWARD_AUTH_UNREPORTED", default="billed")
for _network in FORWARD_AUTH_FROM:
    try:
        ip_network(_network, strict=False)
    except ValueError as error:
        raise ImproperlyConfigured(f"FAREBOX_FORWARD_AUTH_FROM: {error}.") from error
if not 1 <= FORWARD_AUTH_REPORT_SECONDS <= 540 or FORWARD_AUTH_UNREPORTED not in ("billed", "free"):
    raise ImproperlyConfigured(
        "FAREBOX_FORWARD_AUTH_REPORT_SECONDS is 1 to 540, FAREBOX_FORWARD_AUTH_UNREPORTED is billed or free."
    )

# Connections of WebSockets that are billed by message are settled every so many seconds; those in which nothing is said for so
# long are closed.
WEBSOCKET_PART_SECONDS = env.int("FAREBOX_WEBSOCKET_PART_SECONDS", default=300)
WEBSOCKET_IDLE_SECONDS = env.int("FAREBOX_WEBSOCKET_IDLE_SECONDS", default=600)
if not 1 <= WEBSOCKET_PART_SECONDS <= 1800 or WEBSOCKET_IDLE_SECONDS < 1:
    raise ImproperlyConfigured(
        "FAREBOX_WEBSOCKET_PART_SECONDS is 1 to 1800, FAREBOX_WEBSOCKET_IDLE_SECONDS at least 1."
    )

# --- billing -----------------------------------------------------------------------------------------------------
# A statement is final this long after its period's end: usage that comes later is billed with the next one.
STATEMENT_GRACE_MINUTES: int = env.int("FAREBOX_STATEMENT_GRACE_MINUTES", default=45)
INVOICE_DUE_DAYS: int = env.int("FAREBOX_INVOICE_DUE_DAYS", default=14)
# Printed on invoices: who bills (name, address, tax number) and how to pay (bank account); `|` starts a new line.
INVOICE_ISSUER = env.str("FAREBOX_INVOICE_ISSUER", default=BRAND_NAME).replace("|", "\n")
INVOICE_PAY_TO = env.str("FAREBOX_INVOICE_PAY_TO", default="").replace("|", "\n")

# --- Stripe (docs/stripe.md) -------------------------------------------------------------------------------------
# Without a key nothing is asked of Stripe: free plans and collection by hand work.
STRIPE_SECRET_KEY: str = env.str("STRIPE_SECRET_KEY", default="")
STRIPE_WEBHOOK_SECRET: str = env.str("STRIPE_WEBHOOK_SECRET", default="")
STRIPE_THIN_WEBHOOK_SECRET: str = env.str("STRIPE_THIN_WEBHOOK_SECRET", default="")
if STRIPE_SECRET_KEY and not STRIPE_WEBHOOK_SECRET:
    raise ImproperlyConfigured("STRIPE_SECRET_KEY is set and STRIPE_WEBHOOK_SECRET is not (docs/stripe.md).")
STRIPE_API_VERSION = "2026-05-27.dahlia"
STRIPE_LIVE_MODE = STRIPE_SECRET_KEY.startswith(("sk_live_", "rk_live_"))
STRIPE_LIVE_SECRET_KEY = STRIPE_SECRET_KEY if STRIPE_LIVE_MODE else ""
STRIPE_TEST_SECRET_KEY = "" if STRIPE_LIVE_MODE else STRIPE_SECRET_KEY
if stripe_api_host := env.str(
    "STRIPE_API_HOST", default=""
):  # a stand-in: read once, when dj-stripe is imported
    STRIPE_API_HOST = stripe_api_host
    if STRIPE_LIVE_MODE or urlsplit(STRIPE_API_HOST).hostname not in ("127.0.0.1", "localhost", "::1"):
        raise ImproperlyConfigured("STRIPE_API_HOST is for a stand-in on this machine, with a test key only.")
STRIPE_PAGES = (
    [STRIPE_API_HOST]
    if stripe_api_host
    else ["https://checkout.stripe.com", "https://billing.stripe.com", "https://invoice.stripe.com"]
    if STRIPE_SECRET_KEY
    else []
)
DJSTRIPE_FOREIGN_KEY_TO_FIELD = "id"
DJSTRIPE_SUBSCRIBER_MODEL = "accounts.Organization"
# Usage is told by so many calls a second, on so many connections at once (docs/stripe.md, "Usage").
STRIPE_USAGE_CALLS_PER_SECOND: int = env.int("FAREBOX_STRIPE_USAGE_CALLS_PER_SECOND", default=100)
STRIPE_USAGE_CONCURRENCY: int = env.int("FAREBOX_STRIPE_USAGE_CONCURRENCY", default=16)
# Whether a trial begins only with a card.
STRIPE_TRIAL_NEEDS_CARD = env.bool("FAREBOX_TRIAL_NEEDS_CARD", default=False)

# --- Celery ------------------------------------------------------------------------------------------------------
CELERY_BROKER_URL = BROKER_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_TIME_LIMIT = 600
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 3600,
    "socket_timeout": 5,
    "socket_connect_timeout": 5,
    # Who sends a task learns within milliseconds that the broker is gone; by default after 6 s.
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.1,
}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULE_FILENAME = str(VAR_DIR / "beat-schedule")

# --- time, language, static files --------------------------------------------------------------------------------
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
USE_THOUSAND_SEPARATOR = False
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = Path(env.str("STATIC_ROOT", default=str(BASE_DIR / "staticfiles")))
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": env.str("STATICFILES_BACKEND", default="core.static.FareboxStaticStorage")},
}
WHITENOISE_USE_FINDERS = DEBUG

# --- security ----------------------------------------------------------------------------------------------------
# Plain http is for one machine only: the demo and development set HTTPS_ONLY=0.
HTTPS_ONLY = env.bool("HTTPS_ONLY", default=not DEBUG)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS_ONLY
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_SSL_REDIRECT = HTTPS_ONLY
SECURE_REDIRECT_EXEMPT = [r"^livez$", r"^readyz$"]
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS_ONLY else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS_ONLY
SECURE_REFERRER_POLICY = "same-origin"
if env.int("TRUSTED_PROXY_COUNT", default=0):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        # Chromium holds this against redirects too: forms of ours lead on to Stripe's pages.
        "form-action": [SELF, *STRIPE_PAGES],
    }
}
PERMISSIONS_POLICY: dict[str, list[str]] = {
    name: []
    for name in (
        "camera",
        "geolocation",
        "microphone",
        "payment",
        "usb",
        "display-capture",
    )
}
RATELIMIT_FAIL_OPEN = True  # a dead cache must not lock everybody out of the portal
RATELIMIT_VIEW = "dashboard.views.errors.too_many_requests"

# --- logs --------------------------------------------------------------------------------------------------------
LOG_LEVEL = env.str("LOG_LEVEL", default="INFO")
DJANGO_STRUCTLOG_TRUST_UPSTREAM_REQUEST_ID = True  # RequestIdMiddleware puts ours in place of a client's
LOG_FORMAT = env.str("LOG_FORMAT", default="json")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "structured": {
            "()": structlog.stdlib.ProcessorFormatter,
            "processors": [
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer()
                if LOG_FORMAT == "json"
                else structlog.dev.ConsoleRenderer(colors=False),
            ],
            "foreign_pre_chain": [
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                redact_links,
            ],
        }
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "structured"}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"handlers": ["console"], "level": LOG_LEVEL, "propagate": False},
        "django.request": {"level": "ERROR"},
        "celery": {"level": "WARNING"},
        "stripe": {
            "level": "WARNING"
        },  # two lines for each request otherwise, also on the terminal of commands
    },
}
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.filter_by_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.format_exc_info,
        redact_links,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)
