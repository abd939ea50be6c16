"""Links have the digits of LightGBM's."""

import lightgbm
import numpy as np
import pytest

from model_store.trees.booster import same_bits
from model_store.trees.links import find_link

LEAVES = 100_000


def stump(objective: str, values: np.ndarray) -> lightgbm.Booster:
    """A model text whose tree n is one leaf, so that the first n trees add up to ``values[:n]``."""
    blocks = [
        f"Tree={n}\nnum_leaves=1\nnum_cat=0\nsplit_feature=\nsplit_gain=\nthreshold=\ndecision_type=\nleft_child=\nright_child=\n"
        f"leaf_value={value!r}\nleaf_weight=\nleaf_count=1\ninternal_value=\ninternal_weight=\ninternal_count=\nis_linear=0\nshrinkage=1\n\n\n"
        for n, value in enumerate(values.tolist())
    ]
