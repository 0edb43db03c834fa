"""Units: a second sample API, written with the standard library alone (docs/your-api.md puts Farebox in front of it)."""
