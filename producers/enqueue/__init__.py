"""The one entrance to the queue: requests are checked, written down as jobs, and sent."""
