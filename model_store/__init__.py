"""Model definitions, releases and their evaluation. Knows nothing of the queue, its producers or its workers."""
