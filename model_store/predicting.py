"""The only way to ask a model for rates: prepare, predict, and check that there is one number per row, in the order of the rows.

Scoring, training, the comparison of releases and the verification of a saved release all use ``predict_rows``.
"""

import numbers
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from model_store.definitions import Definition
from model_store.foreign_code import ON_A_TABLE, DefinitionError, DefinitionHungError, calling
from shared.errors import TableError

MOST_SEARCH_SECONDS = 20.0
"""Time limit of the search for the first row with which a definition fails; the search predicts each row at most three times."""

NameRow = Callable[[int], str]
"""Describes the row at a position, such as "line 7 of table.csv (entity_id 1005, device 1)"."""


def number_row(position: int) -> str:
    """Describes a row by its number, from 1, if its line is unknown."""
    return f"row {position + 1:,}"


def predict_rows(
    definition: Definition,
    model: Any,  # noqa: ANN401 - a definition's own class
    frame: pd.DataFrame,
    *,
    interval: bool = False,
    name_row: NameRow = number_row,
    table: str = "the table",
) -> list[np.ndarray]:
    """Returns the rates that a model predicts, float64, one per row; then the lower and upper bounds if ``interval`` is true.

    ``frame`` holds the columns of a table that the definition receives (``Definition.columns_of_table``). It is not modified, even if the
    definition modifies its input. Rates are neither clipped nor checked to be finite.

    Raises:
        DefinitionError: the definition failed; the message names its file and line, and the first row that causes the failure.
        TableError: the definition refuses the table.
    """
    asked = _Question(definition=definition, model=model, frame=_with_plain_index(frame), interval=interval, table=table)
    try:
        return asked.ask(0, len(frame))
    except DefinitionError as error:
        raise _naming_first_row(error, asked, name_row) from error


@dataclass(frozen=True, kw_only=True, eq=False)
class _Question:
    """The input of a model, for all rows of a frame or for some of them."""

    definition: Definition
    model: Any
    frame: pd.DataFrame
    interval: bool
    table: str

    def ask(self, start: int, end: int) -> list[np.ndarray]:
        definition, count = self.definition, end - start
        # a definition may modify its input, but the rows must keep their order: with copy-on-write, only a write copies the frame
        frame = self.frame.copy(deep=False) if count == len(self.frame) else _with_plain_index(self.frame.iloc[start:end])
        features = prepare(definition, frame, None, self.table)[0]
        predicted = [self._call("predict", features, count)]
        if self.interval:
            predicted += self._call_interval(features, count)
        return predicted

    def _call(self, method: str, features: Any, count: int) -> np.ndarray:  # noqa: ANN401 - whatever data_preparation gives
        with calling(self.definition.name, self.definition.folder, method):
            given = _shallow(features)
            predicted = getattr(self.model, method)(given)
            self._check_order(method, given, count)
            return one_a_row(self.definition, method, predicted, count)

    def _call_interval(self, features: Any, count: int) -> list[np.ndarray]:  # noqa: ANN401
        method = "predict_interval"
        with calling(self.definition.name, self.definition.folder, method):
            given = _shallow(features)
            bounds = getattr(self.model, method)(given)
            self._check_order(method, given, count)
            if not isinstance(bounds, tuple | list | np.ndarray) or len(bounds) != 2:
                raise _gave(self.definition, method, f"{_kind(bounds)} for {{rows}}, not (low, high)", count)
            return [one_a_row(self.definition, method, one, count) for one in bounds]

    def _check_order(self, method: str, given: Any, count: int) -> None:  # noqa: ANN401
        if isinstance(given, pd.DataFrame) and len(given) == count and not _is_in_order(given.index):
            raise _gave(self.definition, method, "{rows} of its input another order, so nobody knows whose rates these are", count)


def prepare(definition: Definition, frame: pd.DataFrame, target_col: str | None = "cr", table: str = "the table") -> tuple[Any, Any]:
    """Returns features and target of a table from the definition's ``data_preparation``: as many features as rows, in the same order.

    Raises:
        DefinitionError: it fails, or returns other rows.
        TableError: it reports that it cannot prepare this table.
    """
    step = "data_preparation"
    with calling(definition.name, definition.folder, step):
        given = definition.prepare(frame, target_col=target_col)
        if not isinstance(given, tuple | list) or len(given) != 3:
            raise _gave(definition, step, f"{_kind(given)} for {{rows}}, not (X, y, error)", len(frame))
        X, y, problem = given
        if problem is not None:
            raise TableError(f"the definition {definition.name} cannot prepare {table}: {_one_line(problem)}")
        rows = len(X) if hasattr(X, "__len__") else -1
        if rows != len(frame):
            raise _gave(definition, step, f"{f'{rows:,} rows of features' if rows >= 0 else _kind(X)} for {{rows}}", len(frame))
        if isinstance(X, pd.DataFrame) and not _is_in_order(X.index):
            raise _gave(definition, step, "{rows} another order, so nobody knows whose features these are", len(frame))
    return X, y


def one_a_row(definition: Definition, method: str, predicted: object, count: int) -> np.ndarray:
    """Returns the predictions as float64: one number per row, in the order of the rows; masked and missing values become NaN.

    Raises:
        DefinitionError: they are not a list or a column of numbers; the message says what they are.
    """
    if isinstance(predicted, pd.Series | pd.DataFrame) and len(predicted) == count and not _is_in_order(predicted.index):
        raise _gave(definition, method, "its predictions for {rows} in another order than the rows, by their index", count)
    numbers = _as_numbers(definition, method, predicted, count)
    if numbers.shape not in ((count,), (count, 1)):
        shape = " x ".join(f"{length:,}" for length in numbers.shape)
        raise _gave(definition, method, f"{shape} predictions for {{rows}}", count)
    return numbers.reshape(count)


def check_finite(definition: Definition, rates: np.ndarray, table: str, name_row: NameRow = number_row) -> None:
    """Raises DefinitionError, which names the first row, when a rate is not a finite number."""
    wrong = np.flatnonzero(~np.isfinite(rates))
    if len(wrong):
        what = f"{rates[wrong[0]]} as the rate of {len(wrong):,} of {{rows}} of {table}"
        raise _gave(definition, "predict", what, len(rates)).on(name_row(int(wrong[0])))


def _as_numbers(definition: Definition, method: str, predicted: object, count: int) -> np.ndarray:
    if isinstance(predicted, np.ma.MaskedArray):
        predicted = np.ma.filled(predicted.astype(np.float64), np.nan)
    if isinstance(predicted, pd.Series | pd.DataFrame | pd.api.extensions.ExtensionArray):
        predicted = np.asarray(predicted)
    try:
        values = np.asarray(predicted)
    except ValueError:  # rows of different lengths
        raise _gave(definition, method, f"{_kind(predicted)} of no one shape for {{rows}}", count) from None
    if not values.ndim:
        raise _gave(definition, method, f"no predictions for {{rows}} but {_kind(predicted)}", count)
    if values.dtype.kind in "fiu" or not values.size:
        return np.asarray(values, dtype=np.float64) if values.size else np.empty(values.shape)
    if values.dtype.kind == "O":
        wrong = next((value for value in values.flat if not _is_number(value)), None)
        if wrong is None:
            return np.array([np.nan if value is None or value is pd.NA else float(value) for value in values.flat]).reshape(values.shape)
        raise _gave(definition, method, f"{_kind(wrong)} among its predictions for {{rows}}, which is not a number", count)
    raise _gave(definition, method, f"predictions of type {values.dtype} for {{rows}}, not numbers", count)


def _is_number(value: object) -> bool:
    return value is None or value is pd.NA or (isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_))


def _gave(definition: Definition, method: str, what: str, count: int) -> DefinitionError:
    what = what.replace("{rows}", f"{count:,} rows")
    return DefinitionError(
        f"the definition {definition.name} gave {what}",
        f" ({method} in {line_of(definition, method)})",
        joint=", first with ",
        step=method,
        next_step=f"Correct it, then see: scoring models check {definition.name}{ON_A_TABLE}",
    )


def line_of(definition: Definition, method: str) -> str:
    """Returns where a method begins, as ``file, line n``; the definition's ``model.py`` if the template implements it."""
    found = definition.data_preparation if method == "data_preparation" else getattr(definition.model_class, method, None)
    code = getattr(found, "__code__", None)
    if code is None or not Path(code.co_filename).is_relative_to(definition.folder):
        return str(definition.folder / "model.py")
    return f"{code.co_filename}, line {code.co_firstlineno}"


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _one_line(problem: object) -> str:
    try:
        return " ".join(str(problem).split()) or type(problem).__name__
    except Exception:  # noqa: BLE001 - even its text is foreign code
        return type(problem).__name__


def _shallow(features: Any) -> Any:  # noqa: ANN401
    """Returns a shallow copy, which a method may modify in place without affecting the next one."""
    return features.copy(deep=False) if isinstance(features, pd.DataFrame) else features


def _with_plain_index(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the frame with its rows numbered from 0, so that what a definition joins by index meets the right row."""
    return frame if _is_plain(frame.index) else frame.reset_index(drop=True)


def _is_plain(index: pd.Index) -> bool:
    return isinstance(index, pd.RangeIndex) and index.start == 0 and index.step == 1


def _is_in_order(index: pd.Index) -> bool:
    """Returns False if an index shows that rows numbered from 0 are now in another order."""
    if _is_plain(index) or index.dtype.kind not in "iu":
        return True
    at = index.to_numpy()
    return bool((at[1:] > at[:-1]).all()) or not np.array_equal(np.sort(at), np.arange(len(at)))


def _naming_first_row(error: DefinitionError, asked: _Question, name_row: NameRow) -> DefinitionError:
    """Returns the same error with the first row that causes it, found by bisection."""
    start, end, smallest = _first_failing(error, asked)
    if end - start > 1:
        return error.on(f"the {end - start:,} rows from {name_row(start)} to {name_row(end - 1)}, and on none of them alone")
    raised_alike = smallest.step == error.step and smallest.joint == error.joint
    return error.on(name_row(start), smallest.reason if raised_alike else None)


def _first_failing(error: DefinitionError, asked: _Question) -> tuple[int, int, DefinitionError]:
    """Returns the smallest block of rows found with which the definition fails, as ``[start, end)``, and its failure."""
    start, end, limit = 0, len(asked.frame), time.monotonic() + MOST_SEARCH_SECONDS
    while end - start > 1 and time.monotonic() < limit:
        middle = (start + end) // 2
        for half in ((start, middle), (middle, end)):
            failed = _failure_on(asked, *half)
            if failed is not None:
                (start, end), error = half, failed
                break
        else:
            break
    return start, end, error


def _failure_on(asked: _Question, start: int, end: int) -> DefinitionError | None:
    try:
        asked.ask(start, end)
    except DefinitionError as error:
        return error
    except (TableError, DefinitionHungError):
        pass
    return None


def columns_for(definition: Definition, columns: Sequence[str], frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the columns of a frame that the definition receives to predict, without a copy if these are all."""
    wanted = definition.columns_of_table(columns)
    return frame if frame.columns.tolist() == wanted else frame[wanted]
