"""The search for the best parameters: candidates tried on folds, round by round."""
