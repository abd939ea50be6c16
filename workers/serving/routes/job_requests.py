"""The bodies of requests about jobs."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.jobs.messages import REJECT_SHARE
from shared.records import Share

Path = Annotated[str, Field(min_length=1, max_length=1000)]
Word = Annotated[str, Field(min_length=1, max_length=200)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    again: bool = False


class ScoreAsked(_Asked):
    """A request to score a table of the bucket."""

    kind: Literal["score"]
    table: Path
    model: Word
    channel: Word | None = None
    chunk_rows: int | None = None
    max_reject_share: Share = REJECT_SHARE
    max_rejects: int | None = None
    interval: bool = False


class TrainAsked(_Asked):
    """A request to train a definition on tables of the bucket."""

    kind: Literal["train"]
    definition: Word
    train: Path | None = None
    eval: Path | None = None
    alias: Word | None = None
    promote: Literal["never", "auto", "always"] = "never"
    config: Path | None = None
    force: bool = False
    max_left_out: Share | None = None


class DecisionAsked(BaseModel):
    """A decision about a held result."""

    model_config = ConfigDict(extra="forbid", strict=True)
    reason: Annotated[str, Field(min_length=1, max_length=500)]
