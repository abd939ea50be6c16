"""What Celery and kombu leave to do in the process of a worker."""
