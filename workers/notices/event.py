"""A notice on its way to a webhook, with what a receiver needs to recognise a second delivery."""

from datetime import datetime
from typing import Self

from shared.jobs.messages import Notice


class Event(Notice):
    """A notice with the identity of what it reports; every try to deliver it carries the same identity. Never written to the bucket."""

    id: str
    """Unique for what the notice reports, for example one end of one job."""
    at: datetime
    """When it happened."""

    @classmethod
    def of(cls, notice: Notice, *, id: str, at: datetime) -> Self:
        """The notice with its identity."""
        return cls(**{name: getattr(notice, name) for name in Notice.model_fields}, id=id, at=at)
