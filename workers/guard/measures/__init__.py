"""What the checks need to know of two results, measured in one pass over their sorted indexes."""
