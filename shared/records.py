"""Records: frozen JSON objects for every message and stored file, and the checked types of their fields.

A record holds only ids, numbers and paths inside the bucket. ``decode`` checks it once, and its result is trusted afterwards.
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
)

from shared.errors import MessageError

FORMAT = 1
"""The only format so far; every record carries it."""
MAX_MESSAGE_BYTES = 64 * 1024
"""The longest message or job file, in bytes; a longer one is refused unread."""

_NOT_TEXT = re.compile(r"[\x00-\x1f\x7f]")
"""Control characters."""
_NOT_UTF8 = re.compile(r"[\ud800-\udfff]")
"""Surrogates: Python's representation of bytes in a file name that are not UTF-8."""


def check_bucket_path(path: str) -> str:
    """Returns the path if it stays inside the bucket: relative, without ``..``, only text. Raises ValueError otherwise."""
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
"""An object store names a file of a release by the first characters of its digest and its name: together they stay below 255 bytes."""


def check_file_name(name: str) -> str:
    """Returns the name if it is a plain file name without a folder. Raises ValueError otherwise."""
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
_NAME = r"[A-Za-z][A-Za-z0-9_-]{0,63}"
Name = Annotated[str, StringConstraints(pattern=rf"^{_NAME}$")]
ReleaseId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}@[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}$")]
ModelRef = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}(@[A-Za-z0-9-]{1,40})?$")]
BucketPath = Annotated[str, StringConstraints(max_length=1000), AfterValidator(check_bucket_path)]
FileName = Annotated[str, AfterValidator(check_file_name)]
Timestamp = Annotated[datetime, AfterValidator(_aware)]
Promote = Literal["never", "auto", "always"]
"""When a training points ``champion`` to its release: never, if the release is better beyond chance, or always."""
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


def is_name(text: str) -> bool:
    """Returns True for a name, as of a definition, an alias or a channel: up to 64 letters, digits, ``-`` and ``_``, a letter first."""
    return re.fullmatch(_NAME, text) is not None


def is_release_id(ref: str) -> bool:
    """Returns True for the full id of a release (``v1@20261123T101500Z-9bfad3``), False for a definition or alias."""
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,63}@[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}", ref) is not None


class Record(BaseModel):
    """A frozen JSON object with a format number and no extra fields: the base of everything that is sent or stored."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1

    def encode(self) -> dict[str, Any]:
        """The JSON object, as plain Python values."""
        return self.model_dump(mode="json")

    def to_json(self) -> bytes:
        """The JSON text, indented for people who read the bucket."""
        return self.model_dump_json(indent=1).encode()

    @classmethod
    def decode(cls, data: object) -> Self:
        """Checks and returns a JSON object from the queue.

        Raises:
            MessageError: the object does not fit this class; the message names the field.
        """
        return decode(cls, data)


AnyRecord = TypeVar("AnyRecord", bound=Record)


def decode(kind: type[AnyRecord], data: object) -> AnyRecord:
    """Checks ``data`` (a JSON object, or its text as bytes) and returns it as ``kind``.

    Raises:
        MessageError: too long, not JSON, of another format number, or a wrong field; the message names it.
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
    """Like ``decode``, for JSON text of files that may be long (plans, manifests)."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else ""
        raise MessageError(_sentence(kind.__name__, error), field=field, value=first["input"]) from None


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


class Frozen(Record):
    """A frozen part of a manifest."""


class FileDigest(Frozen):
    """The size in bytes and the SHA-256 of a file."""

    sha256: Sha256
    size: Annotated[int, Field(ge=0)]
