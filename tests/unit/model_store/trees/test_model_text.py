"""A model text is checked before LightGBM reads it."""

import json
import os
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator

import lightgbm
import numpy as np
import pytest

from model_store.trees.text import MOST_BYTES, MOST_LEAVES_OF_TREE, ModelTextError, read_forest


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
        ("num_tree_per_iteration=1", "num_tree_per_iteration=2", "num_class of the header is 1, num_tree_per_iteration 2"),
        ("num_class=1\nnum_tree_per_iteration=1", "num_class=2\nnum_tree_per_iteration=2", "there are 3 trees, 2 in each iteration"),
        ("num_class=1", "num_class=1\nnum_class=2", "holds a line that is not a field, or holds it twice: num_class"),
        ("objective", "objec\0ive", "holds a control character"),
    ],
)
def test_a_damaged_header_is_refused_with_a_sentence(text: str, pattern: str, replacement: str, problem: str) -> None:
    damaged = re.sub(pattern, replacement, text, count=1, flags=re.MULTILINE) if pattern != "Tree=" else text.replace(pattern, replacement)
    with pytest.raises(ModelTextError, match=problem):
        read_forest(damaged)


@pytest.mark.parametrize(
    ("pattern", "replacement", "problem"),
    [
        (
            "^version",
            "=num_tree_per_iteration=5000000\nversion",
            "a line that is not a field, or holds it twice: num_tree_per_iteration=5000000",
        ),
        ("^version", "=tree_sizes=1 1 1\nversion", "a line that is not a field, or holds it twice: tree_sizes=1 1 1"),
        ("^version=v4", "num_leaves=num_class=7\nversion=v4", "the field num_leaves with more than one ="),
        ("num_tree_per_iteration=1", "num_tree_per_iteration=3", "num_class of the header is 1, num_tree_per_iteration 3"),
        ("num_class=1", "num_class=3", "num_class of the header is 3, num_tree_per_iteration 1"),
        ("=regression", "=multiclass num_class:3000000", "objective of the header is multiclass num_class:3000000, but num_class is 1"),
        ("=regression", "=multiclassova num_class:3 sigmoid:1", "objective of the header is multiclassova num_class:3 sigmoid:1, but"),
        ("=regression", "=multiclass num_class:1 num_class:9", "objective of the header is multiclass num_class:1 num_class:9, but"),
        ("=regression", "=multiclass :num_class:9", "the objective of the header is malformed: multiclass :num_class:9"),
        ("=regression", "=multiclass", "the objective of the header is multiclass, but num_class is 1"),
        ("=regression", "=", "the objective of the header is malformed: empty"),
        ("^parameters:$", "parameters:\nfoo", "holds a line after the trees that is not a parameter: foo"),
        ("^parameters:$", "parameters:\n[foo]", "holds a line after the trees that is not a parameter: "),
        ("^parameters:$", "parameters:\n[foo:]", "holds a line after the trees that is not a parameter: "),
        ("^pandas", "parameters:\nfoo\npandas", "holds a line after the trees that is not a parameter: foo"),
        ("^pandas", "\n" * 1100 + "pandas", "too many lines after the trees"),
        ("^feature_names=.*", "feature_names=a b\tc", "holds 2 feature_names for 3 features"),
        ("^feature_names=.*", "feature_names=a b\u2003c", "holds 2 feature_names for 3 features"),
        ("^version", "x\n" * 100 + "version", "the header has more than 64 lines"),
        ("tree_sizes=.*", "tree_sizes=" + "1 " * 100_001, "names 100,001 trees, more than 100,000"),
    ],
)
def test_a_text_that_ends_the_process_of_lightgbm_is_refused(text: str, pattern: str, replacement: str, problem: str) -> None:
    hostile = re.sub(pattern, replacement, text, count=1, flags=re.MULTILINE)
    assert hostile != text
    with pytest.raises(ModelTextError, match=re.escape(problem)):
        read_forest(hostile)


@pytest.mark.parametrize("key", ["split_gain", "internal_weight", "internal_count", "leaf_weight", "leaf_count", "shrinkage", "threshold"])
@pytest.mark.parametrize("number", [".5", "-.5", "1e", "foo", "1\u2003", "\t1", "1,5"])
def test_a_number_that_lightgbm_reads_otherwise_is_refused(text: str, key: str, number: str) -> None:
    line = rf"^{key}=(.* )?\S+$"
    with pytest.raises(ModelTextError, match=f"tree 0 has a {key} that is not a number"):
        read_forest(with_sizes(re.sub(line, lambda found: f"{key}={found[1] or ''}{number}", text, count=1, flags=re.MULTILINE)))


def test_a_large_text_is_refused_before_it_takes_memory(text: str) -> None:
    with pytest.raises(ModelTextError, match="the text has more than 64 MB"):
        read_forest(text + " " * MOST_BYTES)
    hostile = [changed(text, "split_feature", last(filler * 4_000_000)) for filler in ("1", "1 ")]
    tracemalloc.start()
    try:
        for each in hostile:
            with pytest.raises(ModelTextError, match="tree 1 has"):
                read_forest(each)
        assert tracemalloc.get_traced_memory()[1] < 10 * len(hostile[1])
    finally:
        tracemalloc.stop()


def with_sizes(text: str) -> str:
    """The text with the sizes of its trees corrected."""
    sizes = " ".join(str(len(block.encode())) for block in re.split(r"(?=Tree=\d+\n)", text.partition("end of trees")[0])[1:])
    return re.sub(r"^tree_sizes=.*", f"tree_sizes={sizes}", text, count=1, flags=re.MULTILINE)


def texts_of_all_forms() -> list[str]:
    random = np.random.default_rng(1)
    values = random.integers(0, 9, (300, 2)).astype(np.float64)
    target = values[:, 0] % 2
    fixed = {"num_leaves": 4, "num_threads": 1, "verbosity": -1, "num_iterations": 1, "min_data_in_leaf": 5}
    forms = [
        {"objective": "regression"},
        {"objective": "regression", "linear_tree": True},
        {"objective": "multiclass", "num_class": 2},
        {"objective": "multiclassova", "num_class": 2},
        {"objective": "poisson", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
    ]
    found = [
        lightgbm.train({**fixed, **form}, lightgbm.Dataset(values, target, categorical_feature=[1])).model_to_string() for form in forms
    ]
    few_parameters = re.compile(r"(parameters:\n(?:\[.*\n){4})(?:\[.*\n)*")
    return [few_parameters.sub(r"\1", text) for text in found]


NUMBERS = (
    "",
    "0",
    "-1",
    "2",
    "7",
    "5000000",
    "4294967296",
    "x",
    ".5",
    "1e",
    "1.",
    "1e400",
    "1e-310",
    "1e-400",
    "--1",
    "nan",
    "inf",
    "1 2",
    "\t1",
    "\u20031",
)


def mutations(text: str) -> Iterator[str]:
    """The text with one line changed, once for each line and change."""
    lines = text.split("\n")
    for at, line in enumerate(lines):
        key, _, value = line.partition("=")
        changes = [
            [],
            [line, line],
            [f"={line}"],
            [line, f"={line}"],
            [f"{line}="],
            ["foo", line],
            ["", line],
            [line[:-1]],
            [line.strip("[")],
        ]
        if value:
            head = value.rpartition(" ")[0]
            changes += [[f"{key}={head} {number}" if head else f"{key}={number}"] for number in NUMBERS]
            changes += [[f"{key}={value} 1"], [f"{key}={head}"], [f"{key}={value.replace(' ', '  ')}"], [f"{key}={value} "]]
        for change in changes:
            yield with_sizes("\n".join([*lines[:at], *change, *lines[at + 1 :]]))


LOADS = """
import json, sys
import lightgbm, numpy as np
rows = np.array([[0.0, 1.0], [8.0, 3.0], [np.nan, 1e9]])
for number, text in enumerate(json.loads(sys.stdin.read())):
    print("text", number, file=sys.stderr, flush=True)
    try:
        lightgbm.Booster(model_str=text).predict(rows, num_threads=1)
    except (lightgbm.basic.LightGBMError, ValueError) as error:
        pass
"""


def test_every_text_that_is_accepted_leaves_the_process_of_lightgbm_alive() -> None:
    texts = texts_of_all_forms()
    for text in texts:
        read_forest(text)
    accepted = []
    for mutation in dict.fromkeys(mutation for text in texts for mutation in mutations(text)):
        try:
            read_forest(mutation)
        except ModelTextError:
            continue
        accepted.append(mutation)
    assert len(accepted) > 500
    child = subprocess.run(
        [sys.executable, "-c", LOADS],
        input=json.dumps(accepted),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    reached = int(re.findall(r"^text (\d+)$", child.stderr, re.MULTILINE)[-1])
    assert child.returncode == 0, accepted[reached][:3000]
    assert reached == len(accepted) - 1
