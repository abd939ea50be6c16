"""A model text is checked before LightGBM reads it."""

import re
from collections.abc import Callable

import lightgbm
import numpy as np
import pytest

from model_store.trees.text import MOST_LEAVES_OF_TREE, ModelTextError, read_forest


@pytest.fixture(scope="module")
def text() -> str:
    """Three trees of 5 leaves; each splits by a set of categories too."""
    random = np.random.default_rng(1)
    values = np.stack([random.integers(0, 40, 600), *random.standard_normal((2, 600))], axis=1)
    target = 3 * (values[:, 0] % 3) + values[:, 1] + random.random(600)
    params = {"objective": "regression", "num_leaves": 5, "num_threads": 1, "verbosity": -1, "num_iterations": 3}
    return lightgbm.train(params, lightgbm.Dataset(values, target, categorical_feature=[0])).model_to_string()


def changed(text: str, key: str, change: Callable[[list[str]], list[str]], tree: int = 1) -> str:
    """The text with other numbers in a field of a tree, and the size of the tree corrected."""
    head, *blocks = re.split(r"(?=Tree=\d+\n)", text.partition("end of trees")[0])
    line = re.search(rf"^{key}=(.*)$", blocks[tree], re.MULTILINE)
    assert line
    blocks[tree] = blocks[tree].replace(line[0], f"{key}={' '.join(change(line[1].split()))}", 1)
    head = re.sub(r"tree_sizes=.*", f"tree_sizes={' '.join(str(len(block)) for block in blocks)}", head)
    return head + "".join(blocks) + "end of trees" + text.partition("end of trees")[2]


def last(value: str) -> Callable[[list[str]], list[str]]:
    return lambda numbers: [*numbers[:-1], value]


def test_a_text_of_lightgbm_is_read_as_it_stands(text: str) -> None:
    forest = read_forest(text)
    assert len(forest.trees) == 3
    assert forest.features == 3
    assert changed(text, "left_child", list) == text
    assert [len(tree.values) for tree in forest.trees] == [5, 5, 5]


@pytest.mark.parametrize(
    ("key", "change", "problem"),
    [
        ("left_child", last("99"), "tree 1 has 99 as left_child, which is not from -5 to 3"),
        ("right_child", last("-6"), "tree 1 has -6 as right_child, which is not from -5 to 3"),
        ("right_child", last("0"), "tree 1 has a split that is not the child of exactly one split"),
        ("right_child", last("1"), "tree 1 has a split that is not the child of exactly one split"),
        ("right_child", last("-1"), "tree 1 has a leaf that is not the child of exactly one split"),
        ("split_feature", last("3"), "tree 1 has 3 as split_feature, which is not from 0 to 2"),
        ("split_feature", last("4294967296"), "tree 1 has 4294967296 as split_feature, which is not from 0 to 2"),
        ("split_feature", last("1.5"), "tree 1 has a split_feature that is not a number"),
        ("threshold", last("nan"), "tree 1 has a threshold that is not a number"),
        ("threshold", last("one"), "tree 1 has a threshold that is not a number"),
        ("threshold", lambda numbers: numbers[:-1], "tree 1 has 3 numbers as threshold, not 4"),
        ("threshold", lambda _: ["7"] * 4, "tree 1 splits by a set of categories that is not there"),
        ("decision_type", last("64"), "tree 1 has 64 as decision_type, which is not from 0 to 11"),
        ("leaf_value", last("inf"), "tree 1 has a leaf_value that is not finite"),
        ("leaf_value", lambda numbers: [*numbers, "1"], "tree 1 has 6 numbers as leaf_value, not 5"),
        ("leaf_count", lambda numbers: numbers[1:], "tree 1 has 4 numbers as leaf_count, not 5"),
        ("internal_weight", lambda _: [], "tree 1 has 0 numbers as internal_weight, not 4"),
        ("num_leaves", lambda _: ["6"], "tree 1 has 4 numbers as split_gain, not 5"),
        ("num_leaves", lambda _: ["10000000"], f"num_leaves of tree 1 is 10000000, not a whole number from 1 to {MOST_LEAVES_OF_TREE:,}"),
        ("num_leaves", lambda _: ["-1"], "num_leaves of tree 1 is -1"),
        ("num_cat", lambda _: ["5"], "tree 1 has .* numbers as cat_boundaries, not 6"),
        ("cat_boundaries", last("4000000"), "tree 1 has .* numbers as cat_threshold, not 4,000,000"),
        ("cat_boundaries", lambda numbers: ["1", *numbers[1:]], "tree 1 has cat_boundaries that do not ascend from 0"),
        ("is_linear", lambda _: ["1"], "tree 1 has 0 numbers as num_features, not 5"),
    ],
)
def test_a_damaged_tree_is_refused_with_a_sentence(text: str, key: str, change: Callable[[list[str]], list[str]], problem: str) -> None:
    with pytest.raises(ModelTextError, match=problem):
        read_forest(changed(text, key, change))


def test_a_cycle_beside_the_root_is_refused() -> None:
    block = """Tree=0
num_leaves=4
num_cat=0
split_feature=0 0 0
threshold=1 2 3
decision_type=2 2 2
left_child=-1 2 1
right_child=-2 -3 -4
leaf_value=1 2 3 4


"""
    head = "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx=0\nfeature_names=x\nfeature_infos=none\n"
    with pytest.raises(ModelTextError, match="the splits of tree 0 form a cycle"):
        read_forest(f"{head}tree_sizes={len(block)}\n\n{block}end of trees\n")


@pytest.mark.parametrize(
    ("pattern", "replacement", "problem"),
    [
        ("^tree\n", "wood\n", "does not begin with the line tree"),
        ("Tree=", "Bush=", "holds no tree"),
        ("tree_sizes=.*", "tree_sizes=5 5 5", "tree 0 does not stand where tree_sizes says"),
        ("tree_sizes=.*", "tree_sizes=99999999999999999999", "tree 0 does not stand where tree_sizes says"),
        (r"tree_sizes=(\d+) .*", r"tree_sizes=\1", "do not end after the 1 of tree_sizes"),
        ("max_feature_idx=2", "max_feature_idx=2147483647", "max_feature_idx of the header is 2147483647"),
        ("max_feature_idx=2", "max_feature_idx=1", "holds 3 feature_names for 2 features"),
        ("num_class=1", "num_class=1000000000", "num_class of the header is 1000000000"),
        ("num_tree_per_iteration=1", "num_tree_per_iteration=2", "there are 3 trees, 2 in each iteration"),
        ("num_class=1", "num_class=1\nnum_class=2", "holds a line that is not a field, or holds it twice: num_class"),
        ("objective", "objec\0ive", "holds a control character"),
    ],
)
def test_a_damaged_header_is_refused_with_a_sentence(text: str, pattern: str, replacement: str, problem: str) -> None:
    damaged = re.sub(pattern, replacement, text, count=1, flags=re.MULTILINE) if pattern != "Tree=" else text.replace(pattern, replacement)
    with pytest.raises(ModelTextError, match=problem):
        read_forest(damaged)
