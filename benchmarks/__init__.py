"""Benchmarks of speed and memory against other ways of doing the same job: ``python -m benchmarks``."""
