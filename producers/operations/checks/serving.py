"""The check that the HTTP server's release and result name rows by the same columns."""

from collections.abc import Iterator

from producers.operations.checks.examined import Examined
from producers.operations.checks.finding import Finding, warning
from shared.catalog.aliases import resolve
from shared.catalog.channels import read_channel
from shared.catalog.releases import read_release
from shared.catalog.results import FoundResult, inspect_result
from shared.errors import ModelError, RequestError


def check_serving(examined: Examined) -> Iterator[Finding]:
    """Checks the release and the channel of ``scoring serve`` if both are there; the checks of each report what else is wrong."""
    if examined.bucket is None:
        return
    model, channel = examined.settings.serve_model, examined.settings.serve_channel
    try:
        shown = read_channel(examined.bucket, channel)
        release = read_release(examined.bucket, resolve(examined.bucket, model)).manifest
    except (ModelError, RequestError):
        return
    found = None if shown is None else inspect_result(examined.bucket, shown.revision)
    if isinstance(found, FoundResult) and {*found.manifest.keys} != {*release.keys}:
        shown_keys, own_keys = ", ".join(found.manifest.keys), ", ".join(release.keys)
        yield warning(
            "HTTP",
            f"the result on the channel {channel} names rows by {shown_keys}, the release {release.release} ({model}) by {own_keys}: "
            f"scoring serve computes no row that is not in the result",
            f"Score a table with it: scoring score TABLE --model {model} --channel {channel}, or choose others with --model and --channel.",
        )
