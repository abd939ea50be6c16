"""What both sides of the queue say to Redis."""
