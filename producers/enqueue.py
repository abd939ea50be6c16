"""The one door onto the queue: checks a request, writes it into the bucket, then sends its first message.

The job is safe once it is written. Whether Redis takes the message only decides how soon it starts: the sweep finds every job that
no message is on its way for. The same request, sent twice, is one job.
"""

import contextlib
import hashlib
import itertools
import json
import shlex
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import redis

from producers.local_definitions import definitions_here
from producers.redis_probe import check_redis
from shared.bucket.interface import Bucket
from shared.bucket.local import LocalBucket
from shared.catalog.aliases import MODELS, resolve
from shared.catalog.manifests import OUTPUTS, check_place
from shared.catalog.releases import read_release
from shared.catalog.results import FoundResult, look_at_result
from shared.errors import BrokerError, MessageError, ModelError, NoTableError, RequestError, ScoringError, TableError
from shared.jobs.folder import PARAMS, REJECTS_ACCEPTED, REQUESTS, VERSIONS, JobFolder
from shared.jobs.messages import Job, JobOrder, ScoreJob, TrainJob
from shared.jobs.search_config import read_config
from shared.queue import progress
from shared.queue.broker import make_app, send
from shared.queue.clusters import id_in_redis
from shared.queue.routes import NOTIFY, SCORE_PLAN, TRAIN_FIT
from shared.records import Promote, check_bucket_path, decode
from shared.retention.things import LEFT_AFTER, made_at
from shared.settings import Settings
from shared.table_files import ENDINGS, HEAD_BYTES, Looking, choose_files, find_files, kind_of, promised_kind

INPUTS, TRAINING = "data/predict/input", "data/train"
THE_INPUT = "prediction_input"
REJECT_SHARE = 0.01
"""The share of rows that may be rejected when a request names none."""
MOST_DAMAGED = 100
"""Files of one request that name no job; more than that are no accident, and nothing is added to them."""
NO_ID = "not-known-yet"
"""Stands for the id when a request is checked before anything is written: a wrong field leaves no trace."""


@dataclass(frozen=True, kw_only=True)
class Enqueued:
    """What became of a request."""

    job_id: str
    fresh: bool
    """False when the same request was made before and is this job already."""
    problem: BrokerError | None = None
    """Why the first message could not be sent; the job runs all the same once Redis is back."""


@dataclass(frozen=True, kw_only=True)
class ScheduledRun:
    """What makes a request of the schedule the same as another: it is the same run, whatever its table or model is by now."""

    kind: Literal["score", "train"]
    key: str
    """Name of the entry and the moment, like ``daily-20261123t0430``."""
    once: bool = False
    """Do not ask again for what failed or was cancelled; that is for people to do."""

    @property
    def digest(self) -> str:
        """Under which the request is known."""
        return f"{self.kind}-schedule-{self.key}"

    def newest_job(self, bucket: Bucket) -> JobFolder | None:
        """The folder of the job that was made of it last; None when there is none."""
        for number in range(_newest_run(bucket, self.digest), 0, -1):
            folder = _folder_in(bucket, bucket.read(_run_file(self.digest, number)))
            if folder is not None and folder.has("job.json"):
                return folder
        return None


@dataclass(frozen=True, kw_only=True)
class Source:
    """A table that was found: in the bucket, or on this machine, then it is brought along into the job's folder."""

    path: str
    """Inside the bucket; for a table of this machine the name it gets below ``jobs/<id>/input``."""
    files: dict[str, Path]
    """Name -> file of this machine; empty for a table in the bucket."""
    fingerprint: list[tuple[str, str]]
    """Name and digest (or the bucket's stamp) of every file: what makes two requests the same."""
    versions: dict[str, str] = field(default_factory=dict)
    """Path in the bucket -> the bucket's version of that file, where it tells versions apart."""

    def place_in(self, folder: JobFolder) -> str:
        """The path in the bucket under which the job will find it."""
        return folder.file(f"input/{self.path}") if self.files else self.path

    def kept_below(self, name: str) -> "Source":
        """The same table in a folder of its own below ``input``: a job may bring two of one name."""
        if not self.files:
            return self
        return replace(self, path=f"{name}/{self.path}", files={f"{name}/{file}": at for file, at in self.files.items()})

    def bring(self, folder: JobFolder) -> None:
        """Copy the files of this machine into the job's folder."""
        for name, file in self.files.items():
            folder.bucket.upload(file, folder.file(f"input/{name}"))


def enqueue_score(  # noqa: PLR0913 - a request has these fields
    settings: Settings,
    bucket: Bucket,
    *,
    table: str,
    model: str,
    day: date | None = None,
    chunk_rows: int | None = None,
    max_reject_share: float = REJECT_SHARE,
    max_rejects: int | None = None,
    interval: bool = False,
    again: bool = False,
    run: ScheduledRun | None = None,
) -> Enqueued:
    """Ask for a table to be scored with a model; with ``interval``, for the bounds of each rate as well.

    ``table`` is looked for in the bucket first, then on this machine. ``day`` is the day that the result belongs to, for a table
    that does not lie below ``data/predict/input`` of the bucket (default: today); of such a table the folder says it. ``again`` runs a
    request that was done before once more. What makes two requests the same is ``run``, if it is given, and else all the other fields.

    Raises:
        RequestError: a field cannot be.
        TableError: there is no such table.
        ModelError: there is no such release, or it gives no interval and one is asked for.
        BucketError: the request could not be written.
    """
    created = datetime.now(UTC)
    source = find_table(bucket, table)
    place = _place(source, day or created.date())
    check_place(place)
    wish = {"model": model, "place": place, "chunk_rows": chunk_rows, "max_reject_share": max_reject_share}
    if max_rejects is not None:  # the digest of a request without it is that of an earlier version
        wish["max_rejects"] = max_rejects
    if interval:
        wish["interval"] = interval

    def job(job_id: str) -> ScoreJob:
        table_path = source.place_in(JobFolder(bucket, job_id))
        return _checked(ScoreJob, wish | {"kind": "score", "job_id": job_id, "created": created.isoformat(), "table": table_path})

    job(NO_ID)
    release = _release_of(settings, bucket, model)
    if interval:
        read_release(bucket, release).manifest.check_interval()
    digest = _digest("score", wish | {"release": release, "table": source.fingerprint})
    return _enqueue(settings, bucket, run.digest if run else digest, job, [source], again=again, run=run)


def _release_of(settings: Settings, bucket: Bucket, model: str) -> str:
    try:
        return resolve(bucket, model)
    except ModelError:
        if model in bucket.folders(MODELS) or model not in definitions_here(settings):
            raise
        raise ModelError(f"the definition {model} has no release yet", next_step=f"Train it first: scoring train {model}") from None


def enqueue_fix(  # noqa: PLR0913 - a request has these fields
    settings: Settings,
    bucket: Bucket,
    *,
    job_id: str,
    rows: str,
    max_reject_share: float | None = None,
    max_rejects: int | None = None,
    again: bool = False,
) -> Enqueued:
    """Ask for fixed rows to be scored in the place of the rejects of a job that has ended, and for the result of both.

    ``rows`` is a csv or csv.gz file, looked for in the bucket first, then on this machine. A limit of rejects that is not given is that
    of the job that is fixed, and none where a person accepted its rejects: a fix never has more of them.

    Raises:
        RequestError: there is no such job, or it has not ended or cut its table, or a field cannot be.
        TableError: there is no such file.
        BucketError: the request could not be written.
    """
    created = datetime.now(UTC)
    earlier = JobFolder(bucket, job_id)
    fixed = earlier.score_job()
    if earlier.outcome() is None:
        raise RequestError(f"job {job_id} has not ended", next_step=f"Watch it with: scoring jobs show {job_id} --follow")
    if not earlier.has("plan.json"):
        if earlier.was_cleared():
            raise earlier.cleared_error()
        raise RequestError(f"nothing of job {job_id} was scored, so there is nothing to fix", next_step="Mend the table and score it.")
    _refuse_older_than_published(bucket, earlier, fixed.place, rows)
    source = find_table(bucket, rows)
    if kind_of(source.path) not in ("csv", "csv.gz"):
        raise RequestError(
            f"{rows} is not a file of fixed rows", next_step=f"Get the rows to mend with: scoring results rejects {job_id} --rows FILE"
        )
    share, number = (1.0, None) if earlier.has(REJECTS_ACCEPTED) else (fixed.max_reject_share, fixed.max_rejects)
    wish = {
        "fixes": job_id,
        "max_reject_share": share if max_reject_share is None else max_reject_share,
        "max_rejects": number if max_rejects is None else max_rejects,
    }

    def job(own_id: str) -> ScoreJob:
        path = source.place_in(JobFolder(bucket, own_id))
        taken = {"model": fixed.model, "table": fixed.table, "place": fixed.place, "fixed_rows": path, "interval": fixed.interval}
        return _checked(ScoreJob, wish | taken | {"kind": "score", "job_id": own_id, "created": created.isoformat()})

    job(NO_ID)
    return _enqueue(settings, bucket, _digest("score", wish | {"rows": source.fingerprint}), job, [source], again=again)


def _refuse_older_than_published(bucket: Bucket, earlier: JobFolder, place: str, rows: str) -> None:
    """Raise RequestError when a fix of this job with these rows would take the place of a newer result."""
    plan = json.loads(bucket.read(earlier.file("plan.json")) or b"{}")
    definition = str(plan.get("release", "")).partition("@")[0]
    # one that cannot be read is replaced
    found = look_at_result(bucket, f"{OUTPUTS}/{definition}/{place}") if definition else None
    if not isinstance(found, FoundResult) or found.manifest.job_id <= earlier.job_id:
        return
    published, newer = found.manifest, found.manifest.job_id
    problem = f"{definition}/{place} holds a newer result than that of job {earlier.job_id}: that of job {newer}"
    if published.rows_rejected == 0:
        raise RequestError(f"{problem}, in which nothing is left to fix", next_step=f"See it with: scoring results show {newer}")
    raise RequestError(
        problem,
        next_step=f"Fix that one instead: scoring score {shlex.quote(rows)} --fix {newer}; "
        f"if it is of another table, with rows of its own: scoring results rejects {newer} --rows FILE",
    )


def enqueue_train(  # noqa: PLR0913 - a request has these fields
    settings: Settings,
    bucket: Bucket,
    *,
    definition: str,
    train: str | None = None,
    eval_table: str | None = None,
    alias: str | None = None,
    promote: Promote = "never",
    config: str | None = None,
    force: bool = False,
    max_left_out: float | None = None,
    again: bool = False,
    run: ScheduledRun | None = None,
) -> Enqueued:
    """Ask for a definition to be trained; without ``train`` on the newest tables below ``data/train`` in the bucket.

    ``config`` names the ``params.yaml`` of a search for the best parameters, looked for in the bucket first, then on this machine. Its
    text goes into the job's folder: what somebody writes into the file later does not change the job. With ``force`` the workers train
    on a table that they would refuse for what is in it, and the release says so. ``max_left_out`` is the share of the rows, or of the
    clicks, of a table that may be left out; None for the default.
    What makes two requests the same is ``run``, if it is given, and else all the other fields.

    Raises:
        RequestError: a field cannot be, or something in the config; or the gate is asked without a table to judge on.
        TableError: there is no such table.
        BucketError: the request could not be written.
    """
    created = datetime.now(UTC)
    if train is None:
        train, eval_table = newest_training_tables(bucket)
    if promote == "auto" and eval_table is None:
        raise RequestError(
            f"{definition} cannot be promoted for figures on {train}, the table it is trained on",
            next_step="Name a table of a later time with --train and --eval, or leave out --promote auto.",
        )
    sources = [find_table(bucket, path).kept_below(name) for name, path in (("train", train), ("eval", eval_table)) if path is not None]
    wish: dict[str, Any] = {"definition": definition, "alias": alias}
    if promote != "never":  # the digest of a request without it is that of an earlier version
        wish["promote"] = promote
    if force:
        wish["force"] = force
    if max_left_out is not None:
        wish["max_left_out"] = max_left_out
    texts = {} if config is None else {PARAMS: _read_config(settings, bucket, config)}

    def job(job_id: str) -> TrainJob:
        folder = JobFolder(bucket, job_id)
        paths = dict(zip(("train", "eval"), (source.place_in(folder) for source in sources), strict=False))
        paths |= {"config": folder.file(PARAMS)} if texts else {}
        return _checked(TrainJob, wish | paths | {"kind": "train", "job_id": job_id, "created": created.isoformat()})

    job(NO_ID)
    told = {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()}
    digest = _digest("train", wish | told | {"tables": [source.fingerprint for source in sources]})
    return _enqueue(settings, bucket, run.digest if run else digest, job, sources, texts, again=again, run=run)


def _read_config(settings: Settings, bucket: Bucket, config: str) -> bytes:
    """The text of a ``params.yaml`` in the bucket or on this machine, after it was found to be right."""
    try:
        text = None if Path(config).is_absolute() else bucket.read(check_bucket_path(config))
    except ValueError:  # no path inside the bucket: then one of this machine
        text = None
    try:
        text = Path(config).read_bytes() if text is None else text
    except FileNotFoundError:
        raise RequestError(
            f"there is no config {config}, neither in the bucket {bucket.url} nor on this machine",
            next_step="Write one as in: scoring train --help",
        ) from None
    except (OSError, ValueError) as error:
        raise RequestError(f"the config {config!r} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    read_config(text, config, settings.max_candidates)
    return text


def resume(settings: Settings, bucket: Bucket, job_id: str, *, accept_rejects: bool = False) -> Enqueued:
    """Let a failed or cancelled job go on from what it has, if so without its rejects, however many they are.

    Raises:
        RequestError: there is no such job, or it has not ended, or it is done; or it is to train, and has no rejects to accept.
    """
    folder = JobFolder(bucket, job_id)
    job = folder.job()
    if accept_rejects and not isinstance(job, ScoreJob):
        raise RequestError(f"job {job_id} trains and has no rejects to accept", next_step=f"Type: scoring jobs resume {job_id}")
    folder.reopen(accept_rejects=accept_rejects, cluster=_cluster(settings))
    return Enqueued(job_id=job_id, fresh=True, problem=_send(settings, _first_step(job), job_id))


def cancel(settings: Settings, bucket: Bucket, job_id: str) -> str:
    """Cancel a job unless it has ended, and see that people are told; returns the state in which it ended."""
    outcome = JobFolder(bucket, job_id).cancel()
    _send(settings, NOTIFY, job_id)
    return outcome.state


def find_table(bucket: Bucket, table: str) -> Source:
    """The table of this path: in the bucket, or else on this machine.

    Raises:
        RequestError: the path is empty, has no name in it (the current folder is ``.``), or is an address like ``s3://...``.
        TableError: it is in neither place, or it is no table.
    """
    if not table.strip(f"/{string.whitespace}"):
        raise RequestError(f"{table!r} is the name of no table", next_step="Name a file or folder: scoring score --help")
    if "://" in table:
        raise RequestError(
            f"{table} is an address, and a table is named by its path inside the bucket {bucket.url} or on this machine",
            next_step="Name the path alone, like data/predict/input/2026/11/23; which bucket it is in is set in BUCKET_URL.",
        )
    if table == "-":
        raise RequestError(
            "- is no table: standard input is not read", next_step="Write it into a file and name that: scoring score --help"
        )
    path = table.strip("/") if not Path(table).is_absolute() else ""
    try:
        inside = [info for info, _ in find_files(bucket, path)]
    except (NoTableError, RequestError) as error:
        _refuse_name(bucket, path, error)
        path = _path_inside(bucket, Path(table))
        if not path:
            return _find_here(bucket, Path(table))
        inside = [info for info, _ in find_files(bucket, path)]
    versions = {info.path: info.version for info in inside if info.version}
    return Source(path=path, files={}, fingerprint=[(info.path, info.stamp) for info in inside], versions=versions)


def _refuse_name(bucket: Bucket, path: str, error: ScoringError) -> None:
    """Raise this error of a path that the bucket's folder has, but that no bucket can hold: its name is not UTF-8."""
    with contextlib.suppress(OSError, ValueError):
        is_text = path.encode(errors="replace").decode() == path
        if isinstance(bucket, LocalBucket) and not is_text and (bucket.root / path).exists():
            raise error


def _path_inside(bucket: Bucket, local: Path) -> str:
    """The path inside the bucket of what lies in its folder on this machine, as the shell completes it; else empty."""
    if not isinstance(bucket, LocalBucket):
        return ""
    try:
        there = local.resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        return ""
    return there.relative_to(bucket.root).as_posix() if there != bucket.root and there.is_relative_to(bucket.root) else ""


def newest_training_tables(bucket: Bucket) -> tuple[str, str | None]:
    """The paths of ``train`` and, if there is one, ``eval`` in the newest dated folder below ``data/train``.

    Raises:
        TableError: there is none.
    """
    for year in _newest_first(bucket, TRAINING):
        for month in _newest_first(bucket, year):
            for day in _newest_first(bucket, month):
                files = {name.partition(".")[0]: info.path for info in bucket.files(day) if kind_of(name := info.path.rpartition("/")[2])}
                if "train" in files:
                    return files["train"], files.get("eval")
    raise TableError(
        f"there is no table {TRAINING}/YYYY/MM/DD/train.csv.gz in the bucket {bucket.url}",
        next_step="Name one: scoring train DEFINITION --train TABLE; or make some: scoring sample",
    )


def _newest_first(bucket: Bucket, folder: str) -> list[str]:
    """The folders in a folder that stand for a year, month or day."""
    return [f"{folder}/{name}" for name in reversed(bucket.folders(folder)) if name.isdecimal()]


def _find_here(bucket: Bucket, local: Path) -> Source:
    try:
        return _look_here(bucket, local)
    except OSError as error:
        where = error.filename or local
        raise TableError(f"{where} cannot be read: {error.strerror}", next_step="Check the path and its permissions.") from error


def _look_here(bucket: Bucket, local: Path) -> Source:
    if local.is_dir():
        path = _safe(local.resolve().name)
        found = [local / name for name in choose_files(str(local), *_look_into(local), LOOKING_HERE)]
        files = {f"{path}/{_safe(file.name)}": file for file in found}
        if len(files) < len(found):
            raise TableError(
                f"the folder {local} holds files whose names differ only in special characters", next_step="Rename them and try again."
            )
    elif local.is_file():
        promised_kind(str(local))
        path = _safe(local.name)
        files = {path: local}
    else:
        raise TableError(
            f"there is no table {local}, neither in the bucket {bucket.url} nor on this machine", next_step="Check the path for a mistake."
        )
    return Source(path=path, files=files, fingerprint=[(name, _sha256(file)) for name, file in files.items()])


def _look_into(folder: Path) -> tuple[list[str], list[str]]:
    """The names of the files and of the folders in a folder of this machine, sorted."""
    entries = sorted(folder.iterdir())
    folders = [entry.name for entry in entries if entry.is_dir() and not kind_of(entry.name)]
    return [entry.name for entry in entries if entry.name not in folders], folders


def _head_of(path: str) -> bytes:
    """The beginning of a file of this machine; of a pipe or the like, which is not waited for, what no text has."""
    file = Path(path)
    if not file.is_file():
        return b"\0"
    with file.open("rb") as content:
        return content.read(HEAD_BYTES)


LOOKING_HERE = Looking(names=lambda folder: _look_into(Path(folder)), head=_head_of)


def _safe(name: str) -> str:
    """A file name that the bucket and every message take."""
    return "".join(char if char.isalnum() or char in "._-" else "_" for char in name).lstrip(".") or "table"


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _place(source: Source, day: date) -> str:
    """Where the result belongs: a table below ``data/predict/input/<place>`` keeps its place, any other gets day and name.

    ``prediction_input`` is the table of its folder; one of another name in that folder adds its name, so that none replaces another.
    """
    name = source.path.rpartition("/")[2]
    ending = next((ending for ending in ENDINGS if name.lower().endswith(ending)), "")
    stem = name[: len(name) - len(ending)] if ending else ""
    folder = source.path.removesuffix(f"/{name}") if ending else source.path
    if not source.files and folder.startswith(f"{INPUTS}/"):
        place = folder.removeprefix(f"{INPUTS}/")
        return place if stem in ("", THE_INPUT) else f"{place}/{_safe(stem)}"
    return f"{day:%Y/%m/%d}/{_safe(stem or name)}"


def check_day(bucket: Bucket, table: str, day: date) -> None:
    """Raise RequestError for a table whose folder says another day than the one that a person asks for.

    A run of the schedule may take the table of another day.
    """
    source = find_table(bucket, table)
    place = _place(source, day)
    if _is_input(source) and not f"{place}/".startswith(f"{day:%Y/%m/%d}/"):
        raise RequestError(
            f"--date {day} contradicts the folder of {source.path}: its result belongs to {place}",
            next_step="Leave out --date, or score a copy of the table from outside data/predict/input.",
        )


def _is_input(source: Source) -> bool:
    """True for a table of the bucket whose folder says where its result belongs."""
    return not source.files and source.path.startswith(f"{INPUTS}/")


def _checked(kind: Any, fields: dict[str, Any]) -> Any:  # noqa: ANN401 - ScoreJob or TrainJob
    try:
        return decode(kind, fields)
    except MessageError as error:
        raise RequestError(f"the request cannot be: {error.message}", next_step="See what is possible with: scoring --help") from error


def _digest(kind: str, wish: dict[str, Any]) -> str:
    return f"{kind}-{hashlib.sha256(json.dumps(wish, sort_keys=True, default=str).encode()).hexdigest()[:32]}"


def _enqueue(  # noqa: PLR0913 - a request has these parts
    settings: Settings,
    bucket: Bucket,
    digest: str,
    make_job: Callable[[str], Job],
    sources: list[Source],
    texts: Mapping[str, bytes] = MappingProxyType({}),
    *,
    again: bool,
    run: ScheduledRun | None = None,
) -> Enqueued:
    """Write a request with its tables and the ``texts`` that belong into its folder, and send its first message."""
    versions = {path: version for source in sources for path, version in source.versions.items()}
    job_id = _claim(bucket, digest, {} if run else versions, again=again, run=run)
    folder = JobFolder(bucket, job_id)
    if folder.has("job.json"):
        return Enqueued(job_id=job_id, fresh=False)
    for source in sources:
        source.bring(folder)
    for name, text in texts.items():
        bucket.write(folder.file(name), text)
    job = make_job(job_id)
    # the plan of a table notes what it found itself, which may have been replaced while the job waited
    if versions and (isinstance(job, TrainJob) or job.fixes):
        bucket.write(folder.file(VERSIONS), json.dumps(versions).encode())
    first = folder.create(job, _cluster(settings))
    return Enqueued(job_id=job_id, fresh=first, problem=_send(settings, _first_step(job), job_id) if first else None)


def _claim(bucket: Bucket, digest: str, versions: Mapping[str, str], *, again: bool, run: ScheduledRun | None = None) -> str:
    """The id of the job for this request: that of an earlier one which runs or is done, or a new one.

    A job that found other ``versions`` of the table's files is of another request: a table may be replaced by one of the same size and
    time. They are no part of the digest, which stays that of earlier versions.
    The first to write ``jobs/_requests/<digest>.<n>`` decides what the n-th run is called, so two at once agree.
    """
    damaged = 0
    for number in itertools.count(_newest_run(bucket, digest) if again else 1):
        path = _run_file(digest, number)
        text = bucket.read(path)
        if text is None:
            fresh = JobFolder(bucket, _job_id(digest, number, datetime.now(UTC), run))  # refuses what is no id before it is written
            bucket.create(path, fresh.job_id.encode())
            text = bucket.read(path)
        folder = _folder_in(bucket, text)
        if folder is None:
            damaged += 1  # nobody can say which job that run became
            if damaged > MOST_DAMAGED:
                raise RequestError(f"{damaged} files like {path} in the bucket name no job", next_step="Delete them and ask again.")
            continue
        outcome = folder.outcome()
        if (outcome is None and _was_removed(folder)) or _has_found_others(folder, versions):
            continue
        if outcome is None or (outcome.state == "done" and not again) or (run is not None and run.once):
            return folder.job_id
    raise AssertionError("unreachable: count() does not end")


def _has_found_others(folder: JobFolder, versions: Mapping[str, str]) -> bool:
    """True when a file of the table is not the one that the job found; not where it is not known which one that was."""
    found = folder.table_versions() if versions else {}
    return any(found.get(path, version) != version for path, version in versions.items())


def _was_removed(folder: JobFolder) -> bool:
    """True when nothing is left of a job that was asked for long ago; one of lately is just being written, or was when that died."""
    made = made_at(folder.job_id)
    return made is not None and datetime.now(UTC) - made > LEFT_AFTER and not folder.has("job.json")


def _folder_in(bucket: Bucket, text: bytes | None) -> JobFolder | None:
    """The folder of the job whose id is in the file of a run; None when it is no id."""
    try:
        return JobFolder(bucket, (text or b"").decode(errors="replace"))
    except MessageError:
        return None


def _newest_run(bucket: Bucket, digest: str) -> int:
    """The number of the newest run of a request, or 1: found without a look at each, since a request may be run again every day."""
    there, missing = 0, 1
    while bucket.exists(_run_file(digest, missing)):
        there, missing = missing, 2 * missing
    while missing - there > 1:
        middle = (there + missing) // 2
        there, missing = (middle, missing) if bucket.exists(_run_file(digest, middle)) else (there, middle)
    return max(there, 1)


def _run_file(digest: str, run: int) -> str:
    return f"{REQUESTS}/{digest}.{run}"


def _job_id(digest: str, number: int, now: datetime, run: ScheduledRun | None) -> str:
    """Sorts by the time of the request, to the millisecond: the newest result at a place is found by it."""
    kind, _, _ = digest.partition("-")
    what = hashlib.sha256(f"{digest}.{number}".encode()).hexdigest()[:6] if run is None else run.key
    return f"{now:%Y%m%dt%H%M%S}{now.microsecond // 1000:03d}z-{kind}-{what}"


def _first_step(job: Job) -> str:
    return SCORE_PLAN if isinstance(job, ScoreJob) else TRAIN_FIT


def _cluster(settings: Settings) -> str:
    """The stack that a job is put into; empty while nobody can say it: then it is that of the stack which has the bucket."""
    if settings.cluster:
        return settings.cluster
    with contextlib.suppress(redis.RedisError), progress.connect(settings.broker_url) as client:
        return id_in_redis(client)
    return ""


def _send(settings: Settings, task: str, job_id: str) -> BrokerError | None:
    try:
        check_redis(settings.broker_url)
        send(make_app(settings), task, [JobOrder(job_id=job_id)])
    except BrokerError as problem:
        return problem
    return None
