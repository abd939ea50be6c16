"""Puts a trained model into a folder, and proves that what lies there gives the rates that were judged: in a process of its own.

A release is published only then. A model that cannot be loaded, or that leaves a part of itself in the memory of its training, is found
here and not by the first job that scores with it.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from model_store.definitions import Definition
from model_store.foreign_code import calling
from model_store.isolated_loading import Answer, Question
from model_store.predicting import columns_for, predict_rows
from model_store.store import digest_folder
from shared.catalog.manifests import LOSSES, REPORT, TRAINED_ROWS, ReleaseManifest
from shared.errors import ModelError
from shared.records import FileDigest
from workers.tables.training.table import TrainingTable
from workers.training.rivals import Trained

ROWS_REPRODUCED = 10_000
"""So many of the judged rows, the first ones, are predicted once more with the saved model."""

RATE_AND_BOUNDS = ("rate", "lower bound", "upper bound")
ROUNDING = 1e-12
"""A definition whose rates depend on the block that a row stands in, as those of a matrix product do, may differ by so much."""


def save_model(definition: Definition, model: Any, staged: Path) -> None:  # noqa: ANN401 - a definition's own class
    """Let a model write its files into a new folder.

    Raises:
        DefinitionError: it fails.
        ModelError: it wrote something that cannot be a file of a release.
    """
    staged.mkdir()
    with calling(definition.name, definition.folder, "save"):
        model.save(str(staged))  # a string, as the older service gave it
    digest_staged(definition, staged)
    if not (staged / definition.model_file).exists():
        raise ModelError(f"the definition {definition.name} saved no {definition.model_file}", next_step="Write it in its method save.")
    taken = {REPORT, LOSSES, TRAINED_ROWS} & {file.name for file in staged.iterdir()}
    if taken:
        raise ModelError(
            f"the definition {definition.name} saves a file {min(taken)}, which is the name of one of ours",
            next_step="Give it another name in its method save.",
        )


def digest_staged(definition: Definition, staged: Path) -> dict[str, FileDigest]:
    """Size and sha256 of every file of a staged release; raises ModelError when there is anything but files."""
    for file in sorted(staged.iterdir()):
        if file.is_symlink() or not file.is_file():
            raise ModelError(
                f"the definition {definition.name} saves {file.name}, which is no file, and a release holds nothing else",
                next_step="Write plain files into the folder that its method save is given.",
            )
    return digest_folder(staged)


def question_to(trained: Trained, manifest: ReleaseManifest, staged: Path) -> Question:
    """What a staged release is asked: the first of the rows that it is judged on, and its intervals where it has them."""
    table = trained.tables[trained.judged_on]
    own = Path(shutil.copytree(staged, staged.parent / "copy"))
    frame = columns_for(trained.definition, [column.name for column in manifest.columns], table.features).iloc[:ROWS_REPRODUCED]
    return Question(manifest=manifest, files=own, frame=frame, table=table.fingerprint.path, interval=manifest.interval)


def check_reproduced(trained: Trained, asked: Question, answer: Answer) -> None:
    """Compare what the saved model gives in a process of its own with what the trained one gives in this process.

    Raises:
        ModelError: it gives nothing there, or other rates or bounds.
    """
    definition = trained.definition
    if answer.problem:
        raise ModelError(
            f"the release that {definition.name} saved cannot be used, and nothing is published: in a process of its own: {answer.problem}",
            next_step=f"Correct its save and load, then see: scoring models check {definition.name}",
        )
    judged = trained.rates[trained.judged_on][: len(asked.frame)]
    loaded, bounds = np.clip(answer.rates[0], 0, 1), answer.rates[1:]
    if not asked.interval and _are_same(loaded, judged):
        return
    # the values are copied, to lie in memory as in the other process
    live, *live_bounds = predict_rows(definition, trained.model, asked.frame.copy(), interval=asked.interval, table=asked.table)
    rounding = 0.0 if _are_same(np.clip(live, 0, 1), judged) else ROUNDING
    for what, there, here in zip(RATE_AND_BOUNDS, [loaded, *bounds], [judged, *live_bounds], strict=False):
        other = np.flatnonzero(~(np.abs(there - here) <= rounding)) if not _are_same(there, here) else np.empty(0)
        if len(other):
            first = int(other[0])
            raise ModelError(
                f"the release that {definition.name} saved gives another {what} than was judged for {len(other):,} of {len(there):,} rows, "
                f"and nothing is published: {there[first]!s} instead of {here[first]!s} for "
                f"{name_row(trained.tables[trained.judged_on], first)}",
                next_step=f"Save all that predict needs, and read it back in load, then see: scoring models check {definition.name}",
            )


def _are_same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.tobytes() == other.tobytes()


def name_row(table: TrainingTable, position: int) -> str:
    """The row of a training table in words: by its number among the rows that are used, and its key."""
    keys = [name for name in table.frame.columns[1:] if name not in {column.name for column in table.columns}]
    shown = ", ".join(f"{name} {table.frame[name].iloc[position]}" for name in keys)
    return f"row {position + 1:,} of {table.fingerprint.path}{f' ({shown})' if shown else ''}"
