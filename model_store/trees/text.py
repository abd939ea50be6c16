"""Reads LightGBM's model text, and checks it before LightGBM reads it, because LightGBM itself trusts every number in it.

The text is LightGBM's of the versions 3 and 4: a header, one block per tree whose size in bytes the header states, ``end of trees``.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

MOST_LEAVES_OF_TREE = 131_072
"""LightGBM's own bound of ``num_leaves``."""
MOST_LEAVES = 4_000_000
MOST_CLASSES = 10_000
MOST_BYTES = 64 << 20
"""2,000 trees of 255 leaves take 45 MB."""
MOST_TREES = 100_000
MOST_LINES_OF_HEADER = 64
MOST_LINES_AFTER_TREES = 1_000
"""Beside one line for each feature."""
MOST_LINES_OF_TREE = 22
"""LightGBM reads no more lines of a tree."""
NUMBERS = re.compile(rb"[-+0-9.eE infa]*")
"""Without a group, because a repeated group takes 116 bytes of memory for each character."""
BARE_POINT = re.compile(rb"(?<![0-9])\.")
"""LightGBM ends the process at ``.5``, which Python reads."""
LARGE_EXPONENT = re.compile(rb"[eE][-+]?[0-9]*[2-9][0-9][0-9]|[eE][-+]?[0-9]{4}|[^ ]{40}")
"""LightGBM ends the process at a number of a linear model that is above or below all of float64."""
PARAMETER = re.compile(rb"\[[a-z_0-9]+: .*\]")
LONGEST_OBJECTIVE = 1_000
WORD = re.compile("[^ ]+")
OBJECTIVE = re.compile(r"[a-z_0-9]+(?: [a-z_]+(?::[-+0-9.eE]+)?)*")
CATEGORICAL, DEFAULT_LEFT, MISSING_SHIFT = 1, 2, 2
"""Bits of ``decision_type``: the kind of split, the way of missing values, then what counts as missing."""
MISSING_ZERO, MISSING_NAN = 1, 2
"""What counts as missing; 0 for nothing."""
OF_SPLITS = ("split_gain", "internal_value", "internal_weight", "internal_count")
OF_LEAVES = ("leaf_weight", "leaf_count")
"""Numbers that say nothing about predictions."""


class ModelTextError(ValueError):
    """Raised when a text is not a model that LightGBM can read safely; the message says what is wrong."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tree:
    """A tree with n leaves: arrays of its n - 1 splits, the root first, and of its leaves.

    ``left`` and ``right`` hold the number of a split, or ``~leaf``. The threshold of a categorical split is the number of its set.
    """

    feature: np.ndarray
    threshold: np.ndarray
    decision: np.ndarray
    left: np.ndarray
    right: np.ndarray
    values: np.ndarray
    sets: list[bytes]
    """The categories that go left, as bits in little-endian order, for each categorical split."""
    is_linear: bool

    @property
    def is_in_order(self) -> bool:
        """True if each split stands after its parent, as LightGBM numbers them."""
        order = np.arange(len(self.left))
        return all(bool((side[side >= 0] > order[side >= 0]).all()) for side in (self.left, self.right))


@dataclass(frozen=True, kw_only=True, eq=False)
class Forest:
    """All that a model text says about predictions."""

    header: Mapping[str, str]
    features: int
    trees: list[Tree]


def read_forest(text: str) -> Forest:
    """Returns the trees of a model text.

    Raises:
        ModelTextError: a number is missing, malformed or out of range, or the nodes of a tree do not form a tree.
    """
    if len(text) > MOST_BYTES:
        raise ModelTextError(f"the text has more than {MOST_BYTES >> 20} MB")
    data = text.encode(errors="replace")
    if b"\0" in data or b"\r" in data:
        raise ModelTextError("the text holds a control character")
    if not data.startswith(b"tree\n"):
        raise ModelTextError("the text does not begin with the line tree")
    head, found, _ = data.partition(b"\nTree=")
    if not found:
        raise ModelTextError("the text holds no tree")
    if head.count(b"\n") > MOST_LINES_OF_HEADER:
        raise ModelTextError(f"the header has more than {MOST_LINES_OF_HEADER} lines")
    header = _fields(head.split(b"\n")[1:], "the header")
    features = _whole(header, "max_feature_idx", 0, MOST_LEAVES) + 1
    for key in ("feature_names", "feature_infos"):
        if (count := _count_words(header.get(key, ""))) != features:
            raise ModelTextError(f"the header holds {count:,} {key} for {features:,} features")
    a_turn = _check_classes(header)
    trees, leaves, end = [], 0, len(head) + 1
    for number, fields, after in _blocks(data, end, header):
        leaves, end = leaves + _whole(fields, "num_leaves", 1, MOST_LEAVES_OF_TREE, f"tree {number}"), after
        if leaves > MOST_LEAVES:
            raise ModelTextError(f"the trees have more than {MOST_LEAVES:,} leaves")
        trees.append(_TreeReader(number, fields, features).read())
    if len(trees) % a_turn:
        raise ModelTextError(f"there are {len(trees):,} trees, {a_turn:,} in each iteration")
    _check_rest(data, end, features)
    return Forest(header=header, features=features, trees=trees)


def _count_words(value: str) -> int:
    """Returns the number of words between spaces; LightGBM takes all other characters as part of a word."""
    return sum(1 for _ in WORD.finditer(value))


def _check_classes(header: Mapping[str, str]) -> int:
    """Returns the number of trees in each iteration, after a check that all numbers of classes are the same."""
    a_turn = _whole(header, "num_tree_per_iteration", 1, MOST_CLASSES)
    if (classes := _whole(header, "num_class", 1, MOST_CLASSES)) != a_turn:
        raise ModelTextError(f"num_class of the header is {classes:,}, num_tree_per_iteration {a_turn:,}")
    objective = header.get("objective", "")
    if "objective" in header and (len(objective) > LONGEST_OBJECTIVE or not OBJECTIVE.fullmatch(objective)):
        raise ModelTextError(f"the objective of the header is malformed: {objective[:40] or 'empty'}")
    name, *options = objective.split(" ")
    stated = [option for option in options if option.startswith("num_class")]
    if stated != [f"num_class:{classes}"] and (stated or name.startswith("multiclass")):
        raise ModelTextError(f"the objective of the header is {objective[:40]}, but num_class is {classes:,}")
    return a_turn


def _check_rest(data: bytes, start: int, features: int) -> None:
    """Checks what follows the trees: LightGBM ends the process at a line among the parameters that is not one."""
    if data.count(b"\n", start) > features + MOST_LINES_AFTER_TREES:
        raise ModelTextError("the text has too many lines after the trees")
    is_parameter = False
    for line in data[start:].split(b"\n"):
        if line in (b"parameters:", b"end of parameters"):
            is_parameter = line == b"parameters:"
        elif line == b"parser:" or (is_parameter and line and not PARAMETER.fullmatch(line)):
            raise ModelTextError(f"the text holds a line after the trees that is not a parameter: {line[:40].decode(errors='replace')}")


def _blocks(data: bytes, start: int, header: Mapping[str, str]) -> Iterator[tuple[int, dict[str, str], int]]:
    """Yields the number, the fields and the end of each tree, cut as LightGBM cuts them: by the sizes in the header."""
    count = _count_words(header.get("tree_sizes", ""))
    if count > MOST_TREES:
        raise ModelTextError(f"the header names {count:,} trees, more than {MOST_TREES:,}")
    for number, size in enumerate(WORD.findall(header.get("tree_sizes", ""))):
        end = start + (int(size) if size.isascii() and size.isdigit() and len(size) < 12 else len(data))
        if end >= len(data) or not data.startswith(f"Tree={number}\n".encode(), start) or not data.endswith(b"\n\n", start, end):
            raise ModelTextError(f"tree {number} does not stand where tree_sizes says")
        block = data[start:end].rstrip(b"\n")
        if block.count(b"\n") > MOST_LINES_OF_TREE or b"\n\n" in block:
            raise ModelTextError(f"tree {number} has an empty line inside, or more than {MOST_LINES_OF_TREE} lines")
        yield number, _fields(block.split(b"\n")[1:], f"tree {number}", only_pairs=True), end
        start = end
    if not data.startswith(b"end of trees\n", start):
        raise ModelTextError(f"the trees do not end after the {count:,} of tree_sizes")


def _fields(lines: list[bytes], where: str, *, only_pairs: bool = False) -> dict[str, str]:
    """Returns key -> value.

    LightGBM cuts a line of the header at every ``=`` and drops empty parts, so ``=key=value`` would set ``key``.
    """
    fields: dict[str, str] = {}
    for line in filter(None, lines):
        key, equals, value = line.decode(errors="replace").partition("=")
        if not key or key in fields or (only_pairs and not equals):
            raise ModelTextError(f"{where} holds a line that is not a field, or holds it twice: {(key or value)[:40]}")
        if "=" in value and key != "feature_names":
            raise ModelTextError(f"{where} holds the field {key[:40]} with more than one =")
        fields[key] = value
    return fields


def _whole(fields: Mapping[str, str], key: str, least: int, most: int, where: str = "the header") -> int:
    value = fields.get(key, "")
    if not (value.isascii() and value.isdigit() and len(value) < 12 and least <= int(value) <= most):
        raise ModelTextError(f"{key} of {where} is {value[:40] or 'missing'}, not a whole number from {least:,} to {most:,}")
    return int(value)


class _TreeReader:
    """Reads the fields of one tree."""

    def __init__(self, number: int, fields: Mapping[str, str], features: int) -> None:
        self.where, self.fields, self.features = f"tree {number}", fields, features
        self.leaves = int(fields["num_leaves"])

    def read(self) -> Tree:
        splits, is_linear = self.leaves - 1, self._is_linear()
        if splits or is_linear:  # LightGBM reads no more of a single leaf
            self._check_others(splits)
        if "shrinkage" in self.fields:
            self._numbers("shrinkage", 1, of=np.float64)
        tree = Tree(
            feature=self._numbers("split_feature", splits, least=0, most=self.features - 1),
            threshold=self._numbers("threshold", splits, of=np.float64),
            decision=self._numbers("decision_type", splits, least=0, most=(MISSING_NAN << MISSING_SHIFT) + DEFAULT_LEFT + CATEGORICAL),
            left=self._numbers("left_child", splits, least=-self.leaves, most=splits - 1),
            right=self._numbers("right_child", splits, least=-self.leaves, most=splits - 1),
            values=self._numbers("leaf_value", self.leaves, of=np.float64),
            sets=self._sets(),
            is_linear=is_linear,
        )
        self._check_shape(tree)
        if not np.isfinite(tree.values).all():
            raise ModelTextError(f"{self.where} has a leaf_value that is not finite")
        by_set = tree.threshold[tree.decision & CATEGORICAL > 0]
        if (by_set != np.floor(by_set)).any() or (by_set < 0).any() or (by_set >= len(tree.sets)).any():
            raise ModelTextError(f"{self.where} splits by a set of categories that is not there")
        return tree

    def _check_others(self, splits: int) -> None:
        """Checks the numbers that say nothing about predictions, because LightGBM ends the process when some are missing or malformed."""
        for key, count in [*((key, splits) for key in OF_SPLITS), *((key, self.leaves) for key in OF_LEAVES)]:
            if key in self.fields:
                self._numbers(key, count, of=np.float64, finite=False)

    def _sets(self) -> list[bytes]:
        count = _whole(self.fields, "num_cat", 0, self.leaves, self.where)
        if not count:
            return []
        ends = self._numbers("cat_boundaries", count + 1, least=0, most=MOST_LEAVES)
        if ends[0] or (np.diff(ends) < 0).any():
            raise ModelTextError(f"{self.where} has cat_boundaries that do not ascend from 0")
        words = self._numbers("cat_threshold", int(ends[-1]), least=0, most=(1 << 32) - 1).astype("<u4")
        return [words[first:end].tobytes() for first, end in itertools.pairwise(ends.tolist())]

    def _is_linear(self) -> bool:
        is_linear = self.fields.get("is_linear", "0")
        if is_linear == "0":
            return False
        counts = self._numbers("num_features", self.leaves, least=0, most=self.features)
        for key in ("leaf_const", "leaf_coeff"):
            if LARGE_EXPONENT.search(self.fields.get(key, "").encode()):
                raise ModelTextError(f"{self.where} has a {key} that is too large or too small")
        self._numbers("leaf_const", self.leaves, of=np.float64)
        self._numbers("leaf_features", int(counts.sum()), least=0, most=self.features - 1)
        self._numbers("leaf_coeff", int(counts.sum()), of=np.float64)
        return True

    def _numbers(self, key: str, count: int, *, of: type = np.int64, least: int = 0, most: int = 0, finite: bool = True) -> np.ndarray:
        """Returns the numbers of a field, each from ``least`` to ``most`` if they are whole; if not ``finite``, they may be NaN."""
        text = self.fields.get(key, "").encode()
        if not NUMBERS.fullmatch(text) or BARE_POINT.search(text):
            raise ModelTextError(f"{self.where} has a {key} that is not a number")
        if (spaces := text.count(b" ")) > 2 * (count + self.leaves):  # leaves without a linear model leave two
            raise ModelTextError(f"{self.where} has {spaces + 1:,} numbers as {key}, not {count:,}")
        words = text.split()
        if len(words) != count:
            raise ModelTextError(f"{self.where} has {len(words):,} numbers as {key}, not {count:,}")
        try:
            found: np.ndarray = np.array([*map(float if of is np.float64 else int, words)], dtype=of)
        except (ValueError, OverflowError) as error:
            raise ModelTextError(f"{self.where} has a {key} that is not a number") from error
        if finite and np.isnan(found).any():
            raise ModelTextError(f"{self.where} has a {key} that is not a number")
        if of is np.int64 and count and not (least <= found.min() and found.max() <= most):
            wrong = found[(found < least) | (found > most)][0]
            raise ModelTextError(f"{self.where} has {wrong} as {key}, which is not from {least:,} to {most:,}")
        return found

    def _check_shape(self, tree: Tree) -> None:
        """Raises ModelTextError unless every split and every leaf has one parent, and all can be reached from the root."""
        children = np.concatenate([tree.left, tree.right])
        for what, found, wanted in (
            ("split", children[children >= 0], np.arange(1, self.leaves - 1)),
            ("leaf", ~children[children < 0], np.arange(self.leaves if self.leaves > 1 else 0)),
        ):
            if not np.array_equal(np.sort(found), wanted):
                raise ModelTextError(f"{self.where} has a {what} that is not the child of exactly one split")
        if tree.is_in_order:
            return
        reached, left = np.zeros(1, dtype=np.int64)[: self.leaves - 1], self.leaves - 1
        while len(reached):
            left -= len(reached)
            reached = np.concatenate([tree.left[reached], tree.right[reached]])
            reached = reached[reached >= 0]
        if left:
            raise ModelTextError(f"the splits of {self.where} form a cycle")
