"""The configuration of the guard, ``config/guard.yaml`` in the bucket, per channel; what it does not name has its default::

    live:
      mode: block
      checks:
        keys_lost: {warn: 2%, block: 10%, weight: clicks}
        same_table: {block: 50h}

A channel that the file does not name, and every channel without a file, has the defaults.
"""

import difflib
import hashlib
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError, WithJsonSchema

from shared.bucket.interface import Bucket
from shared.errors import PermanentError, RequestError
from shared.guard.checks import Checks, Closed
from shared.guard.limits import OFF, is_off
from shared.records import Name
from shared.text.durations import Length
from shared.text.field_errors import NO_MAPPING, UNKNOWN_FIELD, FieldError, field_errors
from shared.text.yaml_files import NotYamlError, read_yaml, shown

GUARD = "config/guard.yaml"
DEFAULTS = "defaults"
"""The source of a configuration without a file."""
MAX_BYTES = 64 * 1024
EXAMPLE = "live: {mode: block, checks: {rows: {warn: 5%, block: 10%}}}"


class GuardMode(StrEnum):
    """What the guard does with a result that a check blocks."""

    OFF = "off"
    """Nothing is checked."""
    WARN = "warn"
    """The result is published, and people are notified."""
    BLOCK = "block"
    """The result is held."""


class OnNewRelease(StrEnum):
    """How rates are compared when the release is not that of the base."""

    EXPECTED = "expected"
    """The difference between the two releases on unchanged rows is taken out first."""
    WIDER = "wider"
    """With limits three times as wide."""
    SAME = "same"
    """As always."""


Mode = Annotated[
    GuardMode,
    BeforeValidator(lambda value: OFF if is_off(value) else value),  # YAML 1.1 reads off as false
    WithJsonSchema({"enum": [*GuardMode, False]}),
    Field(description="off, warn or block"),
]


class ChannelGuard(Closed):
    """The guard of one channel."""

    mode: Mode = GuardMode.BLOCK
    """What happens to a result that a check blocks: nothing (off), a notice (warn), or it is held (block)."""
    hold_for: Annotated[
        Length, Field(ge=timedelta(minutes=1), description="a whole number with d, h, min or s, at least 1min, like 12h")
    ] = timedelta(hours=12)
    """How long a result is held until people are notified again."""
    checks: Checks = Checks()
    """The checks and their limits."""
    on_new_release: Annotated[OnNewRelease, Field(description="expected, wider or same")] = OnNewRelease.EXPECTED
    """How rates are compared when the release changed."""


Channels = dict[Name, ChannelGuard]
"""The whole file: channel -> its guard."""
_CHANNELS: TypeAdapter[Channels] = TypeAdapter(Channels)


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """The configuration of all channels, and which version of it this is."""

    channels: Channels = field(default_factory=dict)
    source: str = DEFAULTS
    """Path of the file, or ``defaults`` without one."""
    sha256: str | None = None
    """Digest of the text of the file."""

    def channel(self, name: str) -> ChannelGuard:
        """The guard of a channel; the defaults when the file does not name it."""
        return self.channels.get(name, ChannelGuard())


def read_guard_config(bucket: Bucket) -> GuardConfig:
    """Reads the configuration of this bucket.

    Raises:
        RequestError: the file cannot be used; the message names the channel, the field, the problem and a valid value.
    """
    info = bucket.stat(GUARD)
    if info is None:
        return GuardConfig()
    if info.size > MAX_BYTES:
        raise _wrong(f"it is {info.size:,} bytes long, more than the {MAX_BYTES:,} allowed", f"Write a few lines, like {EXAMPLE}")
    return parse_guard_config(bucket.read(GUARD) or b"")


def guard_config_or_defaults(bucket: Bucket) -> GuardConfig:
    """Returns the configuration of this bucket, or the defaults if the file cannot be used; ``scoring doctor`` names the problem."""
    try:
        return read_guard_config(bucket)
    except PermanentError:
        return GuardConfig()


def parse_guard_config(text: bytes) -> GuardConfig:
    """Reads the configuration from a text, at most ``MAX_BYTES`` long; raises RequestError like ``read_guard_config``."""
    if len(text) > MAX_BYTES:
        raise _wrong(f"it is {len(text):,} bytes long, more than the {MAX_BYTES:,} allowed", f"Write a few lines, like {EXAMPLE}")
    try:
        found: object = read_yaml(text)
    except NotYamlError as error:
        raise _wrong(str(error), f"Write for example {EXAMPLE}") from None
    if found is not None and not isinstance(found, dict):
        raise _wrong("it is not a mapping of channels", f"Write for example {EXAMPLE}")
    try:
        channels = _CHANNELS.validate_python(found or {})
    except ValidationError as error:
        raise _request_error(field_errors(error)[0]) from None
    return GuardConfig(channels=channels, source=GUARD, sha256=hashlib.sha256(text).hexdigest())


def _request_error(first: FieldError) -> RequestError:
    if (len(first.path) <= 1 and first.kind not in NO_MAPPING) or first.path[-1:] == ("[key]",):
        return _wrong(f"{shown(first.value)} cannot be the name of a channel", "Write letters, digits, - and _, a letter first, like live")
    parent, model = _model_at(first.path[:-1])
    if first.kind in UNKNOWN_FIELD:
        return _unknown(parent, first.field, model)
    where = ".".join(first.path)
    if first.kind in NO_MAPPING:
        return _wrong(f"{where}: {shown(first.value)} is not a mapping", f"Write for example {_example_of(first.path)}")
    if first.field not in model.model_fields or model.model_fields[first.field].description is None:
        return _wrong(f"{where}: {first.reason}", "Write a smaller warn, or off")
    known_kind = first.kind == "value_error"
    reason = first.reason.partition(": write ")[0] if known_kind else f"{shown(first.value)} cannot be used"
    return _wrong(f"{where}: {reason}", f"Write {model.model_fields[first.field].description}")


def _unknown(parent: str, key: str, model: type[BaseModel]) -> RequestError:
    kind = "check" if model is Checks else "field"
    close = difflib.get_close_matches(key, model.model_fields, 1)
    write = close[0] if close else "one of " + ", ".join(model.model_fields)
    return _wrong(f"{parent}: there is no {kind} {shown(key)}", f"Write {write}")


def _model_at(path: tuple[str, ...]) -> tuple[str, type[BaseModel]]:
    """The model whose field a path below a channel names."""
    model: type[BaseModel] = ChannelGuard
    for step in path[1:]:
        inner: Any = model.model_fields[step].annotation
        model = inner
    return ".".join(path), model


def _example_of(path: tuple[str, ...]) -> str:
    """A valid value at a place that must hold a mapping."""
    ends = {1: f"{path[0]}: {{mode: block}}", 2: "checks: {rows: {warn: 5%, block: 10%}}"}
    return ends.get(len(path), f"{path[-1]}: {{block: ...}}")


def _wrong(what: str, write: str) -> RequestError:
    return RequestError(f"{GUARD} cannot be used: {what}", next_step=f"{write}.")
