"""Published results: found, compared with their jobs, and their rejected rows."""
