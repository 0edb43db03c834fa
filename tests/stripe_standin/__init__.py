"""The stand-in for Stripe, driven by the real client over real HTTP and judged by Stripe's own document."""
