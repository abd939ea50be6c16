"""What producers and workers agree on in Redis."""
