"""How raw scores become predictions, with LightGBM's digits.

LightGBM calls the exponential of the C library. numpy's own gives other last digits, pyarrow's calls the same as LightGBM.
"""

import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Link = Callable[[np.ndarray], np.ndarray]

IDENTITIES = frozenset({"regression", "regression_l1", "huber", "fair", "quantile", "mape"})
EXPONENTIALS = frozenset({"poisson", "gamma", "tweedie"})
BINARY = re.compile(r"binary sigmoid:([0-9.e+-]+)")


def find_link(objective: str) -> Link | None:
    """Returns what makes predictions out of raw scores for an objective as a model text names it; None if it is not known."""
    if objective in IDENTITIES:
        return _identity
    if objective in EXPONENTIALS:
        return _exp
    if objective == "cross_entropy":
        return lambda raw: _sigmoid(raw, 1.0)
    slope = BINARY.fullmatch(objective)
    return None if slope is None else lambda raw: _sigmoid(raw, float(slope[1]))


def _identity(raw: np.ndarray) -> np.ndarray:
    return raw


def _sigmoid(raw: np.ndarray, slope: float) -> np.ndarray:
    return 1 / (1 + _exp(-slope * raw))


def _exp(raw: np.ndarray) -> np.ndarray:
    return pc.exp(pa.array(raw)).to_numpy(zero_copy_only=False, writable=True)
