"""The Celery tasks: doors, and the runner that decodes, counts, retries and fails."""
