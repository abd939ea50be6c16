"""Which files make up a table: a file that ends like one, or those of a folder, by name."""

from typing import Literal

from shared.bucket import Bucket, FileInfo
from shared.errors import TableError

FileKind = Literal["csv", "csv.gz", "parquet"]
ENDINGS: dict[str, FileKind] = {".csv": "csv", ".csv.gz": "csv.gz", ".parquet": "parquet", ".pq": "parquet"}
_CHOICE = f"Give a file that ends in {', '.join(ENDINGS)}, or a folder of them."


def kind_of(path: str) -> FileKind | None:
    """The kind of table that a file name promises, or None."""
    return next((kind for ending, kind in ENDINGS.items() if path.lower().endswith(ending)), None)


def promised_kind(path: str) -> FileKind:
    """The kind of table that a file name promises; raises TableError when it promises none."""
    kind = kind_of(path)
    if kind is None:
        raise TableError(f"{path} is not a table", next_step=_CHOICE)
    return kind


def find_files(bucket: Bucket, table: str) -> list[tuple[FileInfo, FileKind]]:
    """The files of a table in the order of their rows: the file itself, or those of a folder by name.

    Raises:
        TableError: there is no such file or folder, or it holds no table.
    """
    info = bucket.stat(table)
    if info is not None:
        return [(info, promised_kind(table))]
    files = bucket.files(table)
    found = [(file, kind) for file in files if (kind := kind_of(file.path)) is not None]
    if found:
        return found
    if files or bucket.folders(table):
        raise TableError(f"the folder {table} holds no table", next_step=_CHOICE)
    raise TableError(f"there is no table {table} in the bucket {bucket.url}", next_step="Check the path.")
