"""What is known of releases, results and names: read from the bucket, listed and verified."""
