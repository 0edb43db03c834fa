"""Farebox as it is deployed, with one endpoint of the bench behind the DRF door."""

from config.settings import *  # noqa: F403

ROOT_URLCONF = "benchmarks.door.urls"
