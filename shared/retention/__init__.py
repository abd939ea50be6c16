"""Retention: the rules, their assessment of each thing in the bucket, and the removal in two steps."""
