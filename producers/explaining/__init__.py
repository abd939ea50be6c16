"""Explains rates: chooses the results to compare, and asks a worker."""
