"""Messages of the queue and requests of jobs: frozen JSON records with a format number.

A message holds ids, numbers and paths inside the bucket, never rows. ``decode`` checks it once, and its result is trusted afterwards. A
field that changes its meaning gets a new format number, and the old golden files must still decode.
"""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from shared.records import MAX_MESSAGE_BYTES, BucketPath, JobId, ModelRef, Name, Promote, Record, Share, Timestamp, decode

MAX_LEFT_OUT = 0.01
"""The largest share of rows, or of clicks, of a training table that may be unusable, unless the request sets another."""


REJECT_SHARE = 0.01
"""The largest share of rejected rows, unless the request sets another."""


class StepMessage(Record):
    """Asks for one step of a job: plan, fit, finish or notify, by the name of the task."""

    job_id: JobId

    @property
    def piece(self) -> dict[str, int]:
        """The numbers of the piece of the job, as log lines name them; empty for a step of the whole job."""
        return {}

    @property
    def piece_name(self) -> str:
        """The piece as one text, such as ``7`` or ``3.2``; empty for a step of the whole job."""
        return ".".join(map(str, self.piece.values()))


Offset = Annotated[int, Field(ge=0, lt=1 << 62)]


class ChunkMessage(StepMessage):
    """Asks to score one chunk of a job's plan; ``of`` is the number of chunks, 0 while it is unknown."""

    index: Annotated[int, Field(ge=0, lt=10_000_000)]
    cut: tuple[Offset, Offset, Offset, Annotated[int, Field(ge=1, lt=1 << 62)]] | None = None
    """File, start, end and first line of a chunk that is sent before the plan is written."""
    of: Annotated[int, Field(ge=0, le=10_000_000)]

    @field_validator("of")
    @classmethod
    def _counted_unless_cut(cls, of: int, known: ValidationInfo) -> int:
        if (of == 0) != (known.data.get("cut") is not None):
            raise ValueError("must be above 0, or 0 for a chunk that is sent before the plan")
        return of

    @property
    def piece(self) -> dict[str, int]:
        return {"chunk": self.index}

    def encode(self) -> dict[str, Any]:
        # without fields that are not set: workers of an earlier version do not know ``cut``
        return self.model_dump(mode="json", exclude_none=True)


class CandidateMessage(StepMessage):
    """Asks to evaluate one candidate of a search on one fold; both count from 1 and are described in the job's folder."""

    candidate: Annotated[int, Field(ge=1, le=1_000_000)]
    fold: Annotated[int, Field(ge=1, le=1000)]

    @property
    def piece(self) -> dict[str, int]:
        return {"candidate": self.candidate, "fold": self.fold}


class ScoreJob(Record):
    """The request to score a table with a model."""

    kind: Literal["score"] = "score"
    job_id: JobId
    created: Timestamp
    model: ModelRef
    table: BucketPath
    place: BucketPath
    """The path of the result below ``data/predict/output/<definition>/``, for example ``2026/11/23``."""
    chunk_rows: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    max_reject_share: Share = REJECT_SHARE
    max_rejects: Annotated[int, Field(ge=0, le=1_000_000_000_000)] | None = None
    fixes: JobId | None = None
    """The job whose rejects the fixed rows replace."""
    fixed_rows: BucketPath | None = None
    interval: Annotated[bool, Field(exclude_if=lambda wanted: not wanted)] = False
    """True to add ``cr_low`` and ``cr_high``. False is not written: workers of an earlier version do not know the field."""

    channel: Annotated[Name | None, Field(exclude_if=lambda name: name is None)] = None
    """The channel on which the result is published if the guard lets it pass."""
    guard_off: Annotated[str, Field(max_length=500, exclude_if=lambda reason: not reason)] = ""
    """Why the result is published on its channel whatever the guard finds; empty to obey the guard."""

    @model_validator(mode="after")
    def _guard_with_channel(self) -> Self:
        if self.guard_off and self.channel is None:
            raise ValueError("guard_off belongs to a channel")
        return self

    @model_validator(mode="after")
    def _fixes_with_rows(self) -> Self:
        if (self.fixes is None) != (self.fixed_rows is None):
            raise ValueError("fixes and fixed_rows belong together")
        return self


class TrainJob(Record):
    """The request to train a definition on a table and to evaluate it on another."""

    kind: Literal["train"] = "train"
    job_id: JobId
    created: Timestamp
    definition: Name
    train: BucketPath
    eval: BucketPath | None = None
    alias: Name | None = None
    """Alias that must point to the release when it is published, in addition to ``latest``."""
    # the default is not written: workers of an earlier version do not know the field
    promote: Annotated[Promote, Field(exclude_if=lambda promote: promote == "never")] = "never"
    force: Annotated[bool, Field(exclude_if=lambda force: not force)] = False
    """True to train on a table that is likely unfit; the release records it."""
    max_left_out: Annotated[Share, Field(exclude_if=lambda share: share == MAX_LEFT_OUT)] = MAX_LEFT_OUT
    """Share of the rows, or of the clicks, of a table that may be left out."""

    @model_validator(mode="after")
    def _one_way_to_the_champion(self) -> Self:
        if self.promote != "never" and self.alias == "champion":
            raise ValueError("champion is set either in any case (alias) or by the gate (promote), not by both")
        return self

    config: Annotated[BucketPath | None, Field(exclude_if=lambda path: path is None)] = None
    """``params.yaml`` of the requested parameter search, if any; workers of an earlier version do not know the field."""


Job = ScoreJob | TrainJob


class Notice(Record):
    """A message for people, usually that a job has reached a final state."""

    job_id: JobId | None = None
    """None for a notice that belongs to no job."""
    good: bool
    title: str
    facts: dict[str, str]
    next_step: str = ""


def decode_job(text: bytes) -> Job:
    """Reads ``job.json``.

    Raises:
        MessageError: the text is neither a ScoreJob nor a TrainJob of this version.
    """
    try:
        raw = json.loads(text) if len(text) <= MAX_MESSAGE_BYTES else {}
    except (ValueError, RecursionError):
        raw = {}
    kind = raw.get("kind") if isinstance(raw, dict) else None
    if kind == "train":
        return decode(TrainJob, text)
    return decode(ScoreJob, text)
