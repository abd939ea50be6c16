"""Judges the result of a job against what its channel shows."""

import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from model_store.store import read_manifest
from shared.bucket.interface import Bucket
from shared.catalog.channels import ChannelChange
from shared.catalog.manifests import ResultManifest
from shared.catalog.result_index import build_result_index, open_result_index
from shared.catalog.results import FoundResult, inspect_result
from shared.errors import PermanentError, UnreadableIndexError
from shared.guard.config import GuardConfig, GuardMode, read_guard_config
from shared.guard.verdict import ConfigVersion, GuardVerdict, Outcome, read_verdict
from workers.guard.comparison import IndexAndManifest, important_columns
from workers.guard.judging import judge

log = structlog.get_logger()


def judge_result(bucket: Bucket, manifest: ResultManifest, channel: str, shown: ChannelChange | None) -> GuardVerdict:
    """Returns how the guard judges a result against the one that the channel shows now; ``shown`` is the newest change of the channel.

    A base that is gone or damaged, and a configuration that cannot be used, are failures: the result is held unless the channel only warns.
    """
    failures: list[str] = []
    config = _read_config(bucket, failures)
    guard = config.channel(channel)
    is_off = guard.mode == GuardMode.OFF or bool(manifest.guard_off)
    judge_against = functools.partial(
        judge,
        guard,
        channel=channel,
        new=_result(bucket, manifest),
        now=datetime.now(UTC),
        version=ConfigVersion(source=config.source, sha256=config.sha256),
        important_columns=_important_columns(bucket, manifest.release),
        off_reason=manifest.guard_off or None,
    )
    base = None if shown is None else _read_base(bucket, shown, failures)
    # reading the whole base takes as long as comparing with it
    with ThreadPoolExecutor(1) as thread:
        verification = thread.submit(_is_whole, base)
        verdict = judge_against(base=base)
    if base is not None and not verification.result():
        verdict = judge_against(base=_with_built_index(bucket, base, failures))
    more: dict[str, object] = {"compared_with": 0 if shown is None else shown.number}
    if failures and not is_off:
        more |= {"failures": failures, "outcome": Outcome.HOLD if guard.mode == GuardMode.BLOCK else Outcome.WARN}
    return verdict.model_copy(update=more)


def _read_config(bucket: Bucket, failures: list[str]) -> GuardConfig:
    try:
        return read_guard_config(bucket)
    except PermanentError as error:
        log.error("the guard cannot be read: only a channel that warns gets results", error=str(error))
        failures.append(f"{str(error).rstrip('.')}; correct the file, then score the table with --again")
        return GuardConfig()


def _read_base(bucket: Bucket, shown: ChannelChange, failures: list[str]) -> IndexAndManifest | None:
    found = inspect_result(bucket, shown.revision)
    if not isinstance(found, FoundResult) or not found.signed.is_trusted or found.manifest.text_sha256 != shown.text_sha256:
        failures.append(f"the result that the channel shows, {shown.revision}, is gone or damaged, so nothing can be compared with it")
        return None
    try:
        return _result(bucket, found.manifest)
    except UnreadableIndexError as error:
        failures.append(_incomparable(error))
        return None


def _is_whole(base: IndexAndManifest | None) -> bool:
    """Returns False if the index of a base has another content than its manifest says."""
    try:
        if base is not None:
            base.index.verify()
    except UnreadableIndexError:
        return False
    return True


def _with_built_index(bucket: Bucket, base: IndexAndManifest, failures: list[str]) -> IndexAndManifest | None:
    """Returns a base with an index that is built from its predictions, or None if these are damaged as well."""
    try:
        return replace(base, index=build_result_index(bucket, base.manifest))
    except UnreadableIndexError as error:
        failures.append(_incomparable(error))
        return None


def _incomparable(error: UnreadableIndexError) -> str:
    return f"nothing can be compared with the result that the channel shows: {error.message}"


def _result(bucket: Bucket, manifest: ResultManifest) -> IndexAndManifest:
    return IndexAndManifest(
        index=open_result_index(bucket, manifest),
        manifest=manifest,
        table_since=_table_since(bucket, manifest.revision),
    )


def _table_since(bucket: Bucket, revision: str) -> datetime | None:
    """Returns since when the channel had results in a row on the table of a revision, from the verdict beside it."""
    verdict = read_verdict(bucket, revision)
    return None if verdict is None else verdict.table_since


def _important_columns(bucket: Bucket, release: str) -> list[str]:
    try:
        return important_columns(read_manifest(bucket, release))
    except PermanentError:
        return []
