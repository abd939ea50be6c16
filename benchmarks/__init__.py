"""Speed and memory, side by side with other ways of doing the same job: ``python -m benchmarks``."""
