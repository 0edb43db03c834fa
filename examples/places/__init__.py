"""Places: a small API over the GeoNames cities (more than 15,000 inhabitants) and over text. Knows nothing of Farebox."""
