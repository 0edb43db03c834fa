"""Makes the package's table in DATABASE_URL and prints a key."""

import os

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.peer.settings"
django.setup()

from django.core.management import call_command  # noqa: E402
from rest_framework_api_key.models import APIKey  # noqa: E402

call_command("migrate", "rest_framework_api_key", verbosity=0)
print(APIKey.objects.create_key(name="bench")[1])
