from django.apps import AppConfig


class BillingConfig(AppConfig):
    name = "billing"

    def ready(self) -> None:
        import stripe
        from django.conf import settings

        from billing.reconcile import statement_differences  # models are loaded by now
        from billing.stripe import events
        from metering.reconcile import MORE_CHECKS

        if statement_differences not in MORE_CHECKS:
            MORE_CHECKS.append(statement_differences)

        stripe.api_version = settings.STRIPE_API_VERSION  # also of dj-stripe's own requests
        events.connect()
