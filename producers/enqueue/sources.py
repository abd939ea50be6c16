"""The table of a request: in the bucket, or on this machine and then copied into the bucket."""

import contextlib
import hashlib
import string
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from shared.bucket.interface import Bucket
from shared.bucket.local import LocalBucket
from shared.catalog.manifests import INPUTS
from shared.errors import NoTableError, RequestError, ScoringError, TableError
from shared.jobs.files import Subfolder
from shared.jobs.folder import JobFolder
from shared.table_files import ENDINGS, HEAD_BYTES, WORKBOOK_ENDINGS, FolderReader, choose_files, find_files, kind_of, promised_kind

TRAINING = "data/train"
THE_INPUT = "prediction_input"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A table that was found in the bucket, or on this machine, from where it is copied into the job's folder."""

    path: str
    """Path inside the bucket; for a local table its name below ``jobs/<id>/input``."""
    files: dict[str, Path]
    """Name -> local file; empty for a table in the bucket."""
    fingerprint: list[tuple[str, str]]
    """Name and digest (or the bucket's stamp) of every file: requests with equal fingerprints have the same table."""
    versions: dict[str, str] = field(default_factory=dict)
    """Path in the bucket -> the version of that file, if the bucket distinguishes versions."""
    local: str = ""
    """The path on this machine, as it was typed; empty for a table in the bucket."""

    def place_in(self, folder: JobFolder) -> str:
        """The path in the bucket where the job will find the table."""
        return folder.file(f"{Subfolder.INPUT}/{self.path}") if self.files else self.path

    def in_subfolder(self, name: str) -> "Source":
        """The same table in its own folder below ``input``: a job may have two tables of the same name."""
        if not self.files:
            return self
        return replace(self, path=f"{name}/{self.path}", files={f"{name}/{file}": at for file, at in self.files.items()})

    def copy_to(self, folder: JobFolder) -> None:
        """Copies the local files into the job's folder."""
        for copy, file in self._copied_files(folder).items():
            folder.bucket.upload(file, copy)

    def copies_in(self, folder: JobFolder) -> dict[str, str]:
        """Path in the job's folder -> the path on this machine of which it is a copy, for the table and each of its files."""
        if not self.files:
            return {}
        return {self.place_in(folder): self.local} | {copy: str(file) for copy, file in self._copied_files(folder).items()}

    def _copied_files(self, folder: JobFolder) -> dict[str, Path]:
        return {folder.file(f"{Subfolder.INPUT}/{name}"): file for name, file in self.files.items()}


def find_table(bucket: Bucket, table: str) -> Source:
    """Finds the table of a path: in the bucket, or else on this machine.

    Raises:
        RequestError: the path is empty, has no name (the current folder is ``.``), or is an address like ``s3://...``.
        TableError: the path exists in neither place, or is not a table.
    """
    if not table.strip(f"/{string.whitespace}"):
        raise RequestError(f"{table!r} is not the name of a table", next_step="Name a file or folder: scoring score --help")
    if "://" in table:
        raise RequestError(
            f"{table} is an address, and a table is named by its path inside the bucket {bucket.url} or on this machine",
            next_step="Name the path alone, like data/predict/input/2026/11/23; which bucket it is in is set in BUCKET_URL.",
        )
    if table == "-":
        raise RequestError(
            "- is not a table: standard input is not read", next_step="Write it into a file and name that: scoring score --help"
        )
    path = table.strip("/") if not Path(table).is_absolute() else ""
    try:
        inside = [info for info, _ in find_files(bucket, path)]
    except (NoTableError, RequestError) as error:
        _refuse_name(bucket, path, error)
        path = _path_inside(bucket, Path(table))
        if not path:
            return _find_local(bucket, Path(table))
        inside = [info for info, _ in find_files(bucket, path)]
    versions = {info.path: info.version for info in inside if info.version}
    return Source(path=path, files={}, fingerprint=[(info.path, info.stamp) for info in inside], versions=versions)


def _refuse_name(bucket: Bucket, path: str, error: ScoringError) -> None:
    """Raises this error if the path exists in the bucket's folder but its name is not UTF-8, which no bucket supports."""
    with contextlib.suppress(OSError, ValueError):
        is_text = path.encode(errors="replace").decode() == path
        if isinstance(bucket, LocalBucket) and not is_text and (bucket.root / path).exists():
            raise error


def _path_inside(bucket: Bucket, local: Path) -> str:
    """The path inside the bucket of a file in the bucket's local folder, as a shell completes it; empty for any other file."""
    if not isinstance(bucket, LocalBucket):
        return ""
    try:
        there = local.resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        return ""
    return there.relative_to(bucket.root).as_posix() if there != bucket.root and there.is_relative_to(bucket.root) else ""


def newest_training_tables(bucket: Bucket) -> tuple[str, str | None]:
    """The paths of ``train`` and, if it exists, ``eval`` in the newest dated folder below ``data/train``.

    Raises:
        TableError: no such folder has a training table.
    """
    for year in _newest_first(bucket, TRAINING):
        for month in _newest_first(bucket, year):
            for day in _newest_first(bucket, month):
                files = {name.partition(".")[0]: info.path for info in bucket.files(day) if kind_of(name := info.path.rpartition("/")[2])}
                if "train" in files:
                    return files["train"], files.get("eval")
    raise TableError(
        f"there is no table {TRAINING}/YYYY/MM/DD/train.csv.gz in the bucket {bucket.url}",
        next_step="Name one: scoring train DEFINITION --train TABLE; or make some: scoring sample",
    )


def _newest_first(bucket: Bucket, folder: str) -> list[str]:
    """The folders of a year, month or day in a folder, the newest first."""
    return [f"{folder}/{name}" for name in reversed(bucket.folders(folder)) if name.isdecimal()]


def _find_local(bucket: Bucket, local: Path) -> Source:
    try:
        return _describe_local(bucket, local)
    except OSError as error:
        where = error.filename or local
        raise TableError(f"{where} cannot be read: {error.strerror}", next_step="Check the path and its permissions.") from error


def _describe_local(bucket: Bucket, local: Path) -> Source:
    if local.is_dir():
        path = _safe(local.resolve().name)
        found = [local / name for name in choose_files(str(local), *_local_names(local), LOCAL_READER)]
        files = {f"{path}/{_safe(file.name)}": file for file in found}
        if len(files) < len(found):
            raise TableError(
                f"the folder {local} holds files whose names differ only in special characters", next_step="Rename them and try again."
            )
    elif local.is_file():
        promised_kind(str(local))
        path = _safe(local.name)
        files = {path: local}
    else:
        raise TableError(
            f"there is no table {local}, neither in the bucket {bucket.url} nor on this machine", next_step="Check the path for a mistake."
        )
    return Source(path=path, files=files, fingerprint=[(name, _sha256(file)) for name, file in files.items()], local=str(local))


def _local_names(folder: Path) -> tuple[list[str], list[str]]:
    """The sorted names of the files and of the folders in a local folder."""
    entries = sorted(folder.iterdir())
    folders = [entry.name for entry in entries if entry.is_dir() and not kind_of(entry.name)]
    return [entry.name for entry in entries if entry.name not in folders], folders


def _head_of(path: str) -> bytes:
    """The first bytes of a local file; for a pipe or device, which may block, bytes that no text has."""
    file = Path(path)
    if not file.is_file():
        return b"\0"
    with file.open("rb") as content:
        return content.read(HEAD_BYTES)


LOCAL_READER = FolderReader(names=lambda folder: _local_names(Path(folder)), head=_head_of)


def _safe(name: str) -> str:
    """A file name that is valid in the bucket and in every message."""
    return "".join(char if char.isalnum() or char in "._-" else "_" for char in name).lstrip(".") or "table"


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def result_place(source: Source, day: date) -> str:
    """The place of a result. A table below ``data/predict/input/<place>`` keeps its place, any other gets the day and its name.

    ``prediction_input`` is the main table of its folder; any other file in the folder adds its name, so that no result replaces another.
    """
    name = source.path.rpartition("/")[2]
    ending = next((ending for ending in (*ENDINGS, *WORKBOOK_ENDINGS) if name.lower().endswith(ending)), "")
    stem = name[: len(name) - len(ending)] if ending else ""
    folder = source.path.removesuffix(f"/{name}") if ending else source.path
    if not source.files and folder.startswith(f"{INPUTS}/"):
        place = folder.removeprefix(f"{INPUTS}/")
        return place if stem in ("", THE_INPUT) else f"{place}/{_safe(stem)}"
    return f"{day:%Y/%m/%d}/{_safe(stem or name)}"


def check_day(bucket: Bucket, table: str, day: date) -> None:
    """Raises RequestError for a table whose folder has another day than the requested one.

    The schedule does not check this: a run may take the table of another day.
    """
    source = find_table(bucket, table)
    place = result_place(source, day)
    if _is_input(source) and not f"{place}/".startswith(f"{day:%Y/%m/%d}/"):
        raise RequestError(
            f"--date {day} contradicts the folder of {source.path}: its result belongs to {place}",
            next_step="Leave out --date, or score a copy of the table from outside data/predict/input.",
        )


def _is_input(source: Source) -> bool:
    """Returns True for a table of the bucket whose folder determines the place of its result."""
    return not source.files and source.path.startswith(f"{INPUTS}/")
