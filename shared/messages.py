"""What travels over the queue and what a job folder says of the request: frozen, JSON, with a format number.

Only ids, numbers and paths inside the bucket are in a message, never rows. ``decode`` checks everything once; what it returns
is trusted afterwards. A changed meaning of a field gets a new format number, and the old golden files must still decode.
"""

import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from shared.errors import MessageError

FORMAT = 1
"""The one format there is; every record carries it."""
MAX_MESSAGE_BYTES = 64 * 1024
"""No message or job file is longer; what is longer is refused unread."""

_NOT_TEXT = re.compile(r"[\x00-\x1f\x7f]")
"""Control characters."""
_NOT_UTF8 = re.compile(r"[\ud800-\udfff]")
"""What Python reads for the bytes of a file name that are not UTF-8."""


def check_bucket_path(path: str) -> str:
    """Return the path if it stays inside the bucket: relative, no ``..``, nothing that is not text; else raise ValueError."""
    parts = path.split("/")
    if not path or path.startswith("/") or "://" in path or "\\" in path:
        raise ValueError("must be a path inside the bucket, like data/predict/input/2026/11/23")
    if _NOT_UTF8.search(path):
        raise ValueError("must be UTF-8: rename the file or folder")
    if any(part in ("", ".", "..") for part in parts) or _NOT_TEXT.search(path):
        raise ValueError("must not hold empty parts, '.', '..' or control characters")
    if any(len(part.encode()) > 255 for part in parts):
        raise ValueError("must not hold a name of more than 255 bytes")
    return path


MAX_FILE_NAME_BYTES = 200
"""An object store keeps a file of a release under its name and the first characters of its digest: together they stay below 255."""


def check_file_name(name: str) -> str:
    """Return the name if it is that of one file and no way to another folder; else raise ValueError."""
    if name in ("", ".", "..") or "/" in name or "\\" in name or _NOT_TEXT.search(name):
        raise ValueError("must be the name of a file: no '/', no '\\', no control characters, not '.' or '..'")
    if len(name.encode()) > MAX_FILE_NAME_BYTES:
        raise ValueError(f"must not be longer than {MAX_FILE_NAME_BYTES} bytes")
    return name


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("must name its time zone")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("must lie between the years 1 and 9999") from None


JobId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{2,99}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
ReleaseId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}@[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}$")]
ModelRef = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}(@[A-Za-z0-9-]{1,40})?$")]
BucketPath = Annotated[str, StringConstraints(max_length=1000), AfterValidator(check_bucket_path)]
FileName = Annotated[str, AfterValidator(check_file_name)]
Moment = Annotated[datetime, AfterValidator(_aware)]
Promote = Literal["never", "auto", "always"]
"""Whether a training lets ``champion`` mean its release: not at all, if it is better beyond chance, or in any case."""
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
MAX_LEFT_OUT = 0.01
"""A training table is refused if a larger share of its rows, or of its clicks, cannot be used, unless the request says another."""
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


def is_release_id(ref: str) -> bool:
    """True for the full id of one release (``v1@20261123T101500Z-9bfad3``), False for a definition or alias."""
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,63}@[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}", ref) is not None


class Record(BaseModel):
    """A frozen, closed JSON object with a format number: the parent of everything that is sent or kept."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1

    def encode(self) -> dict[str, Any]:
        """The JSON object, as plain Python values."""
        return self.model_dump(mode="json")

    def to_json(self) -> bytes:
        """The JSON text, indented for people who look into the bucket."""
        return self.model_dump_json(indent=1).encode()

    @classmethod
    def decode(cls, data: object) -> Self:
        """Check a JSON object that came off the queue.

        Raises:
            MessageError: it is not what this class describes; the sentence names the field.
        """
        return decode(cls, data)


class JobOrder(Record):
    """Do one step of a job: plan, fit, finish or notify, by the name of the task."""

    job_id: JobId


Place = Annotated[int, Field(ge=0, lt=1 << 62)]


class ChunkOrder(JobOrder):
    """Score one chunk of a job's plan; ``of`` is how many there are, 0 while that is not known."""

    index: Annotated[int, Field(ge=0, lt=10_000_000)]
    cut: tuple[Place, Place, Place, Annotated[int, Field(ge=1, lt=1 << 62)]] | None = None
    """File, start, end and first line of a chunk that is sent before the plan is written."""
    of: Annotated[int, Field(ge=0, le=10_000_000)]

    @field_validator("of")
    @classmethod
    def _counted_unless_cut(cls, of: int, known: ValidationInfo) -> int:
        if (of == 0) != (known.data.get("cut") is not None):
            raise ValueError("must be above 0, or 0 for a chunk that is sent before the plan")
        return of

    def encode(self) -> dict[str, Any]:
        # without what is not said: workers of an earlier version know no cut
        return self.model_dump(mode="json", exclude_none=True)


class CandidateOrder(JobOrder):
    """Try one candidate of a search on one fold; both are counted from 1, and what they are lies in the job's folder."""

    candidate: Annotated[int, Field(ge=1, le=1_000_000)]
    fold: Annotated[int, Field(ge=1, le=1000)]


class ScoreJob(Record):
    """The request to score a table with a model."""

    kind: Literal["score"] = "score"
    job_id: JobId
    created: Moment
    model: ModelRef
    table: BucketPath
    place: BucketPath
    """Where under ``data/predict/output/<definition>/`` the result goes, for example ``2026/11/23``."""
    chunk_rows: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    max_reject_share: Share = 0.01
    max_rejects: Annotated[int, Field(ge=0, le=1_000_000_000_000)] | None = None
    fixes: JobId | None = None
    """The job whose rejects the fixed rows take the place of."""
    fixed_rows: BucketPath | None = None
    interval: Annotated[bool, Field(exclude_if=lambda wanted: not wanted)] = False
    """True to write ``cr_low`` and ``cr_high`` as well; workers of an earlier version know no such field, so it is said only then."""

    @model_validator(mode="after")
    def _fixes_with_rows(self) -> Self:
        if (self.fixes is None) != (self.fixed_rows is None):
            raise ValueError("fixes and fixed_rows belong together")
        return self


class TrainJob(Record):
    """The request to train a definition on a table and to judge it on another."""

    kind: Literal["train"] = "train"
    job_id: JobId
    created: Moment
    definition: Name
    train: BucketPath
    eval: BucketPath | None = None
    alias: Name | None = None
    """Name to point at the release when it is published, beside ``latest``."""
    # left out where it says nothing: workers of an earlier version do not know it
    promote: Annotated[Promote, Field(exclude_if=lambda promote: promote == "never")] = "never"
    force: Annotated[bool, Field(exclude_if=lambda force: not force)] = False
    """True to train on a table from which nothing good is likely to be learned; the release says so."""
    max_left_out: Annotated[Share, Field(exclude_if=lambda share: share == MAX_LEFT_OUT)] = MAX_LEFT_OUT
    """Share of the rows, or of the clicks, of a table that may be left out."""

    @model_validator(mode="after")
    def _one_way_to_the_champion(self) -> Self:
        if self.promote != "never" and self.alias == "champion":
            raise ValueError("champion is set either in any case (alias) or by the gate (promote), not by both")
        return self

    config: Annotated[BucketPath | None, Field(exclude_if=lambda path: path is None)] = None
    """``params.yaml`` of the search for the best parameters, if one is asked for; workers of an earlier version know of none."""


Job = ScoreJob | TrainJob


class Notice(Record):
    """What people are told, above all when a job has reached a final state."""

    job_id: JobId | None = None
    """None for what is about no job."""
    good: bool
    title: str
    facts: dict[str, str]
    next_step: str = ""


AnyRecord = TypeVar("AnyRecord", bound=Record)


def decode(kind: type[AnyRecord], data: object) -> AnyRecord:
    """Check ``data`` (a JSON object, or its text as bytes) and return it as ``kind``.

    Raises:
        MessageError: too long, not JSON, of another format number, or a field is wrong; one sentence names it.
    """
    what = kind.__name__
    try:
        text = data if isinstance(data, bytes) else json.dumps(data).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise MessageError(f"a {what} message is not JSON: {error}") from None
    if len(text) > MAX_MESSAGE_BYTES:
        raise MessageError(f"a {what} message is {len(text):,} bytes long, more than the {MAX_MESSAGE_BYTES:,} allowed")
    return decode_long(kind, text)


def decode_long(kind: type[AnyRecord], text: bytes) -> AnyRecord:
    """Like ``decode`` for the files that may be long (plans, manifests), given as JSON text."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise MessageError(_sentence(kind.__name__, error)) from None


def decode_job(text: bytes) -> Job:
    """Read ``job.json``.

    Raises:
        MessageError: it is neither a ScoreJob nor a TrainJob that this version knows.
    """
    try:
        raw = json.loads(text) if len(text) <= MAX_MESSAGE_BYTES else {}
    except (ValueError, RecursionError):
        raw = {}
    kind = raw.get("kind") if isinstance(raw, dict) else None
    if kind == "train":
        return decode(TrainJob, text)
    return decode(ScoreJob, text)


def _sentence(what: str, error: ValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(str(step) for step in first["loc"]) or "text"
    if field == "format":
        return f"a {what} has format {first['input']!r} but this version reads format {FORMAT}; upgrade the older side"
    why = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"a {what} has a wrong {field}: {why}; this version knows no such field, a later one may have written it"
    if first["type"] == "json_invalid" and not first["input"]:
        return f"a {what} has a wrong {field}: it is empty"
    if first["type"] == "value_error" and not first["loc"]:
        return f"a {what} contradicts itself: {why}"
    shown = repr(first["input"])
    return f"a {what} has a wrong {field}: {why} (got {shown if len(shown) <= 80 else shown[:77] + '...'})"
