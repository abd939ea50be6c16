"""What ``scoring up`` does around its processes: checks before the start, environment, output and requests to stop."""
