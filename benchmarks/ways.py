"""Other ways of doing the same job, each written to be fast; libraries and release are loaded before the measurement."""

import contextlib
import functools
import importlib.util
import multiprocessing
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pandas as pd

from benchmarks import kernels
from benchmarks.lanes import BenchmarkError, Score, Task
from model_store.store import Release
from shared.index_format import DEVICES
from shared.table_files import promised_kind
from workers.runtime.memory import keep_freed_memory

RESULT = "prediction_output.csv.gz"

Item = TypeVar("Item")


def has_dask() -> bool:
    """Returns True if Dask and its scheduler are installed."""
    return all(importlib.util.find_spec(name) for name in ("dask", "distributed"))


# --- the old service ---------------------------------------------------------------------------------------------------------


def predicted(table: pd.DataFrame, release: Release) -> pd.DataFrame:
    """Scores a raw table like the old service: flags for the device, the definition's own preparation, its predict."""
    codes = table["device"].map({name: code for code, name in enumerate(DEVICES)})
    flags = pd.DataFrame({"computer": (codes == 0).astype("int8"), "smartphone": (codes == 1).astype("int8")})
    prepared = pd.concat([flags, table.drop(columns="device")], axis=1)
    features, _, problem = release.definition.data_preparation(prepared, target_col=None)
    if problem is not None:
        raise problem
    return pd.DataFrame({"entity_id": table["entity_id"], "device": codes, "cr": release.model.predict(features)})


@contextlib.contextmanager
def old_service(_processes: int) -> Iterator[Score]:
    """One process: pandas reads the whole table, the model predicts with stock LightGBM, pandas writes gzip."""

    def score(task: Task) -> tuple[list[Path], dict[str, float]]:
        release = kernels.stock_release_of(task.bucket, task.release)
        steps = _Steps()
        with steps.time("read"):
            parts = [_read(file) for file in kernels.files_of(task.table)]
            table = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
            del parts
        with steps.time("predict"):
            scored = predicted(table, release)
        with steps.time("write"):
            scored.to_csv(task.out / RESULT, index=False, compression="gzip")
        return [task.out / RESULT], steps.seconds

    yield score


def _read(file: Path) -> pd.DataFrame:
    return pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file)


# --- Dask --------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def dask(processes: int) -> Iterator[Score]:
    """A local cluster with one thread per process; partitions are read, scored with stock LightGBM and written as gzip parts."""
    import dask.dataframe as dd
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=processes, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as cluster,
        Client(cluster),
    ):

        def score(task: Task) -> tuple[list[Path], dict[str, float]]:
            table = _open(dd, task.table)
            meta = pd.DataFrame(
                {"entity_id": pd.Series(dtype="int64"), "device": pd.Series(dtype="int64"), "cr": pd.Series(dtype="float64")}
            )
            scored = table.map_partitions(_predicted_there, task.bucket, task.release, meta=meta)
            scored.to_csv(str(task.out / "part-*.csv.gz"), index=False, compression="gzip")
            return sorted(task.out.iterdir()), {}

        yield score


def _open(dd: ModuleType, table: Path) -> Any:  # noqa: ANN401 - Dask has no types
    kinds = {promised_kind(file.name) for file in kernels.files_of(table)}
    paths = [str(file) for file in kernels.files_of(table)]
    if kinds == {"parquet"}:
        return dd.read_parquet(paths, split_row_groups=True)
    # gzip cannot be read from its middle
    return dd.read_csv(paths, blocksize=None) if kinds == {"csv.gz"} else dd.read_csv(paths)


def _predicted_there(table: pd.DataFrame, bucket: Path, release: str) -> pd.DataFrame:
    return predicted(table, kernels.stock_release_of(bucket, release))


# --- a bare pool with our kernels ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def bare_pool(processes: int) -> Iterator[Score]:
    """Our kernels in a process pool, with digests and checks, but without queue, job folder, manifest and recovery from kills."""
    keep_freed_memory()  # as our workers do
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=keep_freed_memory) as pool:

        def score(task: Task) -> tuple[list[Path], dict[str, float]]:
            numbered = enumerate(kernels.cut(task.table, task.out))
            # submitted as they are cut: the first chunks are scored while the table is still read
            parts = [pool.submit(_score_piece, piece, task, task.out / f"part-{number:06d}") for number, piece in numbered]
            kernels.join([part.result() for part in parts], task.out / RESULT)
            return [task.out / RESULT], {}

        yield score


def _score_piece(piece: kernels.Piece, task: Task, part: Path) -> kernels.Part:
    release = kernels.release_of(task.bucket, task.release)
    scored = [kernels.predict(release, rows) for rows in kernels.read(piece, kernels.fetch(piece), release)]
    member = b"".join(kernels.compress(kernels.text_of(rows)) for rows in scored)
    return kernels.write(part, member, sum(len(rows.cr) for rows in scored))


@contextlib.contextmanager
def kernels_alone(_processes: int) -> Iterator[Score]:
    """Our kernels one after another in one process: the total work by step."""
    keep_freed_memory()

    def score(task: Task) -> tuple[list[Path], dict[str, float]]:
        release = kernels.release_of(task.bucket, task.release)
        steps = _Steps()
        parts: list[kernels.Part] = []
        for piece in steps.each("cut", kernels.cut(task.table, task.out)):
            with steps.time("fetch"):
                data = kernels.fetch(piece)
            for rows in steps.each("read", kernels.read(piece, data, release)):
                with steps.time("predict"):
                    scored = kernels.predict(release, rows)
                with steps.time("text"):
                    text = kernels.text_of(scored)
                with steps.time("compress"):
                    member = kernels.compress(text)
                with steps.time("write"):
                    parts.append(kernels.write(task.out / f"part-{len(parts):06d}", member, len(scored.cr)))
        with steps.time("join"):
            kernels.join(parts, task.out / RESULT)
        return [task.out / RESULT], steps.seconds

    yield score


class _Steps:
    """Adds up the seconds of each step."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def time(self, step: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._seconds[step] += time.perf_counter() - began

    def each(self, step: str, items: Iterator[Item]) -> Iterator[Item]:
        """Yields the items, and measures the time until each arrives."""
        while True:
            with self.time(step):
                item = next(items, None)
            if item is None:
                return
            yield item

    @property
    def seconds(self) -> dict[str, float]:
        return dict(self._seconds)


OTHERS = {"old": old_service, "dask": dask, "pool": bare_pool, "kernels": kernels_alone}
"""The ways other than ours, by name."""


@functools.cache
def read_result(files: tuple[Path, ...]) -> pd.DataFrame:
    """Reads the output of a way."""
    types = {"entity_id": "int64", "device": "int64", "cr": "float64"}
    return pd.concat([pd.read_csv(file, dtype=types) for file in files], ignore_index=True)


def check_same(ours: list[Path], theirs: list[Path], what: str) -> None:
    """Raises BenchmarkError unless both have exactly the same numbers in the same order."""
    one, other = read_result(tuple(ours)), read_result(tuple(theirs))
    if len(one) != len(other):
        raise BenchmarkError(f"{what} gives {len(other):,} rows, ours {len(one):,}")
    for column in ("entity_id", "device", "cr"):
        differ = (one[column] != other[column]).to_numpy()
        if differ.any():
            row = int(differ.argmax())
            raise BenchmarkError(
                f"{what} gives another {column} than ours in {differ.sum():,} rows, first in row {row + 1:,}: "
                f"{other[column][row]!r}, not {one[column][row]!r}"
            )


def release_memory() -> None:
    """Drops the cached results of ``read_result``."""
    read_result.cache_clear()
