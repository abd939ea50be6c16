"""Published results: finds them, compares them with their jobs, and reads their rejected rows."""
