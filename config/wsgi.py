"""The portal, the API and the admin, served by gunicorn."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = get_wsgi_application()

from django.conf import settings  # noqa: E402 - after the settings are named
from django.urls import get_resolver  # noqa: E402

get_resolver().url_patterns  # noqa: B018 - views are imported now, not while the first request waits
if settings.SAMPLE_API:
    from examples.django_places.views import warm_up

    warm_up()
