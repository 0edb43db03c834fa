"""Farebox's settings with djangorestframework-api-key beside it and nothing around the endpoint: both guards run alike."""

from config.settings import *  # noqa: F403
from config.settings import DATABASES, INSTALLED_APPS, env

INSTALLED_APPS = [*INSTALLED_APPS, "rest_framework_api_key"]
ROOT_URLCONF = "benchmarks.peer.urls"
MIDDLEWARE = ["allauth.account.middleware.AccountMiddleware"]  # allauth refuses to start without it
# Farebox's own setting asks for a sign of life once a request that queries: one more round trip for the package, none for ours.
DATABASES["default"]["CONN_HEALTH_CHECKS"] = env.bool("BENCH_HEALTH_CHECKS", default=True)
