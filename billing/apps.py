from django.apps import AppConfig


class BillingConfig(AppConfig):
    name = "billing"

    def ready(self) -> None:
        from billing.reconcile import statement_differences  # models are loaded by now
        from metering.reconcile import MORE_CHECKS

        if statement_differences not in MORE_CHECKS:
            MORE_CHECKS.append(statement_differences)
