"""Prints jobs, releases and results in a terminal, and as JSON."""
