"""The contract of a definition as named checks, run by the tests and by ``python -m model_store.checks v2``.

The checks call the definition on a small generated table. Optional methods that it lacks are skipped. A check that fails explains the
reason to the author of the definition.
"""

import argparse
import dataclasses
import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from model_store.check_table import read_table
from model_store.contributing import ContributionsError, contributions_of
from model_store.definitions import Definition, load_definition
from model_store.foreign_code import DefinitionError, calling
from model_store.model_template import Model
from shared.errors import ModelError, ScoringError, TableError

KEYWORDS = 400
WORDS = ("red", "blue", "running", "shoes", "for", "kids", "cheap", "größe 42", "near me", '5" nails')
ATTRIBUTES = tuple(f"att{number}" for number in range(1, 161))
NUMBERS = ("attrs_scale",)
FRESH_PROCESS_SECONDS = 120
MADE_UP = (
    "The values are made up: 0 and 1 in att1 to att160, numbers from 0 to 1 in other columns, English words in text. "
    "A definition that needs others is tried on a table of yours: scoring models check {name} --table FILE"
)
_REPOSITORY = Path(__file__).resolve().parents[1]

Outcome = Literal["ok", "failed", "not asked"]


class BrokenPromiseError(Exception):
    """Raised by a check when the definition breaks its promise; the message says why."""


class NotAskedError(Exception):
    """Raised by a check of an optional feature that the definition does not have."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckResult:
    """The result of one check."""

    check: str
    promise: str
    outcome: Outcome
    why: str = ""


class Trial:
    """One definition, its table, and the model trained on that table; each is created when a check first needs it."""

    def __init__(self, definition: Definition, folder: Path, extra: Path | None = None, file: Path | None = None) -> None:
        self.definition = definition
        self.folder = folder
        self.extra = extra
        self.file = file
        """A user's table; None to generate one."""

    @cached_property
    def _table_and_clicks(self) -> tuple[pd.DataFrame, np.ndarray]:
        if self.file is not None:
            return read_table(self.file, self.definition)
        table = make_table(self.definition)
        return table, make_clicks(len(table))

    @property
    def table(self) -> pd.DataFrame:
        return self._table_and_clicks[0]

    @property
    def clicks(self) -> np.ndarray:
        return self._table_and_clicks[1]

    @cached_property
    def features(self) -> pd.DataFrame:
        """X as in scoring, without a target."""
        X, _, error = self.definition.prepare(self.table.drop(columns="cr"), target_col=None)
        if error is not None:
            raise BrokenPromiseError(f"data_preparation without a target reports {error!r}")
        return X

    @cached_property
    def model(self) -> Model:
        return self.train()[0]

    @cached_property
    def saved(self) -> Path:
        """The model file, in a folder that the definition wrote."""
        self.model.save(str(self.folder / "saved"))
        return self.folder / "saved" / self.definition.model_file

    @cached_property
    def rates(self) -> np.ndarray:
        return predict(self.model, self.features)

    def train(self, **weights: np.ndarray) -> tuple[Model, Any]:
        """Returns a new, trained model and the return value of ``train``."""
        X, y, error = self.definition.prepare(self.table.copy())
        if error is not None:
            raise BrokenPromiseError(f"data_preparation with a target reports {error!r}")
        model = self.definition.model_class()
        return model, model.train(X, y, **weights)

    def load(self, file: Path) -> Model:
        """Returns a new model, loaded from the file."""
        model = self.definition.model_class()
        model.load(str(file))
        return model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """A promise with the function that checks it."""

    name: str
    promise: str
    attempt: Callable[[Trial], None]

    def run(self, trial: Trial) -> CheckResult:
        """Checks the promise; an exception of the definition is a failure, reported with its file and line."""
        outcome: Outcome = "failed"
        try:
            with calling(trial.definition.name, trial.definition.folder, self.name):
                outcome, why = self._attempt(trial)
        except DefinitionError as error:
            why = f"it raised {error.reason.removeprefix(': ')}"
        except TableError as error:
            why = f"it refuses the table: {error.message}"
        return CheckResult(check=self.name, promise=self.promise, outcome=outcome, why=why)

    def _attempt(self, trial: Trial) -> tuple[Outcome, str]:
        try:
            self.attempt(trial)
        except NotAskedError as reason:
            return "not asked", str(reason)
        except BrokenPromiseError as reason:
            return "failed", str(reason)
        return "ok", ""


CHECKS: list[Check] = []


def _check(promise: str) -> Callable[[Callable[[Trial], None]], Callable[[Trial], None]]:
    def register(attempt: Callable[[Trial], None]) -> Callable[[Trial], None]:
        CHECKS.append(Check(name=attempt.__name__, promise=promise, attempt=attempt))
        return attempt

    return register


def _require(kept: bool, why: str) -> None:
    if not kept:
        raise BrokenPromiseError(why)


def make_table(definition: Definition) -> pd.DataFrame:
    """Generates a prepared training table: 400 keywords on three devices, the same every time.

    Binary features are int8, others float64 or text, as in every prepared table. A definition with COLUMNS gets only those, and the device
    only if it is among its keys or columns.
    """
    random = np.random.default_rng(20261123)
    keyword = np.repeat(np.arange(KEYWORDS), 3)
    device = np.tile(np.arange(3), KEYWORDS)
    binary = (random.random((KEYWORDS, len(ATTRIBUTES))) < random.uniform(0.0, 0.6, len(ATTRIBUTES))).astype(np.int8)
    columns: dict[str, Any] = {"entity_id": keyword + 1000} if "entity_id" in definition.keys else {}
    for place, name in enumerate(dict.fromkeys([*definition.keys, *definition.text])):
        if name not in {"entity_id", "device"}:
            words = np.random.default_rng(place).choice(WORDS, (KEYWORDS, 3))
            columns[name] = pd.array([" ".join(words[number]) for number in keyword], dtype="str")
    if "device" in definition.keys or {"computer", "smartphone"} & set(definition.columns or ()):
        columns |= {"computer": (device == 0).astype(np.int8), "smartphone": (device == 1).astype(np.int8)}
    columns |= {name: binary[keyword, place] for place, name in enumerate(ATTRIBUTES)}
    further = [name for name in definition.columns or () if name not in columns]
    columns |= {name: random.random(KEYWORDS)[keyword] for name in dict.fromkeys((*NUMBERS, *further))}
    features = [
        name for name in columns if definition.columns is None or name in {*definition.columns, *definition.keys, "computer", "smartphone"}
    ]
    slopes = random.normal(0.0, 0.01, len(ATTRIBUTES))
    truth = np.clip(0.08 + 0.05 * (device == 0) + (binary @ slopes)[keyword], 0.01, 0.6)
    clicks = make_clicks(len(keyword))
    return pd.DataFrame({"cr": random.binomial(clicks.astype(np.int64), truth) / clicks} | {name: columns[name] for name in features})


def make_clicks(rows: int) -> np.ndarray:
    """Returns generated clicks, float64, with a few very large numbers."""
    return np.ceil(np.random.default_rng(30).pareto(1.2, rows) * 3 + 1).clip(max=2000)


def predict(model: Model, X: pd.DataFrame) -> np.ndarray:
    """Returns the model's predictions as an array with one finite number per row."""
    return _one_a_row("predict", model.predict(X), len(X))


def predict_interval(model: Any, X: pd.DataFrame) -> np.ndarray:  # noqa: ANN401 - the template has no such method
    """Returns the model's bounds as an array of two rows, low and high, with one finite number for each row of ``X``."""
    bounds = model.predict_interval(X)
    _require(isinstance(bounds, tuple | list) and len(bounds) == 2, f"predict_interval gave {type(bounds).__name__}, not (low, high)")
    return np.array([_one_a_row("predict_interval", one, len(X)) for one in bounds])


def _one_a_row(method: str, predicted: object, rows: int) -> np.ndarray:
    rates = np.asarray(predicted)
    _require(rates.shape == (rows,), f"{method} gave an array of shape {rates.shape} for {rows} rows")
    _require(rates.dtype.kind == "f", f"{method} gave values of type {rates.dtype}, not floating-point numbers")
    finite = np.isfinite(rates)
    _require(bool(finite.all()), f"{method} gave a value that is not finite for {int((~finite).sum())} of {rows} rows")
    return rates


@_check("data_preparation with a target gives features without it, the target row by row, and no error")
def prepares_for_training(trial: Trial) -> None:
    X, y, error = trial.definition.prepare(trial.table.copy())
    _require(error is None, f"the error is {error!r}")
    _require("cr" not in X.columns, "the features still hold the target cr")
    _require(len(X) == len(trial.table), f"{len(trial.table)} rows became {len(X)}")
    _require(np.array_equal(np.asarray(y), trial.table["cr"].to_numpy()), "the target is not the column cr of the table")


@_check("data_preparation without a target gives the same features as in training, None, and no error")
def prepares_for_scoring(trial: Trial) -> None:
    trained, _, _ = trial.definition.prepare(trial.table.copy())
    X, y, error = trial.definition.prepare(trial.table.drop(columns="cr"), target_col=None)
    _require(error is None, f"the error is {error!r}")
    _require(y is None, "the target is not None")
    _require(len(X) == len(trial.table), f"{len(trial.table)} rows became {len(X)}")
    _require(list(X.columns) == list(trained.columns), "the features are not those of training, in the same order")


@_check("data_preparation hands back an exception, and does not raise it, when the target is missing")
def reports_a_missing_column(trial: Trial) -> None:
    _, _, error = trial.definition.prepare(trial.table.drop(columns="cr"))
    _require(isinstance(error, Exception), f"the error is {error!r}, not an exception")


@_check("train returns a namedtuple with a finite mse")
def train_returns_mse(trial: Trial) -> None:
    _, result = trial.train()
    _require(hasattr(result, "_fields") and "mse" in result._fields, f"train returned {result!r}")
    _require(bool(np.isfinite(result.mse)), f"the mse is {result.mse}")


@_check("predict gives one finite number a row")
def predicts_every_row(trial: Trial) -> None:
    predict(trial.model, trial.features)


@_check("predict works on a table of one row")
def predicts_one_row(trial: Trial) -> None:
    predict(trial.model, trial.features.iloc[:1])


@_check("predict leaves the features as they are")
def predict_changes_nothing(trial: Trial) -> None:
    given = trial.features.copy(deep=True)
    predict(trial.model, given)
    _require(given.equals(trial.features) and list(given.columns) == list(trial.features.columns), "the features are others after predict")


@_check("a row gets the same rate to the last bit wherever it stands in whatever block")
def rows_are_independent(trial: Trial) -> None:
    _require_independence(trial.features, trial.rates, lambda X: predict(trial.model, X))


@_check("predict_interval gives two numbers a row in [0, 1] around the rate, the same wherever the row stands in whatever block")
def intervals_hold_the_rates(trial: Trial) -> None:
    if not trial.definition.has_interval:
        raise NotAskedError("there is no predict_interval")
    low, high = predict_interval(trial.model, trial.features)
    rates = np.clip(trial.rates, 0, 1)
    outside = int(((low < 0) | (high > 1)).sum())
    _require(not outside, f"{outside} of {len(rates)} intervals reach outside [0, 1]")
    wrong = np.flatnonzero((low > rates) | (rates > high))
    if len(wrong):
        shown = f"row {wrong[0]} has {low[wrong[0]]} to {high[wrong[0]]} and the rate {rates[wrong[0]]}"
        raise BrokenPromiseError(f"{len(wrong)} of {len(rates)} rates do not lie in their interval: {shown}")
    _require_independence(trial.features, low, lambda X: predict_interval(trial.model, X)[0])
    _require_independence(trial.features, high, lambda X: predict_interval(trial.model, X)[1])


@_check("contributions gives a base and one finite number per row and column, which add up to the rate")
def contributions_add_up(trial: Trial) -> None:
    if not trial.definition.has_contributions:
        raise NotAskedError("there is no contributions")
    try:
        contributions_of(trial.definition, trial.model, trial.features).check(trial.rates)
    except ContributionsError as error:
        raise BrokenPromiseError(str(error)) from None


def _require_independence(X: pd.DataFrame, whole: np.ndarray, predicted: Callable[[pd.DataFrame], np.ndarray]) -> None:
    for rows in _blocks_to_try(len(X)):
        rates = predicted(X.iloc[rows])
        others = np.flatnonzero(_bits(rates) != _bits(whole[rows]))
        if len(others):
            first = others[0]
            raise BrokenPromiseError(
                f"{len(others)} of {len(rows)} rows predicted at once get other rates than with all {len(X)}, row {rows[first]} "
                f"{rates[first]!s} instead of {whole[rows[first]]!s}; so chunks of another size give another output. "
                "A matrix product does this: add one column after another instead"
            )


def _bits(rates: np.ndarray) -> np.ndarray:
    return rates.view(f"u{rates.itemsize}")


def _blocks_to_try(rows: int) -> Iterator[np.ndarray]:
    every = np.arange(rows)
    yield every[::-1]
    for size in (2, 3, 7, 64, 333, 1000):
        for first in range(size % 5, rows, size):
            if first < 12 * size:
                yield every[first : first + size]
    for row in range(0, rows, 29):
        yield every[row : row + 1]


@_check("training twice on the same table gives the same rates to the last bit")
def training_is_deterministic(trial: Trial) -> None:
    again = predict(trial.train()[0], trial.features)
    _require(
        again.tobytes() == trial.rates.tobytes(),
        f"{int((again != trial.rates).sum())} of {len(again)} rates differ: fix the seed and the order of sums",
    )


@_check("train uses sample_weight")
def heeds_weights(trial: Trial) -> None:
    if "sample_weight" not in inspect.signature(trial.definition.model_class.train).parameters:
        raise NotAskedError("train has no sample_weight")
    weighted = predict(trial.train(sample_weight=trial.clicks)[0], trial.features)
    _require(weighted.tobytes() != trial.rates.tobytes(), "the rates are the same with and without weights")


@_check("save writes the model file, not empty, into the folder it is given")
def saves_a_file(trial: Trial) -> None:
    _require(trial.saved.is_file(), f"there is no {trial.saved.name} in the folder; a class that names it otherwise says so in MODEL_FILE")
    _require(trial.saved.stat().st_size > 0, f"{trial.saved.name} is empty")


@_check("a saved and loaded model gives the same rates to the last bit, also when its file is gone")
def loads_what_it_saved(trial: Trial) -> None:
    with tempfile.TemporaryDirectory(dir=trial.folder) as place:  # a copy, as in the store
        model = trial.load(Path(shutil.copytree(trial.saved.parent, place, dirs_exist_ok=True)) / trial.saved.name)
    loaded = predict(model, trial.features)
    _require(loaded.tobytes() == trial.rates.tobytes(), f"{int((loaded != trial.rates).sum())} of {len(loaded)} rates differ after loading")


@_check("a model saved here gives the same rates to the last bit in another process")
def loads_in_a_fresh_process(trial: Trial) -> None:
    rates = _rates_of_a_fresh_process(trial)
    _require(
        rates.tobytes() == trial.rates.tobytes(), f"{int((rates != trial.rates).sum())} of {len(rates)} rates differ in the other process"
    )


@_check("load refuses a damaged model file")
def refuses_a_damaged_file(trial: Trial) -> None:
    content = trial.saved.read_bytes()
    damaged = trial.folder / "damaged" / trial.saved.name
    damaged.parent.mkdir(exist_ok=True)
    for what, wrong in (
        ("is empty", b""),
        ("was cut in half", content[: len(content) // 2]),
        ("holds only a sentence", b"This is not a model.\n"),
    ):
        damaged.write_bytes(wrong)
        _require(not _loads(trial, damaged), f"it loads a file that {what}")


def _loads(trial: Trial, file: Path) -> bool:
    try:
        trial.load(file)
    except Exception:  # noqa: BLE001 - any exception is a refusal
        return False
    return True


@_check("install_dependencies.sh is there and is a bash script without syntax errors")
def has_an_install_script(trial: Trial) -> None:
    script = trial.definition.folder / "install_dependencies.sh"
    _require(script.is_file(), f"there is no {script}")
    bash = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    _require(bash.returncode == 0, bash.stderr.strip())


def _rates_of_a_fresh_process(trial: Trial) -> np.ndarray:
    output = trial.folder / "fresh.npy"
    code = "import sys; from model_store.checks import predict_into; predict_into(*sys.argv[1:])"
    command = [
        sys.executable,
        "-c",
        code,
        trial.definition.name,
        str(trial.saved),
        str(output),
        str(trial.extra or ""),
        str(trial.file or ""),
    ]
    fresh = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True, check=False, timeout=FRESH_PROCESS_SECONDS)
    last = (fresh.stderr.strip().splitlines() or ["nothing was said"])[-1]
    _require(fresh.returncode == 0, f"the other process ended with {fresh.returncode}: {last}")
    return np.load(output)


def predict_into(name: str, model_file: str, output: str, extra: str = "", file: str = "") -> None:
    """Loads a saved model and writes its rates of the table to ``output`` (.npy); runs in the process of one check."""
    definition = load_definition(name, Path(extra) if extra else None)
    trial = Trial(definition, Path(output).parent, file=Path(file) if file else None)
    np.save(output, predict(trial.load(Path(model_file)), trial.features))


@contextmanager
def trial_of(name: str, extra: Path | None = None, file: Path | None = None) -> Iterator[Trial]:
    """Yields a trial in a temporary folder, with the table in ``file`` or a generated one.

    Raises:
        ModelError: there is no such definition, or it cannot be loaded.
    """
    definition = load_definition(name, extra)
    with tempfile.TemporaryDirectory(prefix=f"checks-{name}-") as folder:
        yield Trial(definition, Path(folder), extra.resolve() if extra else None, file.resolve() if file else None)


def run_checks(name: str, extra: Path | None = None, file: Path | None = None) -> list[CheckResult]:
    """Runs every check of one definition, in order.

    Raises:
        ModelError: there is no such definition, or it cannot be loaded.
        TableError: the table in ``file`` is invalid.
    """
    with trial_of(name, extra, file) as trial:
        if file is not None:
            len(trial.table)  # read now, so that an error of the table is reported once
        return [check.run(trial) for check in CHECKS]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the checks and prints the results; returns 0 if all promises are kept, else the exit code of a ModelError."""
    parser = argparse.ArgumentParser(prog="python -m model_store.checks", description="Try everything that a model definition promises.")
    parser.add_argument("name", help="the definition, for example v2")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument("--extra", type=Path, metavar="FOLDER", help="look for further definitions in FOLDER/<name>/model.py")
    parser.add_argument("--table", type=Path, metavar="FILE", help="try it on the first rows of this table instead of made-up ones")
    options = parser.parse_args(arguments)
    try:
        findings = run_checks(options.name, options.extra, options.table)
    except ScoringError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    is_broken = any(finding.outcome == "failed" for finding in findings)
    if is_broken and not options.table and not options.json:
        sys.stdout.write(MADE_UP.format(name=options.name) + "\n")
    sys.stdout.write((_as_json if options.json else _as_text)(options.name, findings) + "\n")
    return ModelError.exit_code if is_broken else 0


def _as_json(name: str, findings: Sequence[CheckResult]) -> str:
    kept = all(finding.outcome != "failed" for finding in findings)
    return json.dumps({"definition": name, "ok": kept, "checks": [dataclasses.asdict(finding) for finding in findings]}, indent=1)


def _as_text(name: str, findings: Sequence[CheckResult]) -> str:
    lines = [
        f"{finding.outcome:>9}  {finding.promise}" + (f"{os.linesep}           {finding.why}" if finding.why else "")
        for finding in findings
    ]
    failed = sum(finding.outcome == "failed" for finding in findings)
    return "\n".join([*lines, f"{name}: {failed} of {len(findings)} promises broken" if failed else f"{name} keeps all its promises"])


if __name__ == "__main__":
    sys.exit(main())
