"""A notice with an identity, by which a receiver recognizes a second delivery."""

from datetime import datetime
from typing import Self

from shared.jobs.messages import Notice


class IdentifiedNotice(Notice):
    """A notice with the identity of what it reports, which is the same in every try to deliver it. Never written to the bucket."""

    id: str
    """Unique for what the notice reports, for example one end of one job."""
    at: datetime
    """When it happened."""

    @classmethod
    def of(cls, notice: Notice, *, id: str, at: datetime) -> Self:
        """Returns the notice with its identity."""
        return cls(**{name: getattr(notice, name) for name in Notice.model_fields}, id=id, at=at)
