"""Retries of clients: a request with the same `Idempotency-Key` is carried out and billed once (docs/idempotency.md)."""
