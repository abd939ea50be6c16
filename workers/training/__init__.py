"""Train jobs: fitting, evaluating, and publishing a release. Knows nothing of the queue."""
