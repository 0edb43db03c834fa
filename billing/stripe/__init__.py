"""Everything that knows Stripe: the catalogue, customers and Checkout, webhooks, usage, and the proof that both sides agree."""
