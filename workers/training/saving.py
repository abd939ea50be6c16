"""Saves a trained model, and verifies in a separate process that the saved files reproduce the evaluated rates.

A release is published only after this check. It detects a model that cannot be loaded, or that keeps part of its state in the memory of
the training process, before the first job scores with it.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from model_store.definitions import Definition
from model_store.foreign_code import calling
from model_store.isolated_loading import PredictionRequest, PredictionResult
from model_store.predicting import columns_for, predict_rows
from model_store.store import digest_folder
from shared.catalog.manifests import LOSSES, REPORT, TRAINED_ROWS, ReleaseManifest
from shared.errors import ModelError
from shared.records import FileDigest
from workers.tables.training.table import TrainingTable
from workers.training.rivals import Trained

ROWS_REPRODUCED = 10_000
"""How many of the evaluated rows are predicted again with the saved model; the first rows are taken."""

RATE_AND_BOUNDS = ("rate", "lower bound", "upper bound")
ROUNDING = 1e-12
"""Tolerance for definitions whose rates depend on the block of rows that they are computed with, such as in a matrix product."""


def save_model(definition: Definition, model: Any, staged: Path) -> None:  # noqa: ANN401 - a definition's own class
    """Calls the model's ``save`` for a new folder.

    Raises:
        DefinitionError: the definition's ``save`` failed.
        ModelError: it wrote something that cannot be part of a release.
    """
    staged.mkdir()
    with calling(definition.name, definition.folder, "save"):
        model.save(str(staged))  # a str, as in the older service
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
    """Returns size and sha256 of every file of a staged release; raises ModelError for anything other than plain files."""
    for file in sorted(staged.iterdir()):
        if file.is_symlink() or not file.is_file():
            raise ModelError(
                f"the definition {definition.name} saves {file.name}, which is not a file, and a release holds nothing else",
                next_step="Write plain files into the folder that its method save is given.",
            )
    return digest_folder(staged)


def request_to(trained: Trained, manifest: ReleaseManifest, staged: Path) -> PredictionRequest:
    """Returns the request to a staged release: the first of the evaluated rows, with intervals if it has them."""
    table = trained.tables[trained.judged_on]
    own = Path(shutil.copytree(staged, staged.parent / "copy"))
    frame = columns_for(trained.definition, [column.name for column in manifest.columns], table.features).iloc[:ROWS_REPRODUCED]
    return PredictionRequest(manifest=manifest, files=own, frame=frame, table=table.fingerprint.path, interval=manifest.interval)


def check_reproduced(trained: Trained, request: PredictionRequest, result: PredictionResult) -> None:
    """Compares the predictions of the saved model in a separate process with those of the trained model in this process.

    Raises:
        ModelError: the saved model fails there, or gives other rates or bounds.
    """
    definition = trained.definition
    if result.problem:
        raise ModelError(
            f"the release that {definition.name} saved cannot be used, and nothing is published: in a process of its own: {result.problem}",
            next_step=f"Correct its save and load, then see: scoring models check {definition.name}",
        )
    own_rates = trained.rates[trained.judged_on][: len(request.frame)]
    loaded, bounds = np.clip(result.rates[0], 0, 1), result.rates[1:]
    if not request.interval and _are_same(loaded, own_rates):
        return
    # copied, so that the memory layout is the same as in the other process
    live, *live_bounds = predict_rows(definition, trained.model, request.frame.copy(), interval=request.interval, table=request.table)
    rounding = 0.0 if _are_same(np.clip(live, 0, 1), own_rates) else ROUNDING
    for what, there, here in zip(RATE_AND_BOUNDS, [loaded, *bounds], [own_rates, *live_bounds], strict=False):
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
    """Describes a row of a training table by its number among the used rows and by its key."""
    keys = [name for name in table.frame.columns[1:] if name not in {column.name for column in table.columns}]
    shown = ", ".join(f"{name} {table.frame[name].iloc[position]}" for name in keys)
    return f"row {position + 1:,} of {table.fingerprint.path}{f' ({shown})' if shown else ''}"
