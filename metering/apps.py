from django.apps import AppConfig


class MeteringConfig(AppConfig):
    name = "metering"

    def ready(self) -> None:
        import metering.schema  # noqa: F401  # its classes register themselves
