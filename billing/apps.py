from django.apps import AppConfig


class BillingConfig(AppConfig):
    name = "billing"

    def ready(self) -> None:
        import stripe
        from django.conf import settings

        from billing import checks  # noqa: F401  # registers itself
        from billing.accounts import account_changed
        from billing.reconcile import statement_differences  # models are loaded by now
        from billing.stripe import events
        from billing.stripe.catalogue_marks import stripe_marks
        from billing.stripe.findings import open_differences
        from billing.stripe.told import told_differences
        from billing.tasks import lay_out_later, tell_customer_later
        from metering.reconcile import MORE_CHECKS
        from plans.publishing import version_published
        from plans.staff_marks import MORE_MARKS

        stripe.api_version = settings.STRIPE_API_VERSION  # also of dj-stripe's own requests
        events.connect()
        account_changed.connect(tell_customer_later, dispatch_uid="stripe_customer")
        version_published.connect(lay_out_later, dispatch_uid="stripe_catalogue")
        for check in (statement_differences, told_differences, open_differences):
            if check not in MORE_CHECKS:
                MORE_CHECKS.append(check)
        if stripe_marks not in MORE_MARKS:
            MORE_MARKS.append(stripe_marks)
