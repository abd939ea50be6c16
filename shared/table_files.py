"""The files of a table: a file with a table's ending, or the files of a folder, by name.

A folder is a table only if its content is unambiguous. Names that start with ``.`` or ``_`` are ignored, by the convention of Spark and
macOS; so are a README, a manifest, checksums, and texts that do not look like a table. Any other unread file is refused, since it may hold
rows; so is a folder with more subfolders than are searched.
"""

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from shared.bucket.interface import Bucket, FileInfo
from shared.errors import NoTableError, TableError

FileKind = Literal["csv", "csv.gz", "csv.zst", "tsv", "tsv.gz", "parquet", "export"]
ENDINGS: dict[str, FileKind] = {
    ".csv": "csv",
    ".csv.gz": "csv.gz",
    ".csv.zst": "csv.zst",
    ".tsv": "tsv",
    ".tsv.gz": "tsv.gz",
    ".parquet": "parquet",
    ".pq": "parquet",
}
WORKBOOK_ENDINGS = (".xlsx", ".xlsm", ".xls")
"""Endings of exports that cannot be plain tables. In a folder of tables they are refused: a workbook beside tables may be its source."""
CHOICE = f"Give a file that ends in {', '.join(ENDINGS)}, or a folder of them."


@dataclass(frozen=True)
class TextForm:
    """The text format of a kind of table."""

    separator: str = ","
    compression: Literal["gzip", "zstd"] | None = None


TEXT_FORMS: dict[FileKind, TextForm] = {
    "csv": TextForm(),
    "csv.gz": TextForm(compression="gzip"),
    "csv.zst": TextForm(compression="zstd"),
    "tsv": TextForm(separator="\t"),
    "tsv.gz": TextForm(separator="\t", compression="gzip"),
}
"""The kinds that are text; Parquet is not."""


_NO_ROWS = (".md", ".crc", ".md5", ".sha1", ".sha256", ".sha512", ".sum", ".yaml", ".yml", ".ini", ".pdf", ".png")
"""Endings of files that accompany tables and hold no rows."""
_COMPANIONS = re.compile(
    r"(readme|licen[cs]e|notice|notes|changelog|manifest|checksums|md5sums|sha(1|256|512)sums|made-up)(\.(txt|rst|json|html?|toml|xml))?"
)
"""Full names of files that people and tools leave next to tables; ``manifest-rows.xlsx`` does not match."""
_TEXTS = (".txt", ".log")
"""Endings of files that hold notes or rows; their first lines decide, except in a folder of notes."""

HEAD_BYTES = 64 * 1024
_SEPARATORS = ",;\t|"
_ONE_NAME, _ONE_NUMBER = re.compile(r"[A-Za-z_]\w*"), re.compile(r"[+-]?\d+([.,]\d+)?")
_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")

MAX_DEPTH, MAX_FOLDERS = 4, 100
"""The limits of the search below a folder: levels, and number of folders."""


@dataclass(frozen=True, kw_only=True)
class FolderReader:
    """Reads the folders of a bucket or of this machine, each by its path."""

    names: Callable[[str], tuple[list[str], list[str]]]
    """The names of the files and of the folders in a folder."""
    head: Callable[[str], bytes]
    """The first ``HEAD_BYTES`` of a file."""


def kind_of(path: str) -> FileKind | None:
    """The kind of table for a file name's ending, or None."""
    ending = _ending_of(path)
    return ENDINGS[ending] if ending else None


def _ending_of(path: str) -> str | None:
    return next((ending for ending in ENDINGS if path.lower().endswith(ending)), None)


def promised_kind(path: str) -> FileKind:
    """The kind of table for a file name's ending; raises TableError when the ending is not a table's."""
    kind = "export" if path.lower().endswith(WORKBOOK_ENDINGS) else kind_of(path)
    if kind is None:
        raise TableError(f"{path} is not a table", next_step=CHOICE)
    return kind


def is_left_aside(name: str) -> bool:
    """Returns True for names that by convention hold no rows: ``._a.csv`` of macOS, ``_SUCCESS`` and ``.part-0.crc`` of Spark."""
    return name.startswith((".", "_")) and not (name.startswith("_") and kind_of(name))


def find_files(bucket: Bucket, table: str) -> list[tuple[FileInfo, FileKind]]:
    """The files of a table in the order of their rows: the file itself, or those of a folder by name.

    Raises:
        TableError: the file or folder does not exist, holds no table, or it is ambiguous which of its files are the table.
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

    def head(path: str) -> bytes:
        with bucket.open(path) as file:
            return file.read(HEAD_BYTES)

    chosen = choose_files(table, list(by_name), folders, FolderReader(names=look, head=head))
    return [(by_name[name], promised_kind(name)) for name in chosen]


def choose_files(table: str, names: Sequence[str], folders: Sequence[str], reader: FolderReader) -> list[str]:
    """The names of the files in a folder that are its table, in the order of their rows.

    Raises:
        TableError: the folder holds no table, or another file in it may hold rows.
    """
    chosen = _tables_among(names)
    below = _look_below(table, folders, reader)
    if below.table is not None:
        raise _lies_below(table, below.table, has_files=bool(chosen))
    if not chosen:
        some = f", nor do the {below.looked:,} folders below it that were looked at" if below.is_cut else ""
        raise NoTableError(f"the folder {table} holds no table{some}", next_step=CHOICE)
    for name in [*_others_among(table, names, reader), *below.others]:
        raise TableError(
            f"the folder {table} holds the file {name}, which is not read as a table",
            next_step=f"Move it elsewhere; if it holds rows, save it as one of {', '.join(ENDINGS)}.",
        )
    if below.is_cut:
        raise TableError(
            f"the folder {table} has more folders below it than are looked at ({MAX_FOLDERS} folders, {MAX_DEPTH} deep), "
            "and they may hold rows",
            next_step="Move its files into a folder of their own, without folders.",
        )
    _refuse_same_twice(table, chosen)
    return chosen


def _tables_among(names: Iterable[str]) -> list[str]:
    return [name for name in names if kind_of(name) and not is_left_aside(name)]


def _others_among(folder: str, names: Iterable[str], reader: FolderReader) -> Iterator[str]:
    """Yields the files of a folder that are not read and may hold rows."""
    holds_notes = _COMPANIONS.fullmatch(folder.rpartition("/")[2].lower()) is not None
    for name in names:
        lower = name.lower()
        if kind_of(name) or is_left_aside(name) or lower.endswith(_NO_ROWS) or _COMPANIONS.fullmatch(lower):
            continue
        if not (lower.endswith(_TEXTS) and (holds_notes or _is_prose(reader.head(f"{folder}/{name}")))):
            yield name


def _is_prose(head: bytes) -> bool:
    """Returns True for a text whose first lines do not look like a table."""
    if _NO_TEXT.search(head):  # compressed, or two bytes per character
        return False
    lines = [line.strip() for line in head.decode(errors="replace").lstrip("\ufeff").splitlines() if line.strip()][:2]
    if not lines:
        return True
    for separator in _SEPARATORS:
        if separator in lines[0] and lines[-1].count(separator) == lines[0].count(separator):
            return False
    return not (_ONE_NAME.fullmatch(lines[0]) and _ONE_NUMBER.fullmatch(lines[-1]))


def _refuse_same_twice(table: str, chosen: Iterable[str]) -> None:
    seen: dict[str, str] = {}
    for name in chosen:
        stem = name[: -len(_ending_of(name) or "")].lower()
        if stem in seen:
            raise TableError(
                f"the folder {table} holds one table twice: {seen[stem]} and {name}", next_step="Remove one of them, or rename it."
            )
        seen[stem] = name


@dataclass(kw_only=True)
class _Below:
    """The search result for the folders below a folder; paths are relative to it."""

    table: str | None = None
    """The first folder that holds a table."""
    others: list[str] = field(default_factory=list)
    """Files that are not read and may hold rows, from the first folder that has any."""
    looked: int = 0
    is_cut: bool = False
    """True when some folders were not searched."""


def _look_below(table: str, folders: Sequence[str], reader: FolderReader) -> _Below:
    """Searches the folders below a folder, up to the first table."""
    below = _Below()
    waiting = [folder for folder in folders if not is_left_aside(folder)]
    while waiting:
        if below.looked == MAX_FOLDERS:
            below.is_cut = True
            return below
        folder = waiting.pop(0)
        below.looked += 1
        names, within = reader.names(f"{table}/{folder}")
        if _tables_among(names):
            below.table = folder
            return below
        below.others = below.others or [f"{folder}/{name}" for name in _others_among(f"{table}/{folder}", names, reader)]
        deeper = [f"{folder}/{name}" for name in within if not is_left_aside(name)]
        if folder.count("/") + 1 < MAX_DEPTH:
            waiting += deeper
        elif deeper:
            below.is_cut = True
    return below


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
