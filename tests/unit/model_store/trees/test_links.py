"""Links have the digits of LightGBM's."""

import lightgbm
import numpy as np
import pytest

from model_store.trees.booster import same_bits
from model_store.trees.links import find_link

PASSES_ON = """tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=0
objective={objective}
feature_names=x
feature_infos=[-1:1]
tree_sizes={size}

{block}end of trees
"""
"""A model whose raw score is its only feature: one leaf with a linear model."""
BLOCK = """Tree=0
num_leaves=1
num_cat=0
split_feature=
split_gain=
threshold=
decision_type=
left_child=
right_child=
leaf_value=0
leaf_weight=1
leaf_count=1
internal_value=
internal_weight=
internal_count=
is_linear=1
leaf_const=0
num_features=1
leaf_features=0
leaf_coeff=1
shrinkage=1


"""


@pytest.mark.parametrize(
    "objective", ["cross_entropy", "binary sigmoid:1", "binary sigmoid:0.7", "poisson", "gamma", "tweedie", "regression"]
)
def test_a_link_gives_lightgbms_digits_for_half_a_million_raw_scores(objective: str) -> None:
    booster = lightgbm.Booster(model_str=PASSES_ON.format(objective=objective, size=len(BLOCK), block=BLOCK))
    random = np.random.default_rng(1)
    ends = np.array([1e-34, 1e-17, 36.0, 37.5, 708.0, 709.8, 710.0, 744.0, 746.0, 1e5, 1e300])
    raw = np.concatenate([random.normal(-3, 1, 300_000), random.uniform(-750, 750, 200_000), ends, -ends])
    link = find_link(objective)
    assert link is not None
    assert link(raw).flags.writeable
    assert same_bits(link(raw), booster.predict(raw[:, None], num_threads=1))


@pytest.mark.parametrize("objective", ["", "regression sqrt", "cross_entropy_lambda", "multiclass num_class:3", "lambdarank", "binary"])
def test_an_objective_with_another_link_is_left_to_lightgbm(objective: str) -> None:
    assert find_link(objective) is None
