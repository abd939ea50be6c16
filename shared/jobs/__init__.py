"""A job: its request, its folder, the messages of its steps, and the notices about it."""
