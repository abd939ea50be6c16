"""Trees in releases of the form of ``v2`` and ``v3``: checked before the definition loads them, and evaluated fast.

It stands beside these definitions and not in them, because a release is bound to the code of its definition by a digest: another line
there would end the use of every release that was trained before. Another definition wraps its booster itself, in ``trees.Trees``.
LightGBM is imported only for models with trees.
"""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from shared.catalog.manifests import TreeEvaluation, TreeEvaluator

log = structlog.get_logger()

SCHEMA, BOOSTER = "schema.json", "booster"
MOST_BYTES = 96 << 20
"""Maximum size of the description in a model file, which holds the model text."""


class RefusedTreesError(ValueError):
    """Raised when LightGBM must not read the trees in a model file, because they could end the process; the message says why."""


def check_trees(file: Path, trusted: Sequence[str]) -> None:
    """Checks the model text in a model file; does nothing for a file of another form.

    ``trusted`` are the types that the definition trusts, so this loads what the definition will load.

    Raises:
        RefusedTreesError: the text is not a model, or too large, or the file is damaged.
    """
    if not _may_hold_booster(file):
        return
    from skops.io import load  # noqa: PLC0415 - as above
    from skops.io.exceptions import UntrustedTypesFoundException  # noqa: PLC0415 - as above

    from model_store.trees.text import ModelTextError, read_forest  # noqa: PLC0415 - as above

    try:
        held = load(file, trusted=list(trusted))
    except MemoryError:
        raise
    except UntrustedTypesFoundException:  # the definition refuses it, too
        return
    except Exception as error:
        raise RefusedTreesError(f"the file is damaged: {type(error).__name__}: {error}") from error
    text = held.get(BOOSTER) if isinstance(held, dict) else None
    if not isinstance(text, str):
        return
    try:
        read_forest(text)
    except ModelTextError as error:
        raise RefusedTreesError(str(error)) from error


def _may_hold_booster(file: Path) -> bool:
    """Returns False if no value in a model file can have the name; an escaped letter may be part of it."""
    try:
        with zipfile.ZipFile(file) as held:
            size = held.getinfo(SCHEMA).file_size
            found = held.read(SCHEMA) if size <= MOST_BYTES else b""
    except Exception:  # noqa: BLE001 - it is not such a file, or a damaged one
        return False
    if size > MOST_BYTES:
        raise RefusedTreesError(f"its {SCHEMA} has more than {MOST_BYTES >> 20} MB")
    return BOOSTER.encode() in found or b"\\u" in found or not found.isascii() or b"\0" in found


def speed_up_trees(model: Any, chosen: TreeEvaluation | None = None) -> None:  # noqa: ANN401 - a definition's own class
    """Lets a loaded model of this form evaluate its trees fast, unless its manifest says that LightGBM evaluates them.

    A model of another form is left as it is.
    """
    if has_trees(model) and (chosen is None or chosen.evaluator is TreeEvaluator.BITWISE):
        from model_store.trees import Trees  # noqa: PLC0415 - as above

        model._booster = Trees(model._booster)
        if chosen is not None and model._booster.reason:
            log.warning("trees evaluated by LightGBM on this host", reason=model._booster.reason)


def choose_evaluation(model: Any, predict: Callable[[], np.ndarray], rows: str) -> TreeEvaluation | None:  # noqa: ANN401
    """Compares what ``predict`` returns with both evaluations of the trees; returns the choice, with which the model predicts from now on.

    Returns None for a model of another form. ``rows`` names the rows that are predicted.
    """
    if not has_trees(model):
        return None
    booster, expected = model._booster, predict()
    speed_up_trees(model)
    reason = model._booster.reason
    if not reason:
        others = np.count_nonzero(np.asarray(predict()).view(np.uint64) != np.asarray(expected).view(np.uint64))
        reason = f"{others:,} of {rows} get other rates than from LightGBM" if others else ""
    if reason:
        model._booster = booster
    return TreeEvaluation(evaluator=TreeEvaluator.LIGHTGBM if reason else TreeEvaluator.BITWISE, reason=reason)


def has_trees(model: Any) -> bool:  # noqa: ANN401
    """Returns True if a model has the form of ``v2`` and ``v3``: a dict of values, and a booster that was made of one of them."""
    parts = getattr(model, "model", None)
    kind = type(getattr(model, "_booster", None))
    return (
        isinstance(parts, dict)
        and {"columns", BOOSTER} <= parts.keys()
        and (kind.__module__, kind.__name__) == ("lightgbm.basic", "Booster")
    )
