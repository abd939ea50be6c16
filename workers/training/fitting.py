"""Fits a definition to a table."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from model_store.definitions import Definition
from model_store.foreign_code import calling
from model_store.predicting import check_finite, columns_for, predict_rows, prepare
from model_store.shipped_trees import choose_evaluation
from shared.catalog.manifests import Search, TreeEvaluation
from shared.errors import StaleMessageError
from shared.jobs.folder import JobFolder
from shared.jobs.messages import TrainJob
from shared.jobs.search_config import MOST_CANDIDATES, SearchConfig, read_config
from workers.tables.training.table import TrainingTable
from workers.training.saving import name_row

ROWS_COMPARED = 10_000
"""Rows for which the two evaluations of trees are compared."""


def train_job(folder: JobFolder) -> TrainJob:
    """Returns the request of a job; raises StaleMessageError if it is not a train job."""
    job = folder.job()
    if not isinstance(job, TrainJob):
        raise StaleMessageError(f"job {job.job_id} is a {job.kind} job, not one that trains")
    return job


def fit(definition: Definition, table: TrainingTable, params: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - a definition's own class
    """Trains a model of this definition on the table, with ``params`` if given; the clicks are its sample weights if it accepts weights.

    Raises:
        ModelError: the definition's own code failed; the message says how.
    """
    X, y = prepare(definition, table.frame, table=table.fingerprint.path)
    with calling(definition.name, definition.folder, "train"):
        model = definition.model_class()
        if params is not None:
            # some definitions configure themselves in this call, others read config when they train
            model.config = dict(params)
            model._model_definition(dict(params))
        model.train(X, y, **_weights(model.train, table))
    return model


def rates_of(definition: Definition, model: Any, table: TrainingTable) -> np.ndarray:  # noqa: ANN401
    """Returns the rates that a model predicts for the rows of a table, float64, clipped to [0, 1].

    Raises:
        DefinitionError: the definition's own code failed or returned a value that is not finite; the message says how.
    """
    frame, path = columns_for(definition, [column.name for column in table.columns], table.features), table.fingerprint.path
    [rates] = predict_rows(definition, model, frame, table=path, name_row=functools.partial(name_row, table))
    check_finite(definition, rates, path, functools.partial(name_row, table))
    return np.clip(rates, 0, 1)


def choose_tree_evaluation(definition: Definition, model: Any, table: TrainingTable) -> TreeEvaluation | None:  # noqa: ANN401
    """Lets a model with trees predict fast if the first rows of its training table get the same rates, to the last bit.

    Returns what was chosen; None if the model has no trees of LightGBM, or of a form that is not known.

    Raises:
        DefinitionError: the definition's own code failed.
        TableError: the definition refuses the table.
    """
    frame = columns_for(definition, [column.name for column in table.columns], table.features).iloc[:ROWS_COMPARED]
    path, naming = table.fingerprint.path, functools.partial(name_row, table)
    return choose_evaluation(
        model,
        lambda: predict_rows(definition, model, frame, table=path, name_row=naming)[0],
        f"the first {len(frame):,} rows of the training table",
    )


def searches_itself(definition: Definition) -> bool:
    """Returns True if the definition implements its own parameter search, ``grid_search``, as in the older service."""
    return callable(getattr(definition.model_class, "grid_search", None))


def fit_own_search(definition: Definition, table: TrainingTable, config: SearchConfig) -> tuple[Any, Search]:
    """Fits a model with the definition's own ``grid_search``; returns it with the parameters that the model reports.

    Raises:
        RequestError: the config has a range, and the definition accepts only lists.
        ModelError: the definition's own code failed; the message says how.
    """
    X, y = prepare(definition, table.frame, table=table.fingerprint.path)
    grid = config.grid()
    with calling(definition.name, definition.folder, "grid_search"):
        model = definition.model_class()
        model.grid_search(X, y, grid, **_weights(model.grid_search, table))
        params: object = getattr(getattr(model, "model", None), "get_params", dict)()
    chosen = {name: params[name] for name in grid if isinstance(params, dict) and isinstance(params.get(name), bool | int | float | str)}
    return model, Search(method=f"the grid_search of {definition.name} itself", config={"parameters": grid}, chosen=chosen)


def _weights(method: Callable[..., Any], table: TrainingTable) -> dict[str, np.ndarray]:
    return {"sample_weight": table.observations.clicks} if "sample_weight" in inspect.signature(method).parameters else {}


def read_search_config(folder: JobFolder, job: TrainJob) -> SearchConfig:
    """Returns the search config of a train job; raises RequestError when it is invalid."""
    path = job.config or ""
    return read_config(folder.bucket.read(path) or b"", path, MOST_CANDIDATES)
