"""Draws the picture of a verdict into the revision of its result."""

from collections.abc import Sequence

import structlog

from shared.bucket.interface import Bucket
from shared.catalog.manifests import ResultManifest
from shared.guard.verdict import GUARD_REPORT, GuardVerdict, Outcome
from workers.guard.report.page import make_page
from workers.guard.report.picture import read_picture

log = structlog.get_logger()


def draw_report(bucket: Bucket, manifest: ResultManifest, verdict: GuardVerdict, held_because: Sequence[str]) -> str:
    """Draws what the guard found about a result that is held, or published with warnings, unless it is there; returns the path.

    It explains a verdict and decides nothing: without a page, for whatever reason, it returns an empty text.
    """
    if verdict.outcome == Outcome.PASS and not held_because:
        return ""
    path = _path(manifest)
    try:
        if not bucket.exists(path):
            bucket.write(path, make_page(read_picture(bucket, manifest, verdict, held_because)).encode())
    except Exception as error:  # noqa: BLE001 - whatever a page meets must neither hold, fail nor publish a result
        log.warning("the report of the guard cannot be drawn", path=path, error=f"{type(error).__name__}: {error}"[:500])
        return ""
    return path


def remove_report(bucket: Bucket, manifest: ResultManifest) -> None:
    """Removes the page of a verdict that is about to be replaced."""
    bucket.delete(_path(manifest))


def _path(manifest: ResultManifest) -> str:
    return f"{manifest.revision}/{GUARD_REPORT}"
