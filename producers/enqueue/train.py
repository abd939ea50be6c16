"""Requests to train a release."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from producers.enqueue.deduplication import NO_ID, ScheduledRun, request_digest
from producers.enqueue.sending import Enqueued, checked, enqueue
from producers.enqueue.sources import find_table, newest_training_tables
from shared.bucket.interface import Bucket
from shared.errors import RequestError
from shared.jobs.files import JobFile
from shared.jobs.folder import JobFolder
from shared.jobs.messages import TrainJob
from shared.jobs.search_config import read_config
from shared.records import Promote, check_bucket_path
from shared.settings import Settings


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
    """Asks to train a definition; without ``train``, on the newest tables below ``data/train`` in the bucket.

    ``config`` names the ``params.yaml`` of a parameter search, searched in the bucket first, then on this machine. Its text is copied into
    the job's folder, so later changes of the file do not affect the job. With ``force`` the workers train on a table that they would
    otherwise refuse, and the release records it. ``max_left_out`` is the share of the rows, or of the clicks, of a table that may be left
    out; None for the default. Two requests are equal if they have the same ``run``, or without one, if all other fields are equal.

    Raises:
        RequestError: a field or the config is invalid, or ``promote`` is ``auto`` without an evaluation table.
        TableError: the table does not exist.
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
    sources = [find_table(bucket, path).in_subfolder(name) for name, path in (("train", train), ("eval", eval_table)) if path is not None]
    request: dict[str, Any] = {"definition": definition, "alias": alias}
    if promote != "never":  # without it, the digest stays that of an earlier version
        request["promote"] = promote
    if force:
        request["force"] = force
    if max_left_out is not None:
        request["max_left_out"] = max_left_out
    texts = {} if config is None else {JobFile.PARAMS: _read_config(settings, bucket, config)}

    def job(job_id: str) -> TrainJob:
        folder = JobFolder(bucket, job_id)
        paths = dict(zip(("train", "eval"), (source.place_in(folder) for source in sources), strict=False))
        paths |= {"config": folder.file(JobFile.PARAMS)} if texts else {}
        return checked(TrainJob, request | paths | {"kind": "train", "job_id": job_id, "created": created.isoformat()})

    job(NO_ID)
    digests = {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()}
    digest = request_digest("train", request | digests | {"tables": [source.fingerprint for source in sources]})
    return enqueue(settings, bucket, run.digest if run else digest, job, sources, texts, again=again, run=run)


def _read_config(settings: Settings, bucket: Bucket, config: str) -> bytes:
    """Reads and checks a ``params.yaml`` in the bucket or on this machine."""
    try:
        text = None if Path(config).is_absolute() else bucket.read(check_bucket_path(config))
    except ValueError:  # not a bucket path, so a local one
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
