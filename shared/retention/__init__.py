"""Retention: the rules, their judgement of each thing in the bucket, and the removal in two steps."""
