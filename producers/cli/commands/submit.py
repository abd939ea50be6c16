"""The commands ``train`` and ``score``."""

from datetime import date
from typing import TYPE_CHECKING

import click

from producers.cli.options import Day, Share
from producers.display.terminal import json_option, open_bucket_here, say, warn, warn_of_forced
from shared.errors import RequestError

# rich, celery and redis are imported by the commands that use them, so that --help is fast
if TYPE_CHECKING:
    from shared.bucket.interface import Bucket
    from shared.records import Promote
from producers.cli.after_enqueue import after_enqueue, again_option, wait_option

DEFAULT_MODEL = "v1"
"""The default of ``MODEL_VER``."""

CONFIG_OF_A_SEARCH = """\b
The config of a search, which runs each candidate and fold as its own task:
    search: grid               grid; or random, or optuna, with candidates: 40 and seed: 1
    folds: 3                   of the latest weeks; of groups of keywords where there is one week
    stop_early: true           candidates that are clearly worse get no further folds (the default)
    parameters:
      num_leaves: [15, 31, 63]
      learning_rate: {low: 0.01, high: 0.3, log: true}    a range, for random and optuna
"""


@click.command(epilog=CONFIG_OF_A_SEARCH)
@click.argument("definition", required=False)
@click.option("--train", "train_table", help="Training table.  [default: the newest data/train/YYYY/MM/DD/train.* of the bucket]")
@click.option("--eval", "eval_table", help="Table of a later time to evaluate the release on.")
@click.option("--alias", help="Alias to point to the release, for example champion.")
@click.option(
    "--promote",
    type=click.Choice(["never", "auto", "always"]),
    default="never",
    show_default=True,
    help="Point champion to the release: auto if it beats the champion and every naive predictor beyond chance.",
)
@click.option("--config", help="Search for the best parameters first: a YAML file in the bucket or on this machine, see below.")
@click.option("--force", is_flag=True, help="Train on a table that is refused as too small or implausible; the release records it.")
@click.option("--max-left-out", type=Share(), help="Share of the rows, or of the clicks, that a training may leave out.  [default: 0.01]")
@again_option
@wait_option
@json_option
def train(
    definition: str | None,
    train_table: str | None,
    eval_table: str | None,
    alias: str | None,
    promote: "Promote",
    config: str | None,
    force: bool,
    max_left_out: float | None,
    again: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Train a definition and publish a release of it.

    DEFINITION defaults to the one that MODEL_VER names, else v1.

    \b
    Example:
        scoring train v2
        scoring train v2 --train week30.csv.gz --eval week31.csv.gz --promote auto
        scoring train v2 --train week30.csv.gz --eval week31.csv.gz --alias champion
        scoring train v2 --config config/v2/params.yaml
    """
    from producers.enqueue.train import enqueue_train

    if eval_table is not None and train_table is None:
        raise RequestError("--eval names a table but --train does not", next_step="Name both, or neither.")
    settings, bucket = open_bucket_here()
    done = enqueue_train(
        settings,
        bucket,
        definition=settings.model_ver if definition is None else definition,
        train=train_table,
        eval_table=eval_table,
        alias=alias,
        promote=promote,
        config=config,
        force=force,
        max_left_out=max_left_out,
        again=again,
    )
    after_enqueue(settings, bucket, done, wait=wait, as_json=as_json)


@click.command()
@click.argument("table")
@click.option("--model", help="Definition, release or alias: v1, v1@20261123T101500Z-9bfad3, champion.  [default: MODEL_VER, else v1]")
@click.option("--date", "day", type=Day(), help="Day of the result.  [default: that of the table's folder, else today]")
@click.option("--chunk-rows", type=int, help="Maximum rows of a chunk.  [default: by the size of the table]")
@click.option("--max-reject-share", type=Share(), help="Share of rows that may be rejected before the job fails.  [default: 0.01]")
@click.option("--max-rejects", type=int, help="Rows that may be rejected before the job fails.  [default: any number]")
@click.option("--interval", is_flag=True, help="Write cr_low and cr_high after cr, if the model has intervals.")
@click.option("--channel", help="Publish on this channel too, if the guard lets the result pass, for example live.")
@click.option("--guard", type=click.Choice(["on", "off"]), default="on", show_default=True, help="off: publish whatever the guard finds.")
@click.option("--reason", default="", help="Why the guard is off; kept in the manifest and shown in the notice.")
@click.option("--fix", "fixes", metavar="JOB", help="TABLE holds corrected rows, which replace this job's rejects.")
@again_option
@wait_option
@json_option
def score(
    table: str,
    model: str | None,
    day: date | None,
    chunk_rows: int | None,
    max_reject_share: float | None,
    max_rejects: int | None,
    interval: bool,
    channel: str | None,
    guard: str,
    reason: str,
    fixes: str | None,
    again: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Score TABLE: a csv, tsv or Parquet file, or a folder of them.

    The table is in the bucket or on this machine.

    With --fix JOB, TABLE is a csv file of corrected rows, which `scoring results rejects JOB --rows FILE` writes for you to correct. They
    are scored with that job's release, and published with its other rows as a new revision of its result. The job's limit of rejects
    applies again; there is no limit if its rejects were accepted.

    \b
    Example:
        scoring score data/predict/input/2026/11/23 --model champion
        scoring score keywords.parquet --model v2 --date 2026-11-23
        scoring score keywords.parquet --model v3 --interval
        scoring score data/predict/input/2026/11/23 --model champion --channel live
        scoring score fixed.csv --fix 20261123t101500000z-score-9bfad3
    """
    from producers.enqueue.fix import enqueue_fix
    from producers.enqueue.score import enqueue_score
    from producers.enqueue.sources import check_day
    from shared.catalog.aliases import resolve
    from shared.jobs.messages import REJECT_SHARE

    if fixes is not None and ((model, day, chunk_rows, channel) != (None, None, None, None) or interval):
        raise RequestError(
            "--fix takes the model, the date, the chunks, the interval and the channel of the job that it fixes",
            next_step="Leave out --model, --date, --chunk-rows, --interval and --channel.",
        )
    guard_off = _reason_without_guard(guard, channel=channel, reason=reason)
    settings, bucket = open_bucket_here()
    if fixes is not None:
        from producers.job_names import find_job
        from producers.results.uncorrected import warning_of_uncorrected

        fixes = find_job(bucket, fixes, scores=True)
        done = enqueue_fix(
            settings, bucket, job_id=fixes, rows=table, max_reject_share=max_reject_share, max_rejects=max_rejects, again=again
        )
        if warning := warning_of_uncorrected(bucket, fixes, table):
            warn(warning)
        after_enqueue(settings, bucket, done, wait=wait, as_json=as_json)
        return
    if day is not None:
        check_day(bucket, table, day)
    done = enqueue_score(
        settings,
        bucket,
        table=table,
        model=settings.model_ver if model is None else model,
        day=day,
        chunk_rows=chunk_rows,
        max_reject_share=REJECT_SHARE if max_reject_share is None else max_reject_share,
        max_rejects=max_rejects,
        interval=interval,
        channel=channel,
        guard_off=guard_off,
        again=again,
    )
    if guard_off and channel is not None:
        warn(_warning_without_guard(bucket, channel))
    warn_of_forced(bucket, resolve(bucket, settings.model_ver if model is None else model))
    if model is None:
        why = "the default" if settings.model_ver == DEFAULT_MODEL else "which MODEL_VER names"
        say(f"Model {settings.model_ver}, {why}; another one is taken with --model, such as --model champion.", err=True)
    after_enqueue(settings, bucket, done, wait=wait, as_json=as_json)


def _warning_without_guard(bucket: "Bucket", channel: str) -> str:
    from shared.catalog.channels import channel_changes

    now = next(channel_changes(bucket, channel), None)
    if now is None or not now.pinned:
        return f"the guard is off: the result is shown on {channel} whatever the guard finds"
    return (
        f"the guard is off, but {channel} is pinned to the result of job {now.job_id} by {now.by} ({now.reason}), so the result is held. "
        f"End the pin with: scoring results unpin {channel}"
    )


def _reason_without_guard(guard: str, *, channel: str | None, reason: str) -> str:
    """Returns why the guard is off; empty if it is on."""
    if guard == "on":
        if reason:
            raise RequestError("--reason says why the guard is off, and it is on", next_step="Leave out --reason, or add --guard off.")
        return ""
    if channel is None:
        raise RequestError("--guard off needs a channel: without one, no guard judges the result", next_step="Leave out --guard.")
    if not reason.strip():
        raise RequestError("--guard off needs a reason", next_step='Say why, as in: --guard off --reason "first night of a new shop"')
    return reason
