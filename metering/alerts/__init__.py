"""Alerts: what fires and recovers (evaluate), what that does (services), who is told (notices, delivery)."""
