"""Evaluates a forest for any number of rows."""

import numpy as np

from model_store.trees.groups import make_groups
from model_store.trees.links import Link, find_link
from model_store.trees.splits import UnsupportedTreesError, collect_splits
from model_store.trees.text import Forest

VERSIONS = ("v3", "v4")
ROWS_AT_ONCE = 16_384
MOST_LEAVES_OF_TREE = 256
MOST_FEATURES = 10_000
"""The probes of more features take more than 41 MB."""
MOST_SPLITS, MOST_BITS_BYTES = 32_768, 32 << 20
"""More distinct splits have bits of more than 32 MB for 4,096 rows; finding them takes longer than LightGBM's evaluation."""


class Evaluator:
    """A forest in a form that predicts fast. Predictions change nothing in it, so threads may share it."""

    def __init__(self, forest: Forest) -> None:
        """Prepares the evaluation.

        Raises:
            UnsupportedTreesError: the forest has something that is not known here.
        """
        _check(forest)
        self._link = _link_of(forest)
        self._splits, left_bits = collect_splits(forest.trees, MOST_SPLITS)
        count = len(self._splits.splits)
        self._groups = make_groups(forest.trees, left_bits, count)
        self._rows_at_once = min(ROWS_AT_ONCE, MOST_BITS_BYTES // count * 4 // 64 * 64)

    def predict(self, values: np.ndarray) -> np.ndarray:
        """Returns the prediction for each row of a matrix of float32 or float64."""
        raw = np.zeros(len(values))
        for first in range(0, len(values), self._rows_at_once):
            rows = slice(first, first + self._rows_at_once)
            bits, totals = self._splits.bits(values[rows]), raw[rows]
            for group in self._groups:
                group.add_to(totals, bits)
        return self._link(raw)


def _check(forest: Forest) -> None:
    if forest.header.get("version") not in VERSIONS:
        raise UnsupportedTreesError(f"the version of the model text is {forest.header.get('version', 'missing')}")
    if forest.header["num_class"] != "1" or forest.header["num_tree_per_iteration"] != "1":
        raise UnsupportedTreesError("there is more than one class")
    if "average_output" in forest.header:
        raise UnsupportedTreesError("a random forest averages its trees")
    if forest.features > MOST_FEATURES:
        raise UnsupportedTreesError(f"there are {forest.features:,} features, more than {MOST_FEATURES:,}")
    if any(tree.is_linear for tree in forest.trees):
        raise UnsupportedTreesError("the leaves hold linear models")
    if (most := max(len(tree.values) for tree in forest.trees)) > MOST_LEAVES_OF_TREE:
        raise UnsupportedTreesError(f"a tree has {most:,} leaves, more than {MOST_LEAVES_OF_TREE}")
    if most == 1:
        raise UnsupportedTreesError("no tree has a split")
    if not all(tree.is_in_order for tree in forest.trees):
        raise UnsupportedTreesError("the splits of a tree stand before their parents")


def _link_of(forest: Forest) -> Link:
    objective = forest.header.get("objective", "")
    link = find_link(objective)
    if link is None:
        raise UnsupportedTreesError(f"the objective is {objective or 'not in the model text'}")
    return link
