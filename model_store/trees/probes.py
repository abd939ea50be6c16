"""Rows whose values lie at the thresholds of a forest, where another way to evaluate it would go wrong first."""

import numpy as np

from model_store.trees.splits import ZERO
from model_store.trees.text import CATEGORICAL, Forest

ROWS = 512
OTHERS = (0.0, -0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, ZERO, -ZERO, 1e-40, 1e300)
SEED = 64


def make_probes(forest: Forest) -> np.ndarray:
    """Returns a matrix of float64 with ``ROWS`` rows: each value is a threshold of its feature, a neighbour of one, or an odd number."""
    random = np.random.default_rng(SEED)
    rows = random.choice(np.array(OTHERS), size=(ROWS, forest.features))
    feature = np.concatenate([tree.feature for tree in forest.trees])
    threshold = np.concatenate([tree.threshold for tree in forest.trees])
    is_set = np.concatenate([tree.decision & CATEGORICAL > 0 for tree in forest.trees])
    for number in np.unique(feature):
        found = np.unique(threshold[(feature == number) & ~is_set])
        near = np.concatenate([found, np.nextafter(found, np.inf), np.nextafter(found, -np.inf)]) if len(found) else np.arange(64.0)
        rows[:, number] = np.where(random.random(ROWS) < 0.7, random.choice(near, size=ROWS), rows[:, number])
    return rows
