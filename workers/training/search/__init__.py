"""The search for the best parameters: candidates are tried on folds, round by round."""
