"""A booster that predicts fast, and predicts exactly as LightGBM."""

from enum import StrEnum
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import ArrayLike

from model_store.trees.evaluator import Evaluator
from model_store.trees.probes import make_probes
from model_store.trees.splits import UnsupportedTreesError
from model_store.trees.text import ModelTextError, read_forest

FEWEST_ROWS = 512
"""LightGBM evaluates fewer rows sooner."""


CHANGES = frozenset({"model_from_string", "reset_parameter", "rollback_one_iter", "set_leaf_output", "shuffle_models", "update"})
"""Methods of a booster that change its trees."""


class Way(StrEnum):
    """What evaluates the trees."""

    BITWISE = "bitwise"
    LIGHTGBM = "lightgbm"


class Trees:
    """A LightGBM booster whose ``predict`` is fast for matrices of float32 or float64; all else is the booster's.

    The predictions are those of ``booster.predict`` to the last bit. LightGBM itself predicts what is not known here, with few rows, and
    with further options. The trees must not change any more, so methods of the booster that change them are missing here.
    """

    def __init__(self, booster: lightgbm.Booster) -> None:
        """Reads the trees, and compares the predictions for rows made at their thresholds with the booster's."""
        self.booster = booster
        self.reason = ""
        """Why LightGBM evaluates the trees; empty if it does not."""
        self._evaluator: Evaluator | None = None
        try:
            forest = read_forest(booster.model_to_string())
            evaluator = Evaluator(forest)
        except (ModelTextError, UnsupportedTreesError) as error:
            self.reason = str(error)
            return
        probes = make_probes(forest)
        if same_bits(evaluator.predict(probes), booster.predict(probes, num_threads=1)):
            self._evaluator = evaluator
        else:
            self.reason = "its rates differ from those of LightGBM"

    @classmethod
    def from_text(cls, text: str) -> "Trees":
        """Returns the trees of a model text, which LightGBM reads only after a check, because some texts would end the process.

        Raises:
            ModelTextError: the text is not a model that LightGBM can read safely.
        """
        read_forest(text)
        return cls(lightgbm.Booster(model_str=text))

    @property
    def way(self) -> Way:
        """What evaluates the trees for a table."""
        return Way.LIGHTGBM if self._evaluator is None else Way.BITWISE

    def predict(self, data: Any, *args: Any, num_threads: int | None = None, **options: Any) -> Any:  # noqa: ANN401 - of LightGBM
        """Returns ``booster.predict(data, *args, num_threads=num_threads, **options)``."""
        if self._evaluator is None or args or options or not self._is_matrix(data):
            threads: dict[str, Any] = {} if num_threads is None else {"num_threads": num_threads}
            return self.booster.predict(data, *args, **threads, **options)
        return self._evaluator.predict(data)

    def _is_matrix(self, data: object) -> bool:
        return (
            isinstance(data, np.ndarray)
            and data.dtype in (np.float32, np.float64)
            and data.ndim == 2
            and data.shape[0] >= FEWEST_ROWS
            and data.shape[1] == self.booster.num_feature()
        )

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Returns an attribute of the booster; its ways to copy, pickle or change itself are not those of this object."""
        if name == "booster" or (name.startswith("__") and name.endswith("__")):
            raise AttributeError(name)
        if name in CHANGES:
            raise AttributeError(f"{name} would change the trees: change the booster, then make Trees of it")
        return getattr(self.booster, name)

    def __reduce__(self) -> tuple[type["Trees"], tuple[lightgbm.Booster]]:
        """A copy or a pickled object holds the booster alone."""
        return Trees, (self.booster,)


def same_bits(one: ArrayLike, other: ArrayLike) -> bool:
    """Returns True if two arrays of float64 are equal to the last bit."""
    return np.array_equal(np.asarray(one, dtype=np.float64).view(np.uint64), np.asarray(other, dtype=np.float64).view(np.uint64))
