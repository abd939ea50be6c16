"""Reads a training table whole: the checked rows, and what happened to each of them."""

import functools
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
import pandas as pd

from model_store.evaluation import Outcomes
from shared.bucket import Bucket, FileInfo
from shared.errors import TableError
from shared.manifests import KEYS, Column, FileDigest, TableFingerprint
from shared.table_files import FileKind, find_files
from workers import tables
from workers.planning import MAX_CHUNK_BYTES, ChunkSize, Hashing, open_csv, open_parquet, refusing_bad_gzip, unpacked

MAX_REJECT_SHARE = 0.01
"""A training table with a larger share of rows that cannot be used is refused."""

ROWS_AT_ONCE = 65_536

RATE, CLICKS, CONVERSIONS, WEEK = tables.LABELS


@dataclass(frozen=True, kw_only=True)
class TrainingTable:
    """A whole table in memory, with what happened beside what may explain it."""

    frame: pd.DataFrame
    """``cr``, ``entity_id``, ``computer``, ``smartphone`` and the features, as ``data_preparation`` takes them."""
    outcomes: Outcomes
    """Conversions are capped at the clicks; a prepared table, which has no clicks, counts one for each row."""
    columns: list[Column]
    """The features, in the order of the frame."""
    fingerprint: TableFingerprint
    week: np.ndarray | None = None
    """The week of each row, where the table has such a column and it was asked for."""

    @functools.cached_property
    def features(self) -> pd.DataFrame:
        """The frame without ``cr``, as a model is given it to predict; its values are not copied."""
        return self.frame.iloc[:, 1:] if self.frame.columns[0] == RATE else self.frame.drop(columns=RATE)

    def only(self, rows: np.ndarray) -> "TrainingTable":
        """The table of these rows alone, given as a mask."""
        happened = self.outcomes
        return TrainingTable(
            frame=self.frame[rows].reset_index(drop=True),
            outcomes=Outcomes(
                entity_id=happened.entity_id[rows],
                device=None if happened.device is None else happened.device[rows],
                conversions=happened.conversions[rows],
                clicks=happened.clicks[rows],
            ),
            columns=self.columns,
            fingerprint=self.fingerprint,
            week=None if self.week is None else self.week[rows],
        )


def read_training_table(  # noqa: PLR0913 - a definition says three things of its columns
    bucket: Bucket,
    path: str,
    wanted: Sequence[str] | None,
    columns: list[Column] | None = None,
    *,
    keys: tuple[str, ...] = KEYS,
    text: Sequence[str] = (),
    with_week: bool = False,
) -> TrainingTable:
    """Read a whole table, raw (Clicks and Conversions) or prepared (cr).

    ``wanted`` names the features that the definition asks for (None: all that the table offers), ``keys`` the columns that name a row,
    ``text`` the features that are text; ``columns`` are the features that were settled by an earlier table.

    Raises:
        TableError: it cannot be read, has no target, lacks a column, or too many of its rows cannot be used.
    """
    digests: dict[str, FileDigest] = {}
    blocks: list[tables.Rows] = []
    unused: list[str] = []
    labels: list[Column] = []
    for info, kind in find_files(bucket, path):
        with bucket.open(info.path) as raw:
            hashed = Hashing(raw)
            names, reading = _open(hashed, info, kind)
            columns = columns or choose_columns(names, info.path, wanted, keys, text)
            labels = labels or _labels(names, info.path, with_week=with_week)
            layout = tables.layout_for(info.path, names, columns, labels, keys=keys)
            for rows in reading.rows(layout):
                blocks.append(_with_clicks(rows, unused))
                unused += map(str, rows.rejects)
            digests[info.path] = hashed.digest()
    used = sum(len(rows.frame) for rows in blocks)
    if not used or len(unused) > MAX_REJECT_SHARE * (used + len(unused)):
        shown = "; ".join(unused[: tables.REJECTS_QUOTED]) or "it has a header but no row with clicks"
        raise TableError(
            f"{len(unused):,} of {used + len(unused):,} rows of {path} cannot be used to train: {shown}",
            next_step="Mend the table and train again.",
        )
    fingerprint = TableFingerprint(path=path, files=digests, rows=used, rejected=len(unused))
    return _joined(blocks, columns or [], fingerprint, keys)


def choose_columns(
    names: Sequence[str], path: str, wanted: Sequence[str] | None, keys: Sequence[str] = KEYS, text: Sequence[str] = ()
) -> list[Column]:
    """The features to train with: those wanted, or all that the table offers.

    Raises:
        TableError: a wanted one is not there, or there is none at all.
    """
    offered = tables.feature_columns(names, keys, text)
    by_name = {column.name: column for column in offered}
    missing = [name for name in [*(wanted or []), *text] if name not in by_name]
    if missing or all(column.name in tables.FLAGS for column in offered):
        what = f"lacks the column {missing[0]}" if missing else "has no feature beside the device"
        raise TableError(f"{path} {what}", next_step="Add it to the table, or train another definition.")
    return offered if wanted is None else [by_name[name] for name in wanted]


@dataclass(frozen=True, kw_only=True)
class _CsvReading:
    pieces: Iterator[tuple[bytes, int]]

    def rows(self, layout: tables.Layout) -> Iterator[tables.Rows]:
        for data, line in self.pieces:
            yield tables.read_csv_rows(data, layout, line)


@dataclass(frozen=True, kw_only=True)
class _ParquetReading:
    raw: IO[bytes]
    count: int

    def rows(self, layout: tables.Layout) -> Iterator[tables.Rows]:
        reader = tables.ParquetReader(self.raw, layout, self.count)
        for start in range(0, self.count, ROWS_AT_ONCE):
            yield reader.rows(start, min(start + ROWS_AT_ONCE, self.count))


def _open(hashed: Hashing, info: FileInfo, kind: FileKind) -> tuple[list[str], _CsvReading | _ParquetReading]:
    if kind == "parquet":
        raw = io.BytesIO(hashed.read())
        with open_parquet(raw, info.path) as file:
            return file.schema_arrow.names, _ParquetReading(raw=raw, count=file.metadata.num_rows)
    names, cuts = open_csv(unpacked(hashed) if kind == "csv.gz" else hashed, info.path, ChunkSize(bytes=MAX_CHUNK_BYTES, rows=None))
    return names, _CsvReading(pieces=((cut.data.tobytes(), cut.first_line) for cut in refusing_bad_gzip(cuts, info.path)))


def _labels(names: Sequence[str], path: str, *, with_week: bool) -> list[Column]:
    for labels in ([CLICKS, CONVERSIONS], [RATE]):
        if all(label in names for label in labels):
            week = [WEEK] if with_week and WEEK in names else []
            return [Column(name=label, type="number") for label in [*labels, *week]]
    raise TableError(
        f"{path} has nothing to learn from: neither {CLICKS} and {CONVERSIONS} nor {RATE}",
        next_step="Train on a table with one of them; a table to score needs none.",
    )


def _with_clicks(rows: tables.Rows, unused: list[str]) -> tables.Rows:
    """The rows whose target makes sense; what is wrong with the others is added to ``unused``."""
    frame = rows.frame
    if RATE in frame:
        usable = frame[RATE].between(0, 1).to_numpy()
        reason = f"its {RATE} is not in 0 to 1"
    else:
        # a row without clicks has a weight of nothing: it is left out, and nothing is wrong with it
        rows = _only(rows, ((frame[CLICKS] != 0) | (frame[CONVERSIONS] < 0)).to_numpy())
        frame = rows.frame
        usable = ((frame[CLICKS] > 0) & (frame[CONVERSIONS] >= 0)).to_numpy()
        reason = "it has a negative count"
    unused += [f"line {line}: {reason}" for line in rows.lines[np.flatnonzero(~usable)].tolist()]
    return _only(rows, usable)


def _only(rows: tables.Rows, kept: np.ndarray) -> tables.Rows:
    if kept.all():
        return rows
    return tables.Rows(frame=rows.frame[kept], device=rows.device[kept], lines=rows.lines.only(kept), rejects=rows.rejects)


def _joined(blocks: list[tables.Rows], columns: list[Column], fingerprint: TableFingerprint, keys: Sequence[str]) -> TrainingTable:
    frame = pd.concat([rows.frame for rows in blocks], ignore_index=True)
    own_keys = [name for name in keys if name != tables.DEVICE]
    features = frame[list(dict.fromkeys([*own_keys, *(column.name for column in columns)]))].copy()
    if RATE in frame:
        clicks, conversions = np.ones(len(frame)), frame[RATE].to_numpy()
    else:
        clicks = frame[CLICKS].to_numpy()
        conversions = np.minimum(frame[CONVERSIONS].to_numpy(), clicks)
    features.insert(0, RATE, conversions / clicks)
    outcomes = Outcomes(
        entity_id=_entity_of(frame, own_keys),
        device=np.concatenate([rows.device for rows in blocks]) if tables.DEVICE in keys else None,
        conversions=conversions,
        clicks=clicks,
    )
    week = frame[WEEK].to_numpy() if WEEK in frame else None
    return TrainingTable(frame=features, outcomes=outcomes, columns=columns, fingerprint=fingerprint, week=week)


def _entity_of(frame: pd.DataFrame, keys: Sequence[str]) -> np.ndarray:
    """What stands for the keyword in each row, alike in every table: the entity id, or a digest of the keys beside the device."""
    if list(keys) == [tables.ENTITY]:
        return frame[tables.ENTITY].to_numpy()
    return pd.util.hash_pandas_object(frame[list(keys)], index=False).to_numpy()
