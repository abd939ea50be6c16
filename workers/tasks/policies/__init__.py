"""The policies of a step, one a file: lease, crashes, retry, time limit and failure."""
