"""Opens the results that are compared, and finds the row of a key in them."""

import bisect
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from shared.bucket.interface import Bucket
from shared.catalog.held import Decision, read_decision
from shared.catalog.manifests import KEYS, OUTPUTS, ResultManifest
from shared.catalog.paths import REVISIONS
from shared.catalog.result_index import open_whole_index
from shared.catalog.results import FoundResult, UnreadableResult, find_revision, inspect_result
from shared.errors import MessageError, RequestError
from shared.index_format import DEVICE, DEVICES, ENTITY
from shared.jobs.files import JobFile
from shared.jobs.folder import JobFolder
from shared.jobs.states import JobState
from shared.prediction_index import IndexRows, PredictionIndex
from shared.records import decode_long
from workers.scoring.plan import Plan, PlannedChunk, read_plan

KeyValues = tuple[int | str, ...]
_LARGEST_ID = 1 << 63
_WHOLE = re.compile(r"[+-]?[0-9]{1,30}")
_DEVICE_NUMBERS = {name.lower(): number for number, name in enumerate(DEVICES)}


@dataclass(frozen=True, kw_only=True)
class OpenResult:
    """A result with its index and the folder of its job."""

    manifest: ResultManifest
    folder: JobFolder
    index: PredictionIndex

    @functools.cached_property
    def is_held(self) -> bool:
        """True while the result waits for a person."""
        outcome = self.folder.outcome()
        return outcome is not None and outcome.state == JobState.HELD and self.decision is None

    @functools.cached_property
    def decision(self) -> Decision | None:
        """What a person decided about the result when it was held."""
        return read_decision(self.folder)

    @functools.cached_property
    def plan(self) -> Plan | None:
        """The plan of its job; None once it is removed, or if it is damaged."""
        try:
            return read_plan(self.folder)
        except MessageError:
            return None

    def lookup(self, values: KeyValues) -> IndexRows:
        """Returns the rows with these values of the key columns."""
        return self.index.lookup(self.index.key_of(values))

    def file_of(self, rows: IndexRows, position: int) -> str | None:
        """Returns the file of a row; None if the index does not say."""
        place, files = int(rows.file[position]), self.index.files
        return files[place] if 0 <= place < len(files) else None

    def chunk_at(self, file: str, line: int) -> PlannedChunk | None:
        """Returns the chunk that holds a line of a file; None without a plan that knows it."""
        first_lines, indexes = self._chunks_by_file.get(file, ([], []))
        place = bisect.bisect_right(first_lines, line) - 1
        return None if self.plan is None or place < 0 else self.plan.chunk(indexes[place])

    @functools.cached_property
    def _chunks_by_file(self) -> dict[str, tuple[list[int], list[int]]]:
        """First lines and indexes of the chunks of each file."""
        found: dict[str, tuple[list[int], list[int]]] = {}
        if self.plan is not None:
            for index, chunk in enumerate(self.plan.chunks):
                first_lines, indexes = found.setdefault(self.plan.files[chunk.file].path, ([], []))
                first_lines.append(chunk.first_line)
                indexes.append(index)
        return found


def open_result(bucket: Bucket, job_id: str) -> OpenResult:
    """Opens the result of a job; an index of an earlier version is built first.

    Raises:
        RequestError: the job has no result, or its manifest is not trusted.
        UnreadableIndexError: the index and the predictions are damaged.
    """
    manifest = _manifest(bucket, job_id)
    return OpenResult(manifest=manifest, folder=JobFolder(bucket, job_id), index=open_whole_index(bucket, manifest))


def _manifest(bucket: Bucket, job_id: str) -> ResultManifest:
    found = _revision(bucket, job_id)
    if found is None:
        raise RequestError(f"job {job_id} has no result in the bucket {bucket.url}", next_step="List results with: scoring results list")
    if isinstance(found, UnreadableResult):
        raise RequestError(f"{found.path} is not a result manifest: {found.reason}", next_step="List results with: scoring results list")
    if not found.signed.is_trusted:
        raise RequestError(
            f"the manifest of {found.folder} is not trusted: signed: {found.signed}",
            next_step=f"See it with: scoring results show {job_id}",
        )
    is_own = found.folder.startswith(f"{OUTPUTS}/") and found.folder.endswith(f"/{REVISIONS}/{job_id}")
    if not is_own or found.manifest.job_id != job_id or found.manifest.revision != found.folder:
        raise RequestError(f"the manifest in {found.folder} is that of another result", next_step="Score the table again with --again.")
    return found.manifest


def _revision(bucket: Bucket, job_id: str) -> FoundResult | UnreadableResult | None:
    folder = JobFolder(bucket, job_id)
    text = bucket.read(folder.file(JobFile.MANIFEST))
    if text is not None:
        try:
            return inspect_result(bucket, decode_long(ResultManifest, text).revision)
        except MessageError:
            pass  # the revision has a copy
    return find_revision(bucket, job_id)


def key_values(manifest: ResultManifest, given: Sequence[str]) -> KeyValues:
    """Returns the values of the key columns as an index and a table hold them.

    Raises:
        RequestError: these are not the keys of the result, or a value does not fit its column.
    """
    if len(given) != len(manifest.keys):
        names = " ".join(name.upper() for name in manifest.keys)
        raise RequestError(
            f"rows of the result of job {manifest.job_id} are named by {', '.join(manifest.keys)}, and {len(given)} "
            f"value{'' if len(given) == 1 else 's'} came",
            next_step=f"Type: scoring why {names}",
        )
    return tuple(_key_value(name, value) for name, value in zip(manifest.keys, given, strict=True))


def _key_value(name: str, value: str) -> int | str:
    if name not in KEYS:
        return value
    number = int(value) if _WHOLE.fullmatch(value.strip()) else _LARGEST_ID
    if name == DEVICE:
        number = _DEVICE_NUMBERS.get(value.strip().lower(), number)
    if name == DEVICE and not 0 <= number < len(DEVICES):
        raise RequestError(f"{value!r} is not a device", next_step=f"Write {', '.join(DEVICES[:-1])} or {DEVICES[-1]}, or 0, 1 or 2.")
    if name == ENTITY and not -_LARGEST_ID <= number < _LARGEST_ID:
        raise RequestError(f"{value!r} is not the id of a keyword: ids are whole numbers", next_step="Write it as it is in the table.")
    return number


def key_words(manifest: ResultManifest, values: KeyValues) -> dict[str, str]:
    """Returns the key columns and their values in words."""
    return {
        name: DEVICES[value] if name == DEVICE and isinstance(value, int) else str(value)
        for name, value in zip(manifest.keys, values, strict=True)
    }
