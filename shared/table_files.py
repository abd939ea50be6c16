"""Which files make up a table: a file that ends like one, or those of a folder, by name.

A folder is a table only if it is clear what belongs to it. Names that start with ``.`` or ``_`` are left aside, as Spark and macOS mean
them; so are notes and check sums. Anything else that is not read is refused, since rows may be in it.
"""

import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from shared.bucket import Bucket, FileInfo
from shared.errors import NoTableError, TableError

FileKind = Literal["csv", "csv.gz", "parquet"]
ENDINGS: dict[str, FileKind] = {".csv": "csv", ".csv.gz": "csv.gz", ".parquet": "parquet", ".pq": "parquet"}
_CHOICE = f"Give a file that ends in {', '.join(ENDINGS)}, or a folder of them."

_NO_ROWS = (
    ".md",
    ".txt",
    ".crc",
    ".md5",
    ".sha1",
    ".sha256",
    ".sha512",
    ".sum",
    ".yaml",
    ".yml",
    ".log",
    ".html",
    ".pdf",
    ".png",
    ".sql",
    ".ini",
)
"""Endings of files that lie beside tables and hold no rows."""
_NO_ROWS_NAMED = ("readme", "license", "manifest", "checksums")

MAX_DEPTH, MAX_FOLDERS = 4, 100
"""How deep, and in how many folders, tables are looked for below a folder."""


def kind_of(path: str) -> FileKind | None:
    """The kind of table that a file name promises, or None."""
    ending = _ending_of(path)
    return ENDINGS[ending] if ending else None


def _ending_of(path: str) -> str | None:
    return next((ending for ending in ENDINGS if path.lower().endswith(ending)), None)


def promised_kind(path: str) -> FileKind:
    """The kind of table that a file name promises; raises TableError when it promises none."""
    kind = kind_of(path)
    if kind is None:
        raise TableError(f"{path} is not a table", next_step=_CHOICE)
    return kind


def is_left_aside(name: str) -> bool:
    """True for names that mean nobody's rows: ``._a.csv`` of macOS, ``_SUCCESS`` and ``.part-0.crc`` of Spark."""
    return name.startswith((".", "_")) and not (name.startswith("_") and kind_of(name))


def find_files(bucket: Bucket, table: str) -> list[tuple[FileInfo, FileKind]]:
    """The files of a table in the order of their rows: the file itself, or those of a folder by name.

    Raises:
        TableError: there is no such file or folder, it holds no table, or it is not clear which of its files are the table.
    """
    info = bucket.stat(table)
    if info is not None:
        return [(info, promised_kind(table))]
    by_name = {file.path.rpartition("/")[2]: file for file in bucket.files(table)}
    folders = bucket.folders(table)
    if not by_name and not folders:
        raise NoTableError(f"there is no table {table} in the bucket {bucket.url}", next_step="Check the path.")

    def look(folder: str) -> tuple[list[str], list[str]]:
        return [file.path.rpartition("/")[2] for file in bucket.files(folder)], bucket.folders(folder)

    return [(by_name[name], promised_kind(name)) for name in choose_files(table, list(by_name), folders, look)]


def choose_files(table: str, names: Sequence[str], folders: Sequence[str], look: Callable[[str], tuple[list[str], list[str]]]) -> list[str]:
    """The names of the files in a folder that are its table, in the order of their rows.

    ``look`` gives the names of the files and of the folders in a folder below it.

    Raises:
        TableError: there is none, or something else in the folder may hold rows.
    """
    chosen = [name for name in names if kind_of(name) and not is_left_aside(name)]
    below = _table_below(table, folders, look)
    if below is not None:
        raise _lies_below(table, below, has_files=bool(chosen))
    if not chosen:
        raise NoTableError(f"the folder {table} holds no table", next_step=_CHOICE)
    _refuse_other_files(table, names)
    _refuse_same_twice(table, chosen)
    return chosen


def _refuse_other_files(table: str, names: Iterable[str]) -> None:
    for name in names:
        lower = name.lower()
        if kind_of(name) or is_left_aside(name) or lower.endswith(_NO_ROWS) or lower.startswith(_NO_ROWS_NAMED):
            continue
        raise TableError(
            f"the folder {table} holds the file {name}, which is not read as a table",
            next_step=f"Move it elsewhere; if it holds rows, save it as one of {', '.join(ENDINGS)}.",
        )


def _refuse_same_twice(table: str, chosen: Iterable[str]) -> None:
    seen: dict[str, str] = {}
    for name in chosen:
        stem = name[: -len(_ending_of(name) or "")].lower()
        if stem in seen:
            raise TableError(
                f"the folder {table} holds one table twice: {seen[stem]} and {name}", next_step="Remove one of them, or rename it."
            )
        seen[stem] = name


def _table_below(table: str, folders: Sequence[str], look: Callable[[str], tuple[list[str], list[str]]]) -> str | None:
    """A folder below a folder that holds a table, by its path from there; None if there is none."""
    waiting = [folder for folder in folders if not is_left_aside(folder)]
    looked = 0
    while waiting and looked < MAX_FOLDERS:
        folder = waiting.pop(0)
        looked += 1
        names, within = look(f"{table}/{folder}")
        if any(kind_of(name) and not is_left_aside(name) for name in names):
            return folder
        if folder.count("/") + 1 < MAX_DEPTH:
            waiting += [f"{folder}/{name}" for name in within if not is_left_aside(name)]
    return None


def _lies_below(table: str, below: str, *, has_files: bool) -> TableError:
    if "=" in below:
        return TableError(
            f"the folder {table} is split into folders that are named by a column, like {below}, which are not read as one table",
            next_step="Write it as files with all columns in one folder.",
        )
    what = f"the folder {table} holds a table, and so does" if has_files else f"there is no table {table}, but there is one in"
    return TableError(
        f"{what} its folder {below}",
        next_step=f"Move all files into one folder, or name that one: {shlex.quote(f'{table}/{below}')}",
    )
