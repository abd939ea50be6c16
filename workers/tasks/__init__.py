"""The Celery tasks, which only call other modules, and the runner that decodes, counts, retries and fails."""
