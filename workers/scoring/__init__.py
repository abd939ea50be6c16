"""A score job: planned, scored chunk by chunk, joined and published. Knows no queue."""
