"""The abstract model and ``data_preparation`` that every definition builds on.

Older definitions execute this very file by its path, from the folder above their own. So importing it imports nothing of ours
and nothing slow: the imports inside functions below are for that reason.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike


def data_preparation(
    df: pd.DataFrame,
    target_col: str | None = "cr",
    cols_to_drop: Sequence[str] = ["entity_id"],
) -> tuple[pd.DataFrame | None, pd.Series | None, Exception | None]:
    """Take a prepared table apart into features, target and error.

    ``target_col`` is None when scoring, then the target is None. The error is None, or an exception that says what is missing,
    handed back and not raised: the contract of the older definitions.
    """
    away = [*cols_to_drop, *([] if target_col is None else [target_col])]
    missing = [column for column in away if column not in df.columns]
    if missing:
        return None, None, ValueError(f"the prepared table lacks the column {', '.join(missing)}")
    return df.drop(columns=away), None if target_col is None else df[target_col], None


class ModelEval(NamedTuple):
    """What training returns."""

    mse: float


class Model(ABC):
    """One definition's model: trained, saved, loaded and asked for conversion rates.

    ``save`` and ``load`` serve every definition whose ``self.model`` is made of plain values, numpy arrays or scikit-learn
    estimators; others write their own.
    """

    MODEL_FILE: ClassVar[str] = "model.pkl"
    """The file in the release's folder that ``load`` is given."""

    KEYS: ClassVar[tuple[str, ...]] = ("entity_id", "device")
    """The columns that name a row in the output, in its order; others than these two are copied as they stand in the table."""

    COLUMNS: ClassVar[tuple[str, ...] | None] = None
    """The feature columns that are needed; None for all that the training table has."""

    TEXT: ClassVar[tuple[str, ...]] = ()
    """Those of the feature columns that are text, not numbers; a key may be a feature too if it is named here."""

    TRUSTED: ClassVar[tuple[str, ...]] = ()
    """Types in the model file, beyond those that are harmless by themselves, that its author has looked at and trusts."""

    IMPORTANCE: ClassVar[str] = "by the definition itself"
    """What the numbers of ``importance`` are, for the report. A definition may have a method ``importance()`` that returns a number for
    each column; of one that has none the columns are shuffled one after another instead."""

    model_eval = ModelEval

    def __init__(self, model: object = None, config: Mapping[str, Any] | None = None) -> None:
        self.model: Any = model
        self.config = config

    @abstractmethod
    def _model_definition(self, config: Mapping[str, Any] | None = None) -> object:
        """Set the model up for training, with other parameters than its own where ``config`` names them."""

    @abstractmethod
    def train(self, X: pd.DataFrame, y: pd.Series) -> ModelEval:
        """Fit to the rows of ``X`` (features) and ``y`` (rates in [0, 1]) and return ``model_eval`` on the same rows.

        A definition that can weight rows takes a third argument, ``sample_weight`` (float64, one per row).
        """

    @abstractmethod
    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """The conversion rate of each row: a 1-d array in the order of the rows.

        A definition that can say between what each rate lies has a method ``predict_interval(X)`` as well, which returns two such
        arrays, ``(low, high)``.
        """

    @classmethod
    def score(cls, y_true: ArrayLike, y_pred: ArrayLike) -> ModelEval:
        """``model_eval`` of predictions: ``mse``, the mean squared error over rows."""
        true, predicted = np.asarray(y_true, dtype=np.float64), np.asarray(y_pred, dtype=np.float64)
        if predicted.shape not in (true.shape, (*true.shape, 1)):
            shape = " x ".join(f"{length:,}" for length in predicted.shape) or "no"
            raise ValueError(f"there are {shape} predictions for {len(true):,} rows")
        errors = true - predicted.reshape(true.shape)  # a column beside a row would give a square
        return cls.model_eval(mse=float(np.mean(errors**2)))

    def save(self, path: str | Path) -> None:
        """Write ``self.model`` as ``MODEL_FILE`` into the folder ``path``, made if it is missing, in the skops format."""
        from skops.io import dump  # noqa: PLC0415 - see the module's docstring

        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        dump(self.model, folder / self.MODEL_FILE)

    def load(self, path: str | Path) -> None:
        """Read ``self.model`` back from the model file ``path``; nothing in the file can run code.

        Raises:
            ModelError: it is no skops file, is damaged, or holds a type that is neither known to be harmless nor ``TRUSTED``.
        """
        from skops.io import load  # noqa: PLC0415 - see the module's docstring

        from shared.errors import ModelError  # noqa: PLC0415 - see the module's docstring

        try:
            self.model = load(Path(path), trusted=list(self.TRUSTED))
        except Exception as error:
            raise ModelError(f"the model file {path} is refused: {type(error).__name__}: {error}") from error


def choose_params(defaults: Mapping[str, Any], config: Mapping[str, Any] | None) -> dict[str, Any]:
    """The parameters to train with: those of ``config`` where it names one, else the defaults.

    Raises:
        ModelError: ``config`` names a parameter that the defaults do not have.
    """
    from shared.errors import ModelError  # noqa: PLC0415 - see the module's docstring

    chosen = dict(config or {})
    unknown = sorted(chosen.keys() - defaults.keys())
    if unknown:
        raise ModelError(f"there is no parameter {', '.join(unknown)}; there are {', '.join(sorted(defaults))}")
    return {**defaults, **chosen}


def put_in_order(X: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """``X`` with the columns that a model was trained on, in that order; itself when it has them so.

    Raises:
        TableError: a column is missing; the sentence names it.
    """
    from shared.errors import TableError  # noqa: PLC0415 - see the module's docstring

    found = X.columns.tolist()
    if found == columns:
        return X
    missing = sorted(set(columns) - set(found))
    if missing:
        raise TableError(f"the table lacks {len(missing)} of the columns that the model was trained on, the first is {missing[0]}")
    return X[list(columns)]


def weights_of_rows(sample_weight: np.ndarray | None, rows: int) -> np.ndarray:
    """The weight of each row as float64: 1 where none are given.

    Raises:
        TableError: they are not one finite number of at least 0 for each row, or are all 0.
    """
    from shared.errors import TableError  # noqa: PLC0415 - see the module's docstring

    weights = np.ones(rows) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if weights.shape != (rows,) or not np.isfinite(weights).all() or (weights < 0).any():
        raise TableError(f"the weights of the {rows} rows to train on are not one finite number of at least 0 for each")
    if not weights.any():
        raise TableError("there is nothing to train on: no row has a weight above 0")
    return weights
