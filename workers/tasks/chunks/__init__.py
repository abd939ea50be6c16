"""Chunk tasks of a score job: sending chunks, scoring after crashes, loading a release alone, and recording progress."""
