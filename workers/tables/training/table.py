"""Reads a complete training table: the checked rows and their outcomes."""

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from model_store.evaluation.metrics import Observations
from shared.bucket.interface import Bucket
from shared.bucket.unchanged import check_still, unchanged_while_read
from shared.catalog.manifests import KEYS, Column, TableAudit, TableFingerprint
from shared.errors import TableError
from shared.jobs.messages import MAX_LEFT_OUT
from shared.records import FileDigest
from shared.settings import MAX_UNPACKED_RATIO
from shared.table_files import find_files
from workers.tables import output, schema
from workers.tables import rows as table_rows
from workers.tables.compression import UnpackedLimit
from workers.tables.csv.headers import is_title, missing_columns
from workers.tables.exports.recognition import kind_to_read
from workers.tables.formats import TrainingLimits, format_of
from workers.tables.streams import Hashing
from workers.tables.training.audit import Block, audit_table
from workers.tables.training.left_out_rows import LeftOutRow, refuse_written_numbers

MAX_TEXT_BYTES = 256 << 20
"""Memory that the texts of a Parquet table of any size may take, even if the file stores each repeated text only once."""
_ADD_FEATURE = "Add it to the table, or train another definition."
CORRECT = "Correct these rows in the table and train again. To train without them, allow more with --max-left-out."
TRAIN_AGAIN = "Train again once the table is whole."

RATE, CLICKS, CONVERSIONS, WEEK = schema.LABELS


@dataclass(frozen=True, kw_only=True)
class TrainingTable:
    """A complete table in memory: features and outcomes."""

    frame: pd.DataFrame
    """``cr``, ``entity_id``, ``computer``, ``smartphone`` and the features, as ``data_preparation`` receives them."""
    observations: Observations
    """Conversions are capped at the clicks. A prepared table has no clicks; each of its rows counts as one click."""
    columns: list[Column]
    """The features, in the order of the frame."""
    fingerprint: TableFingerprint
    audit: TableAudit = field(default_factory=lambda: TableAudit(has_clicks=True, clicks=0.0, conversions=0.0))
    max_left_out: float = MAX_LEFT_OUT
    """The share of the rows, and of the clicks, that may be left out."""
    week: np.ndarray | None = None
    """The week of each row, if requested and the table has such a column."""

    @functools.cached_property
    def features(self) -> pd.DataFrame:
        """The frame without ``cr``, as a model receives it to predict; the values are not copied."""
        return self.frame.iloc[:, 1:] if self.frame.columns[0] == RATE else self.frame.drop(columns=RATE)

    def only(self, rows: np.ndarray) -> "TrainingTable":
        """Returns the table restricted to the rows of a mask."""
        happened = self.observations
        return TrainingTable(
            frame=self.frame[rows].reset_index(drop=True),
            observations=Observations(
                entity_id=happened.entity_id[rows],
                device=None if happened.device is None else happened.device[rows],
                conversions=happened.conversions[rows],
                clicks=happened.clicks[rows],
            ),
            columns=self.columns,
            fingerprint=self.fingerprint,
            audit=self.audit,
            max_left_out=self.max_left_out,
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
    max_left_out: float = MAX_LEFT_OUT,
) -> TrainingTable:
    """Reads a complete table, raw (Clicks and Conversions) or prepared (cr).

    Args:
        bucket: the bucket that holds the table.
        path: a file or a folder of files.
        wanted: names of the features that the definition requests (None: all that the table offers).
        columns: features that an earlier table determined; they replace ``wanted``.
        keys: the key columns.
        text: names of the features that are text.
        with_week: also read the week of each row, if the table has it.
        max_left_out: the share of the rows, and of the clicks, that may be left out.

    Raises:
        TableError: the table cannot be read, was changed meanwhile, has no target, lacks a column, or too many of its rows are unusable.
    """
    digests: dict[str, FileDigest] = {}
    blocks: list[Block] = []
    left_out: list[LeftOutRow] = []
    labels: list[Column] = []

    def accepts(names: list[str]) -> None:
        labels = _labels(names, path, with_week=with_week)
        schema.table_schema_for(path, names, columns or choose_columns(names, path, wanted, keys, text), labels, keys=keys)

    found = find_files(bucket, path)
    if keys != KEYS:
        found = [(info, kind_to_read(bucket, info.path, kind, accepts)) for info, kind in found]
    files = [(info, format_of(kind)) for info, kind in found]
    limits = TrainingLimits(
        unpacked=UnpackedLimit([info.size for info, form in files if form.is_compressed]),
        count_texts=_TextLimit([info.size for info, form in files if form.stores_texts_once]).take,
    )
    for info, form in files:
        with unchanged_while_read(bucket, info, TRAIN_AGAIN), bucket.open(info.path) as raw:
            hashed = Hashing(raw)
            file = form.read_whole(hashed, info.path, limits)
            columns = columns or choose_columns(file.columns, info.path, wanted, keys, text)
            labels = labels or _labels(file.columns, info.path, with_week=with_week)
            table_schema = schema.table_schema_for(info.path, file.columns, columns, labels, keys=keys)
            in_file = f"{info.path.rpartition('/')[2]} " if len(files) > 1 else ""
            for rows, source in file.rows(table_schema):
                refuse_written_numbers(rows.rejects, source, table_schema, info.path)
                block = _with_clicks(rows, in_file, left_out)
                left_out += [source.left_out(reject, in_file) for reject in rows.rejects]
                blocks.append(block)
            digests[info.path] = hashed.digest()
    for info, _ in files[:-1]:  # the earlier files may have changed while the last one was read
        check_still(bucket, info, TRAIN_AGAIN)
    used = sum(len(block.rows.frame) for block in blocks)
    if not used or len(left_out) > max_left_out * (used + len(left_out)):
        shown = "; ".join(row.text for row in left_out[: output.REJECTS_QUOTED]) or "it has a header but no row with clicks"
        raise TableError(
            f"{len(left_out):,} of {used + len(left_out):,} rows of {path} cannot be used to train: {shown}",
            next_step=f"{CORRECT}{schema.keys_advice(shown)}",
        )
    fingerprint = TableFingerprint(path=path, files=digests, rows=used, rejected=len(left_out))
    table = dataclasses.replace(_joined(blocks, columns or [], fingerprint, keys, left_out), max_left_out=max_left_out)
    _check_left_out(table)
    return table


def _check_left_out(table: TrainingTable) -> None:
    """Raises TableError when the left-out rows hold too many of the clicks: losing the busiest keywords must not go unnoticed."""
    audit, of = table.audit, table.fingerprint
    if audit.left_out_share > table.max_left_out:
        raise TableError(
            f"{of.rejected:,} of {of.rows + of.rejected:,} rows of {of.path} cannot be used to train, and they hold "
            f"{audit.left_out_share:.1%} of its clicks (allowed are {100 * table.max_left_out:g}%): {'; '.join(audit.first_left_out)}",
            next_step=CORRECT,
        )


def choose_columns(
    names: Sequence[str], path: str, wanted: Sequence[str] | None, keys: Sequence[str] = KEYS, text: Sequence[str] = ()
) -> list[Column]:
    """Returns the features to train with: the wanted ones, or all that the table offers.

    Raises:
        TableError: a wanted feature is missing, or the table has no features.
    """
    offered = schema.feature_columns(names, keys, text)
    by_name = {column.name: column for column in offered}
    missing = [name for name in [*(wanted or []), *text] if name not in by_name]
    if missing or all(column.name in schema.FLAGS for column in offered):
        if missing or is_title(names):
            raise missing_columns(missing or [CLICKS, CONVERSIONS], names, path, _ADD_FEATURE)
        raise TableError(f"{path} has no feature beside the device", next_step=_ADD_FEATURE)
    return offered if wanted is None else [by_name[name] for name in wanted]


class _TextLimit:
    """Limits the memory for the texts of a table's Parquet files: a file stores a repeated text once, the frame once per row."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._limit = self._left = max(MAX_TEXT_BYTES, int(MAX_UNPACKED_RATIO * sum(sizes)))

    def take(self, rows: table_rows.Rows, table_schema: schema.TableSchema) -> None:
        """Counts the text bytes of some rows; raises TableError when the limit is exceeded."""
        self._left -= sum(int(rows.frame[name].memory_usage(index=False)) for name in table_schema.texts)
        if self._left < 0:
            raise TableError(
                f"{table_schema.path} holds texts of more than {self._limit >> 20:,} MB in {', '.join(table_schema.texts)}, "
                "more than a table of its size may hold in memory",
                next_step="Shorten these texts, or leave the column out of TEXT and KEYS of the definition.",
            )


def _labels(names: Sequence[str], path: str, *, with_week: bool) -> list[Column]:
    for labels in ([CLICKS, CONVERSIONS], [RATE]):
        if all(label in names for label in labels):
            week = [WEEK] if with_week and WEEK in names else []
            return [Column(name=label, type="number") for label in [*labels, *week]]
    if is_title(names):
        raise missing_columns([CLICKS, CONVERSIONS], names, path)
    raise TableError(
        f"{path} has nothing to learn from: neither {CLICKS} and {CONVERSIONS} nor {RATE}",
        next_step="Train on a table with one of them; a table to score needs none.",
    )


def _with_clicks(rows: table_rows.Rows, in_file: str, left_out: list[LeftOutRow]) -> Block:
    """Returns the rows with a valid target; the others are appended to ``left_out``."""
    frame, unclicked = rows.frame, None
    if RATE in frame:
        clicks = np.ones(len(frame))
        usable = frame[RATE].between(0, 1).to_numpy()
        reason = f"its {RATE} is not in 0 to 1"
    else:
        unclicked = _only(rows, np.asarray((frame[CLICKS] == 0) & (frame[CONVERSIONS] > 0)))
        # a row without clicks has no weight: it is dropped, but it is not an error
        rows = _only(rows, ((frame[CLICKS] != 0) | (frame[CONVERSIONS] < 0)).to_numpy())
        frame = rows.frame
        clicks = frame[CLICKS].to_numpy()
        usable = ((frame[CLICKS] > 0) & (frame[CONVERSIONS] >= 0)).to_numpy()
        reason = "it has a negative count"
    places = np.flatnonzero(~usable)
    for line, weight in zip(rows.lines[places].tolist(), np.abs(clicks[places]).tolist(), strict=True):
        left_out.append(LeftOutRow(text=f"{in_file}line {line}: {reason}", clicks=weight))
    return Block(rows=_only(rows, usable), in_file=in_file, unclicked=unclicked)


def _only(rows: table_rows.Rows, kept: np.ndarray) -> table_rows.Rows:
    if kept.all():
        return rows
    return table_rows.Rows(frame=rows.frame[kept], device=rows.device[kept], lines=rows.lines.only(kept), rejects=rows.rejects)


def _joined(
    blocks: list[Block], columns: list[Column], fingerprint: TableFingerprint, keys: Sequence[str], left_out: Sequence[LeftOutRow]
) -> TrainingTable:
    frame = pd.concat([block.rows.frame for block in blocks], ignore_index=True)
    own_keys = [name for name in keys if name != schema.DEVICE]
    features = frame[list(dict.fromkeys([*own_keys, *(column.name for column in columns)]))].copy()
    if RATE in frame:
        clicks, stated = np.ones(len(frame)), frame[RATE].to_numpy()
    else:
        clicks, stated = frame[CLICKS].to_numpy(), frame[CONVERSIONS].to_numpy()
    conversions = np.minimum(stated, clicks)
    features.insert(0, RATE, conversions / clicks)
    observations = Observations(
        entity_id=_entity_of(frame, own_keys),
        device=np.concatenate([block.rows.device for block in blocks]) if schema.DEVICE in keys else None,
        conversions=conversions,
        clicks=clicks,
    )
    week = frame[WEEK].to_numpy() if WEEK in frame else None
    audit = audit_table(blocks, clicks, stated, left_out, has_clicks=RATE not in frame)
    audit = audit.model_copy(update={"repeated_rows": _repeated(observations, week)})
    return TrainingTable(frame=features, observations=observations, columns=columns, fingerprint=fingerprint, audit=audit, week=week)


def _repeated(observations: Observations, week: np.ndarray | None) -> int:
    """Returns the number of rows that repeat the keys, and the week, of an earlier row."""
    parts = {"keyword": observations.entity_id, "device": observations.device, "week": week}
    keys = pd.DataFrame({name: values for name, values in parts.items() if values is not None})
    return int(keys.duplicated().sum())


def _entity_of(frame: pd.DataFrame, keys: Sequence[str]) -> np.ndarray:
    """Returns an identifier of the keyword in each row, the same in every table: the entity id, or a hash of the keys except the device."""
    if list(keys) == [schema.ENTITY]:
        return frame[schema.ENTITY].to_numpy()
    return pd.util.hash_pandas_object(frame[list(keys)], index=False).to_numpy()
