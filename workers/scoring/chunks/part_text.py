"""The text of a part, with its statistics, collected piece by piece and written as the files of the part."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from shared.bucket.interface import Bucket
from shared.catalog.manifests import KEYS
from shared.index_format import DEVICES
from shared.indexing.sorted_rows import SortedRows
from shared.jobs.files import PartFile
from shared.jobs.folder import JobFolder
from shared.records import FileDigest
from workers.guard.index.part_index import IndexedRows, sorted_rows, write_part_index
from workers.scoring.chunks.rates import NOT_FINITE, OUTSIDE, Scored
from workers.scoring.parts import ALL_DEVICES, DeviceSum, digest_of, write_file
from workers.scoring.plan import PlannedChunk
from workers.tables import output as tables_output
from workers.tables.streams import BackgroundWriter


@dataclass(kw_only=True)
class PartText:
    """Accumulates a chunk's compressed output and its statistics."""

    path: str
    keys: tuple[str, ...]
    """The key columns."""
    by_device: bool = True
    predictions: list[bytes] = field(default_factory=list)
    rejects: list[bytes] = field(default_factory=list)
    rows_scored: int = 0
    rows_rejected: int = 0
    rows_unpredicted: int = 0
    rows_clipped: int = 0
    devices: dict[str, DeviceSum] = field(default_factory=dict)
    first_rejects: list[str] = field(default_factory=list)
    pieces: list[Scored] = field(default_factory=list)
    """The scored rows, for the index; without their rejects."""

    def add(self, scored: Scored) -> None:
        """Adds the next rows of the chunk."""
        self.predictions.append(tables_output.compress(tables_output.prediction_text(*scored.columns)))
        if scored.rejects:
            self.rejects.append(tables_output.compress(tables_output.rejects_text(self.path, scored.rejects)))
            more = tables_output.REJECTS_QUOTED - len(self.first_rejects)
            self.first_rejects += [f"{self.path} {reject}" for reject in scored.rejects[:more]]
        if len(scored.cr):
            self.pieces.append(replace(scored, rejects=[]))
        self.rows_scored += len(scored.cr)
        self.rows_rejected += len(scored.rejects)
        self.rows_unpredicted += sum(reject.reason in (NOT_FINITE, OUTSIDE) for reject in scored.rejects)
        self.rows_clipped += scored.clipped
        for name, found in _device_sums(scored, by_device=self.by_device).items():
            before = self.devices.get(name, DeviceSum(rows=0, sum_cr=0.0))
            self.devices[name] = DeviceSum(rows=before.rows + found.rows, sum_cr=before.sum_cr + found.sum_cr)

    def index(self, file: int) -> SortedRows:
        """Returns the rows of the part in key order; ``file`` is the position of their file among those of the table."""
        pieces = self.pieces
        none = [np.empty(0, dtype=np.int64 if name in KEYS else object) for name in self.keys]
        keys = [_joined([piece.keys[place] for piece in pieces], empty) for place, empty in enumerate(none)]
        bounds = [_joined([piece.bounds[side] for piece in pieces], np.empty(0)) for side in range(len(pieces[0].bounds) if pieces else 0)]
        rates = _joined([piece.cr for piece in pieces], np.empty(0))
        indexed = pieces[0].indexed if len(pieces) == 1 else IndexedRows.merged([piece.indexed for piece in pieces])
        return sorted_rows(self.keys, keys, rates, bounds, indexed, file)


def _joined(arrays: list[np.ndarray], empty: np.ndarray) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate([empty, *arrays]) if arrays else empty


class PartFiles(NamedTuple):
    """The digests of the files of a part."""

    output: FileDigest
    rejects: FileDigest | None


def write_files(folder: JobFolder, planned: PlannedChunk, text: PartText) -> PartFiles:
    """Writes the files of a part; it is complete when its record is written, too."""
    index, predictions = planned.index, b"".join(text.predictions)
    output = digest_of(predictions)
    with _background_calls(folder.bucket) as put:
        put(folder.bucket.write, folder.part_file(index, PartFile.PREDICTED), predictions)
        with folder.bucket.writer(folder.part_file(index, PartFile.INDEX)) as out:
            write_part_index(out, text.index(planned.chunk.file), output.sha256)
        rejects = write_file(folder, index, PartFile.REJECTED, b"".join(text.rejects)) if text.rejects else None
    return PartFiles(output, rejects)


@contextlib.contextmanager
def _background_calls(bucket: Bucket) -> Iterator[Callable[..., None]]:
    """Yields a function that runs calls: in a thread on an object store, to overlap the requests. All calls are done at the exit."""
    if not bucket.is_remote:
        yield lambda do, *arguments: do(*arguments)
        return
    with BackgroundWriter() as background:
        yield background.submit
        background.wait()


def _device_sums(scored: Scored, *, by_device: bool) -> dict[str, DeviceSum]:
    if not by_device:
        return {ALL_DEVICES: DeviceSum(rows=len(scored.cr), sum_cr=float(scored.cr.sum()))}
    rows = np.bincount(scored.device, minlength=len(DEVICES))
    sums = np.bincount(scored.device, weights=scored.cr, minlength=len(DEVICES))
    return {name: DeviceSum(rows=int(rows[code]), sum_cr=float(sums[code])) for code, name in enumerate(DEVICES)}
