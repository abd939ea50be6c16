"""Gives the leaves of a tree binary codes whose bits are cheap to compute for 64 rows at once.

A side of a split *toggles* some bits of the code of each leaf below it. So bit k of the code of a row's leaf is the exclusive or of the
reach masks of all sides that toggle k, and the work for a tree is the number of toggles. The search goes from the leaves up and gives
each split the fewest toggles that keep the codes apart: 1.3 per split, while leaves that are numbered need 2.5 per leaf.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from model_store.trees.text import Tree

MOST_BITS = 8
"""Codes are bytes."""

Side = tuple[int, bool]
"""A split, and True for its left side."""


@dataclass(frozen=True, kw_only=True)
class LeafCodes:
    """The codes of the leaves of a tree."""

    bits: int
    leaves: list[int]
    """The code of each leaf; codes that no leaf has do not occur."""
    toggles: Mapping[Side, Sequence[int]]
    """The bits that a side toggles."""


def find_codes(tree: Tree) -> LeafCodes:
    """Returns codes for the leaves of a tree with 2 to 256 leaves, whose splits come after their parents."""
    left, right = tree.left.tolist(), tree.right.tolist()
    for bits in range(max(1, len(left).bit_length()), MOST_BITS + 1):
        toggles = _search(left, right, bits)
        if toggles is not None:
            return LeafCodes(bits=bits, leaves=_codes_of(left, right, toggles), toggles=toggles)
    return _numbered(left, right)


def _search(left: list[int], right: list[int], bits: int) -> dict[Side, Sequence[int]] | None:
    """Returns toggles that give each leaf its own code of so many bits, or None if the search finds none.

    The set of the codes below a split is a whole number with one bit for each code. Its two sides may toggle whatever keeps them apart.
    """
    below: dict[int, int] = {}
    toggles: dict[Side, Sequence[int]] = {}
    for split in range(len(left) - 1, -1, -1):
        sides = [below.pop(child) if child >= 0 else 1 for child in (left[split], right[split])]
        on_left = left[split] >= 0 and right[split] < 0  # the mask of the side of a split is needed anyway
        moved, kept = sides if on_left else sides[::-1]
        for changed in _by_count(bits):
            apart = _toggled(moved, changed, bits)
            if not apart & kept:
                break
        else:
            return None
        below[split] = apart | kept
        toggles[split, on_left] = changed
    return toggles


def _toggled(codes: int, changed: Sequence[int], bits: int) -> int:
    """Returns the set of codes with these bits toggled in each."""
    for bit in changed:
        without = _without(bit, bits)
        codes = (codes & without) << (1 << bit) | (codes >> (1 << bit)) & without
    return codes


@functools.cache
def _without(bit: int, bits: int) -> int:
    """Returns the set of all codes in which a bit is 0."""
    return sum(1 << code for code in range(1 << bits) if not code >> bit & 1)


@functools.cache
def _by_count(bits: int) -> list[tuple[int, ...]]:
    """Returns all choices of bits, the smallest first."""
    choices = [tuple(bit for bit in range(bits) if choice >> bit & 1) for choice in range(1, 1 << bits)]
    return sorted(choices, key=len)


def _codes_of(left: list[int], right: list[int], toggles: dict[Side, Sequence[int]]) -> list[int]:
    codes, at = [0] * (len(left) + 1), {0: 0}
    for split in range(len(left)):
        for child, is_left in ((left[split], True), (right[split], False)):
            code = at[split]
            for bit in toggles.get((split, is_left), ()):
                code ^= 1 << bit
            if child >= 0:
                at[child] = code
            else:
                codes[~child] = code
    return codes


def _numbered(left: list[int], right: list[int]) -> LeafCodes:
    """Returns the numbers of the leaves as their codes."""
    bits = len(left).bit_length()
    sides = [
        (split, is_left, ~child)
        for is_left, children in ((True, left), (False, right))
        for split, child in enumerate(children)
        if child < 0
    ]
    toggles = {(split, is_left): [bit for bit in range(bits) if leaf >> bit & 1] for split, is_left, leaf in sides}
    return LeafCodes(bits=bits, leaves=list(range(len(left) + 1)), toggles=toggles)
