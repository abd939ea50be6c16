"""Decides whether a text is a plain table or the export of a platform."""

from collections.abc import Callable

from shared.bucket.interface import Bucket
from shared.errors import TableError
from shared.table_files import FileKind
from workers.tables.formats import EXPORT, format_of

_MAY_BE_EXPORTS = ("csv", "tsv")


def kind_to_read(bucket: Bucket, path: str, kind: FileKind, accepts: Callable[[list[str]], object]) -> FileKind:
    """Returns the kind by which a file can be read: ``export`` for a text that is refused as a plain table and accepted as an export.

    Args:
        bucket: the bucket that holds the file.
        path: the file.
        kind: the kind by its name.
        accepts: raises TableError for columns that are not those that are needed.

    Raises:
        TableError: the file can be read as neither.
    """
    if kind not in _MAY_BE_EXPORTS:
        return kind
    columns = None
    try:
        columns = _columns(bucket, path, kind)
        accepts(columns)
    except TableError as refused:
        exported = _columns(bucket, path, EXPORT.kind)
        if exported == columns:
            raise refused from None
        accepts(exported)
        return EXPORT.kind
    return kind


def _columns(bucket: Bucket, path: str, kind: FileKind) -> list[str]:
    with bucket.open(path) as raw:
        return format_of(kind).columns(raw, path)
