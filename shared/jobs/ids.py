"""Job ids, which start with the time of the request."""

from datetime import UTC, datetime, timedelta

ABANDONED_AFTER = timedelta(days=1)
"""After this time without a write, no process is still writing."""


def time_of_job(job_id: str) -> datetime | None:
    """The time at the start of a job id; None when the text is not a job id."""
    try:
        return datetime.strptime(job_id[:15], "%Y%m%dt%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
