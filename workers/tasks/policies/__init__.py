"""The policies of a step, one per file: lease, crashes, retry, time limit and failure."""
