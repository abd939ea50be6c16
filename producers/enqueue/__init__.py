"""The one entrance to the queue: checks requests, records them as jobs, and sends them."""
