"""The endpoint that two guards protect, for benchmarks/bench.py."""
