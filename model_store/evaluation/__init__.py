"""Evaluation of a release: metrics, comparison with other predictors, and the promotion gate."""
