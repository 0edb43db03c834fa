"""Static files under hashed names, compressed."""

from whitenoise.storage import CompressedManifestStaticFilesStorage


class FareboxStaticStorage(CompressedManifestStaticFilesStorage):
    """Names what the manifest lacks as it is: a missing picture must not turn a page into an error."""

    manifest_strict = False
