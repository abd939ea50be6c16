"""The Celery workers: plan, score, train, notify and sweep."""
