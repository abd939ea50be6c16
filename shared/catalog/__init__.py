"""Releases, results and aliases: read from the bucket, listed and verified."""
