"""All settings, each with its default and unit: the only reader of the environment.

Names of the older service are kept (``MODEL_VER``, ``WEBHOOK_URL``); ``REDIS_URL`` and ``BUCKET_URL`` name the two shared services;
all other names start with ``SCORING_``. A secret may be in a file, whose path is in ``<name>_FILE``.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field, SecretStr, StringConstraints, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import SettingsError
from shared.jobs.search_config import MOST_CANDIDATES
from shared.signatures import SHORTEST_KEY, Signer

MAX_UNPACKED_RATIO = 100.0

WebhookFormat = Literal["slack", "teams", "json"]

Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseSettings):
    """The settings of a process. ``read_settings`` reads them once at the start; they are frozen."""

    model_config = SettingsConfigDict(env_prefix="SCORING_", frozen=True, extra="ignore", populate_by_name=True)

    redis_url: SecretStr = Field(default=SecretStr(""), validation_alias="REDIS_URL")
    """The message broker. Empty: the embedded server that ``scoring up`` starts on ``SCORING_REDIS_PORT``."""

    bucket_url: str = Field(default="bucket", validation_alias="BUCKET_URL")
    """The store of all files: a folder, ``s3://bucket/prefix`` (needs the extra ``s3``) or ``gs://bucket/prefix`` (needs ``gcs``)."""

    cluster: Annotated[str, StringConstraints(pattern=r"^([A-Za-z][A-Za-z0-9_-]{0,63})?$")] = ""
    """The name of this stack, if several share one bucket: stacks with the same name work on the same jobs, others leave them alone. Empty:
    each Redis has its own name."""

    model_ver: Annotated[str, StringConstraints(min_length=1)] = Field(default="v1", validation_alias="MODEL_VER")
    """The model to train or score when a command names none."""

    webhook_url: SecretStr = Field(default=SecretStr(""), validation_alias="WEBHOOK_URL")
    """The webhook for notices: Slack's, that of a Teams workflow, or any HTTP server. Empty: notices are logged."""

    webhook_format: WebhookFormat | None = Field(default=None, validation_alias="WEBHOOK_FORMAT")
    """The format of a notice: a Slack message, an Adaptive Card for Teams, or a CloudEvent as JSON. Not set: the format that the host of
    ``WEBHOOK_URL`` expects; an unknown host gets a Slack message."""

    home: Path = Path(".scoring")
    """Folder for local files: the data of the embedded server, logs, Flower's history, the release cache."""

    store_key: SecretStr = SecretStr("")
    """A secret of 16 characters or more that signs the manifests of releases and results; releases without a valid signature are refused.
    Several, separated by commas: the first signs, all are accepted. Empty: nothing is signed or checked."""

    umask: Annotated[str, StringConstraints(pattern=r"^0?[0-7]{3}$")] = "077"
    """Permissions that new files and folders do not get, in octal, like the shell's ``umask``: by default only their owner reads them. Set
    027 or 022 if another user reads the bucket's folder."""

    definitions: Path | None = None
    """A folder with further definitions, ``<name>/model.py``, in addition to those of the repository."""

    redis_port: Port = 6389
    """Port of the server that ``scoring up`` starts; it is not the default port of Redis, so both can run."""

    processes: Annotated[int, Field(ge=1, le=1024)] = Field(default_factory=lambda: os.cpu_count() or 2)
    """Processes of the worker that scores and trains. Not set: the number of CPUs."""

    stop_seconds: Annotated[float, Field(ge=0, le=3600)] | None = None
    """Seconds for which a worker of ``scoring run`` continues its running tasks after SIGTERM before it hands them back. Not set: 30."""

    flower_host: Annotated[str, StringConstraints(min_length=1)] = "127.0.0.1"
    """Address that ``scoring run flower`` listens on. The image sets 0.0.0.0: the container platform decides who reaches the port."""

    flower_port: Port = 5555
    """Port of the Flower dashboard."""

    flower_user: str = "scoring"
    """User of the Flower dashboard."""

    flower_password: SecretStr = SecretStr("")
    """Password of the Flower dashboard. Empty: ``scoring up`` generates one and prints it."""

    serve_model: Annotated[str, StringConstraints(min_length=1)] = "champion"
    """The alias, release or definition with which the HTTP server computes rates."""

    serve_channel: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")] = "live"
    """The channel whose published rates the HTTP server answers with."""

    serve_host: Annotated[str, StringConstraints(min_length=1)] = "127.0.0.1"
    """Address that the HTTP server listens on. The image sets 0.0.0.0. Any address but a loopback one needs tokens."""

    serve_port: Port = 8080
    """Port of the HTTP server."""

    serve_workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes of the HTTP server, each with one thread for predictions."""

    serve_max_rows: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Rows of one HTTP request; more are refused with 413."""

    serve_max_age: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9} ?(d|h|min|s)$")] = "36h"
    """The age from which a published rate has the status OUTSIDE_MAX_AGE, such as 36h or 90min."""

    serve_concurrency: Annotated[int, Field(ge=1, le=100_000)] = 200
    """Requests that one process of the HTTP server works on at once; more are refused with 503."""

    serve_timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 10.0
    """Seconds for one HTTP request, from its first byte to its answer."""

    serve_body_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 4 << 20
    """The largest body of an HTTP request, in bytes; a larger one is refused with 413."""

    serve_tokens: SecretStr = SecretStr("")
    """Tokens of the HTTP server, separated by commas or lines, each as ``rates:TOKEN`` or ``jobs:TOKEN``. Several of a kind are accepted,
    so that one can replace another. Empty: everyone who reaches the address reads rates, and no one can change jobs over HTTP."""

    log: Literal["text", "json"] = "text"
    """Format of the log: lines for people, or json for programs."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least severe level that is logged."""

    log_file: str = ""
    """The file that keeps the log of this process, for error messages; ``scoring up`` sets it for the processes that it starts."""

    chunk_seconds: Annotated[float, Field(gt=0, le=840)] = 300.0
    """A chunk that takes longer, in seconds, is stopped and retried, then scored in smaller pieces."""

    load_seconds: Annotated[float, Field(gt=0, le=600)] = 60.0
    """A release that takes longer, in seconds, to load and predict during a training's comparison is left out; many rows get more time."""

    sweep_seconds: Annotated[float, Field(gt=0, le=3600)] = 15.0
    """Seconds between sweeps for stalled jobs; beat reads the schedule as often, and at least once a minute."""

    stall_seconds: Annotated[float, Field(gt=0, le=86400)] = 5.0
    """Seconds after which a step that no worker has taken is sent again, unless messages of the same age still wait."""

    beat_silent_seconds: Annotated[float, Field(ge=0, le=86400)] = 120.0
    """Seconds without a heartbeat of beat (at least three sweeps) before a notice is sent and workers send the sweep. 0: never."""

    job_deadline_hours: Annotated[float, Field(gt=0)] = 24.0
    """The sweep fails a job that is older than this and has not ended."""

    gate_margin: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Nats per click by which the log-loss of a release must be lower than that of the champion and of every naive predictor."""

    gate_confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence of the intervals of these differences; the whole interval must be beyond the margin."""

    gate_calibration_error: Annotated[float, Field(ge=0, le=1)] = 0.02
    """A release with a larger calibration error is not promoted."""

    max_candidates: Annotated[int, Field(ge=1, le=MOST_CANDIDATES)] = 500
    """A search with more candidates is refused."""

    max_unpacked_ratio: Annotated[float, Field(ge=1, allow_inf_nan=False)] = MAX_UNPACKED_RATIO
    """A compressed table (.csv.gz, .csv.zst, .tsv.gz) whose text is more than this many times its size, and more than 4 GB, is refused."""

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, url: SecretStr) -> SecretStr:
        if url and not url.get_secret_value().startswith(("redis://", "rediss://")):
            raise ValueError("must start with redis:// or rediss://")
        return url

    @field_validator("bucket_url")
    @classmethod
    def _is_bucket(cls, url: str) -> str:
        if "://" in url and not url.startswith(("s3://", "gs://", "file://")):
            raise ValueError("must be a folder or start with s3:// or gs://")
        return url or "bucket"

    @field_validator("store_key")
    @classmethod
    def _is_hard_to_guess(cls, secret: SecretStr) -> SecretStr:
        if any(len(key) < SHORTEST_KEY for key in _keys(secret)):
            raise ValueError(f"every key must have at least {SHORTEST_KEY} characters")
        return secret

    @field_validator("serve_tokens")
    @classmethod
    def _are_tokens(cls, secret: SecretStr) -> SecretStr:
        if secret.get_secret_value() and not serve_tokens_of(secret):
            raise ValueError("it holds no token")
        for token in serve_tokens_of(secret):
            kind, _, text = token.partition(":")
            if kind not in SERVE_TOKEN_KINDS or len(text) < SHORTEST_KEY or not text.isascii():
                raise ValueError(f"every token must be rates:TOKEN or jobs:TOKEN, with at least {SHORTEST_KEY} ASCII characters")
        return secret

    @property
    def signer(self) -> Signer:
        """Signs and checks manifests with the keys of ``SCORING_STORE_KEY``."""
        return Signer(tuple(key.encode() for key in _keys(self.store_key)))

    @property
    def broker_url(self) -> str:
        """The address of the broker: ``REDIS_URL``, or the embedded server of ``scoring up``."""
        return self.redis_url.get_secret_value() or f"redis://127.0.0.1:{self.redis_port}/0"


SERVE_TOKEN_KINDS = ("rates", "jobs")


def serve_tokens_of(secret: SecretStr) -> list[str]:
    """Returns the tokens of ``SCORING_SERVE_TOKENS``, each with its kind, as ``rates:TOKEN``."""
    return secret.get_secret_value().replace(",", " ").split()


def _keys(secret: SecretStr) -> list[str]:
    text = secret.get_secret_value()
    return [key.strip() for key in text.split(",")] if text.strip() else []


FOREIGN_VARIABLES = ("BROKER_URL", "BROKER_READ_URL", "BROKER_WRITE_URL", "RESULT_BACKEND", "LOADER", "CONFIG_MODULE")
"""Celery reads these variables, with or without the prefix ``CELERY_``: another project's would send our messages to its Redis."""

STORE_KEY_FILE = "store-key"
"""File in SCORING_HOME with the key of the store, used when no variable sets one. ``cold_start.sh`` creates it for every terminal."""

SECRETS = {
    "REDIS_URL": "REDIS_URL",
    "WEBHOOK_URL": "WEBHOOK_URL",
    "SCORING_STORE_KEY": "store_key",
    "SCORING_FLOWER_PASSWORD": "flower_password",
    "SCORING_SERVE_TOKENS": "serve_tokens",
}
"""Variables that can be given as a file, ``<name>_FILE``, the way container platforms pass secrets; each with its field in Settings."""

MAY_BE_EMPTY = ("WEBHOOK_URL",)
"""Variables whose file may be empty, which equals an empty variable."""


def read_settings(options: Mapping[str, str] = MappingProxyType({})) -> Settings:
    """Reads the environment and the files that it names, and removes variables that would override these settings.

    ``options`` are variables that take precedence over the environment, those of a command line.

    Raises:
        SettingsError: a variable holds an unusable value; the message names the variable.
    """
    for name in FOREIGN_VARIABLES:
        os.environ.pop(name, None)
        os.environ.pop(f"CELERY_{name}", None)
    in_files = {field: text for name, field in SECRETS.items() if (text := _read_secret(name)) is not None}
    if "store_key" not in in_files and not os.environ.get("SCORING_STORE_KEY") and (key := _store_key_at_home()) is not None:
        in_files["store_key"] = key
    try:
        fields = {name.removeprefix("SCORING_").lower(): value for name, value in options.items()}
        return Settings(**(in_files | fields))  # type: ignore[arg-type]  # text, which the fields validate as they do the environment's
    except ValidationError as error:
        first = error.errors()[0]
        why = first["msg"].removeprefix("Value error, ").replace("Input should be", "it must be")
        name = str(first["loc"][0])
        variable = name if name.isupper() else f"SCORING_{name.upper()}"
        if name in in_files:
            raise SettingsError(
                f"the file that {variable}_FILE names holds a value that cannot be used: {why}",
                next_step="Correct the file, or name another.",
            ) from None
        is_secret = "password" in name or "key" in name or "tokens" in name or name in ("WEBHOOK_URL", "REDIS_URL")
        shown = "a value" if is_secret else f"the value {first['input']!r}"
        raise SettingsError(
            f"the environment variable {variable} has {shown} that cannot be used: {why}",
            next_step=f"Set {variable} to another value or unset it.",
        ) from None


def _store_key_at_home() -> str | None:
    """The key of the store in SCORING_HOME; None when the file does not exist."""
    file = Path(os.environ.get("SCORING_HOME") or ".scoring", STORE_KEY_FILE)
    try:
        found = file.lstat()
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise SettingsError(
            f"the key of the store {file} is not a file that only you can read", next_step=f"Type: chmod 600 {file}; or remove it."
        )
    what, next_step = f"the key of the store {file}", f"Remove {file}, or write a key into it."
    text = _text_of(file, what, next_step)
    if not text:
        raise SettingsError(f"{what} is empty", next_step=next_step)
    return text


def _read_secret(name: str) -> str | None:
    """The stripped content of the file at ``<name>_FILE``; None when the variable is not set."""
    file = os.environ.get(f"{name}_FILE")
    if not file:
        return None
    if os.environ.get(name):
        raise SettingsError(f"both {name} and {name}_FILE are set", next_step="Unset one of them.")
    what = f"the file {file}, which {name}_FILE names,"
    text = _text_of(Path(file), what, f"Correct {name}_FILE or unset it.")
    if not text and name not in MAY_BE_EMPTY:
        # an empty key would disable signing, and an empty address would select another Redis
        raise SettingsError(f"{what} is empty", next_step=f"Write the secret into it, or unset {name}_FILE.")
    return text


def _text_of(file: Path, what: str, next_step: str) -> str:
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "it is not text"
        raise SettingsError(f"{what} cannot be read: {reason}", next_step=next_step) from None
