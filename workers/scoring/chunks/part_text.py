"""The text of a part, with its statistics, collected piece by piece and written as the files of the part."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from shared.bucket.interface import Bucket
from shared.jobs.files import PartFile
from shared.jobs.folder import JobFolder
from shared.records import FileDigest
from workers.scoring.chunks.rates import NOT_FINITE, OUTSIDE, Scored
from workers.scoring.parts import ALL_DEVICES, DeviceSum, write_file
from workers.scoring.repeated_keys import hash_keys, write_hashes
from workers.tables import output as tables_output
from workers.tables import schema
from workers.tables.streams import BackgroundWriter


@dataclass(kw_only=True)
class PartText:
    """Accumulates a chunk's compressed output and its statistics."""

    path: str
    by_device: bool = True
    predictions: list[bytes] = field(default_factory=list)
    rejects: list[bytes] = field(default_factory=list)
    rows_scored: int = 0
    rows_rejected: int = 0
    rows_unpredicted: int = 0
    rows_clipped: int = 0
    devices: dict[str, DeviceSum] = field(default_factory=dict)
    first_rejects: list[str] = field(default_factory=list)
    key_hashes: list[np.ndarray] = field(default_factory=list)

    def add(self, scored: Scored) -> None:
        """Adds the next rows of the chunk."""
        self.predictions.append(tables_output.compress(tables_output.prediction_text(*scored.columns)))
        if scored.rejects:
            self.rejects.append(tables_output.compress(tables_output.rejects_text(self.path, scored.rejects)))
            more = tables_output.REJECTS_QUOTED - len(self.first_rejects)
            self.first_rejects += [f"{self.path} {reject}" for reject in scored.rejects[:more]]
        self.key_hashes.append(hash_keys(scored.keys))
        self.rows_scored += len(scored.cr)
        self.rows_rejected += len(scored.rejects)
        self.rows_unpredicted += sum(reject.reason in (NOT_FINITE, OUTSIDE) for reject in scored.rejects)
        self.rows_clipped += scored.clipped
        for name, found in _device_sums(scored, by_device=self.by_device).items():
            before = self.devices.get(name, DeviceSum(rows=0, sum_cr=0.0))
            self.devices[name] = DeviceSum(rows=before.rows + found.rows, sum_cr=before.sum_cr + found.sum_cr)


class PartFiles(NamedTuple):
    """The digests of the files of a part."""

    output: FileDigest
    rejects: FileDigest | None


def write_files(folder: JobFolder, index: int, text: PartText) -> PartFiles:
    with _background_calls(folder.bucket) as put:
        put(write_hashes, folder, index, text.key_hashes)
        output = write_file(folder, index, PartFile.PREDICTED, b"".join(text.predictions))
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
    rows = np.bincount(scored.device, minlength=len(schema.DEVICES))
    sums = np.bincount(scored.device, weights=scored.cr, minlength=len(schema.DEVICES))
    return {name: DeviceSum(rows=int(rows[code]), sum_cr=float(sums[code])) for code, name in enumerate(schema.DEVICES)}
