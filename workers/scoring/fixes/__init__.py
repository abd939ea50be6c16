"""Scores a table with fixed rows in place of the rejects of another job."""
