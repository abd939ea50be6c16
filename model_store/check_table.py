"""Reads the first rows of a user's table for the checks of a definition; errors name the column and the line."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from model_store.definitions import Definition
from shared.errors import TableError
from shared.table_files import ENDINGS, TEXT_FORMS, kind_of

ROWS_READ = 1200
"""As many rows as the generated table has: the checks predict them many times."""

DEVICES = {"Computer": 0, "Smartphone": 1, "Tablet": 2, "0": 0, "1": 1, "2": 2}
LABELS = ("cr", "Clicks", "Conversions", "week")
FLAGS = ("computer", "smartphone")


def read_table(file: Path, definition: Definition) -> tuple[pd.DataFrame, np.ndarray]:
    """Returns the first rows of a csv, tsv or Parquet file as ``data_preparation`` receives them, with ``cr``, and the clicks of each row.

    Raises:
        TableError: the file cannot be read, lacks a column, or has a value of the wrong type.
    """
    raw = _read(file)
    clicks, rates = _outcomes(raw, file)
    columns: dict[str, Any] = {"cr": rates}
    columns |= {name: _keys(raw, name, file) for name in definition.keys if name != "device"}
    wanted = list(definition.columns) if definition.columns is not None else [str(name) for name in raw if name not in _taken(definition)]
    if "device" in definition.keys or set(FLAGS) & set(wanted):
        columns |= _flags(raw, file)
    columns |= {name: _feature(raw, name, definition, file) for name in wanted if name not in columns}
    used = clicks > 0
    if not used.any():
        raise TableError(f"{file} has no row with clicks among its first {len(raw):,}", next_step="Check with another table.")
    return pd.DataFrame(columns)[used].reset_index(drop=True), clicks[used]


def _read(file: Path) -> pd.DataFrame:
    try:
        form = TEXT_FORMS.get(kind_of(file.name) or "csv")
        if form is None:
            return pd.read_parquet(file).head(ROWS_READ)
        # pandas needs another library to read Zstandard
        source = pa.input_stream(file, compression="zstd") if form.compression == "zstd" else file
        return pd.read_csv(source, sep=form.separator, nrows=ROWS_READ, dtype=str, keep_default_na=False)
    except (OSError, ValueError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise TableError(
            f"{file} cannot be read: {' '.join(str(error).split())}", next_step=f"Name a file that ends in {', '.join(ENDINGS)}."
        ) from error


def _taken(definition: Definition) -> set[str]:
    return {*LABELS, "device", *(key for key in definition.keys if key not in definition.text)}


def _outcomes(raw: pd.DataFrame, file: Path) -> tuple[np.ndarray, np.ndarray]:
    if {"Clicks", "Conversions"} <= set(raw):
        clicks, conversions = _numbers(raw, "Clicks", file), _numbers(raw, "Conversions", file)
        return clicks, np.minimum(conversions, clicks) / np.where(clicks > 0, clicks, 1)
    if "cr" in raw:
        return np.ones(len(raw)), _numbers(raw, "cr", file)
    raise TableError(f"{file} has neither Clicks and Conversions nor cr", next_step="Check with a table to train on.")


def _keys(raw: pd.DataFrame, name: str, file: Path) -> Any:  # noqa: ANN401 - an array, of numbers or of text
    if name == "entity_id":
        return _numbers(raw, name, file).astype(np.int64)
    return _column(raw, name, file).astype("str")


def _flags(raw: pd.DataFrame, file: Path) -> dict[str, np.ndarray]:
    if set(FLAGS) <= set(raw):
        return {name: _numbers(raw, name, file).astype(np.int8) for name in FLAGS}
    device = _column(raw, "device", file).astype("str").map(DEVICES)
    if device.isna().any():
        first = int(np.flatnonzero(device.isna())[0])
        raise TableError(
            f"{file} line {first + 2}, column device: {raw['device'].iloc[first]!r} is not one of Computer, Smartphone, Tablet"
        )
    return {"computer": (device == 0).to_numpy(np.int8), "smartphone": (device == 1).to_numpy(np.int8)}


def _feature(raw: pd.DataFrame, name: str, definition: Definition, file: Path) -> Any:  # noqa: ANN401
    if name in definition.text:
        return _column(raw, name, file).astype("str")
    numbers = _numbers(raw, name, file)
    binary = name.startswith("att") and name[3:].isdigit() and np.isin(numbers, (0, 1)).all()
    return numbers.astype(np.int8) if binary else numbers


def _numbers(raw: pd.DataFrame, name: str, file: Path) -> np.ndarray:
    numbers = pd.to_numeric(_column(raw, name, file), errors="coerce").to_numpy(np.float64)
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if len(wrong):
        raise TableError(f"{file} line {wrong[0] + 2}, column {name}: {raw[name].iloc[wrong[0]]!r} is not a finite number")
    return numbers


def _column(raw: pd.DataFrame, name: str, file: Path) -> "pd.Series[Any]":
    if name not in raw:
        raise TableError(f"{file} lacks the column {name}, which the definition needs", next_step="Check with a table that has it.")
    return raw[name]
