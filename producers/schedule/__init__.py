"""Jobs that are asked for again and again: config/schedule.yaml, and beat, which keeps it."""
