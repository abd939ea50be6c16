"""Finds the result that a channel shows."""

from shared.bucket.interface import Bucket
from shared.catalog.channels import change_of_named
from shared.catalog.results import FoundResult, inspect_result
from shared.errors import RequestError


def find_shown(bucket: Bucket, named: str) -> FoundResult | None:
    """Returns the result that a channel shows now, as its revision; None if there is no channel of this name.

    Raises:
        RequestError: the result is gone, or its manifest cannot be read.
    """
    now = change_of_named(bucket, named)
    if now is None:
        return None
    found = inspect_result(bucket, now.revision)
    if not isinstance(found, FoundResult):
        raise RequestError(
            f"the result that {named} shows, {now.revision}, is gone or cannot be read",
            next_step=f"See its results with: scoring results history {named}",
        )
    return found
