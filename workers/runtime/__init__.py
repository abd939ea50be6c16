"""Adaptations of Celery and kombu in the process of a worker."""
