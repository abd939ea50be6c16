"""Score jobs: planning, scoring chunk by chunk, joining and publishing. Knows nothing of the queue."""
