"""Scheduled jobs: config/schedule.yaml, and beat, which runs it."""
