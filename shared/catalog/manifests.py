"""Manifests: the JSON records of releases and results, written by workers and read by every process."""

import hashlib
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from shared.errors import ModelError, RequestError
from shared.jobs.files import JobFile
from shared.records import BucketPath, FileDigest, FileName, Frozen, JobId, Name, Promote, Record, ReleaseId, Sha256, Timestamp

INPUTS = "data/predict/input"
"""Folder of the tables to score."""

OUTPUTS = "data/predict/output"
"""Folder of the results: ``<definition>/<place>/`` below it."""

CHANNELS = f"{OUTPUTS}/channels"
"""Folder of the channels (``shared.catalog.channels``); no definition may have the name of this folder."""

PREDICTIONS, REJECTS = "prediction_output.csv.gz", "rejects.csv.gz"
"""The files of a result, next to its manifest."""

INDEX = "prediction_index.arrow"
"""The rows of a result sorted by key (``shared.prediction_index``), next to its predictions in its revision only."""

REPORT, LOSSES = "report.html", "evaluation.parquet"
"""Files of a release next to its model: a page for people, and the losses by keyword (``shared.catalog.keyword_losses``)."""

TRAINED_ROWS = "trained_rows.parquet"
"""A sketch of the rows that the release was trained on, next to its model."""

MOST_SEEN = 0.05
"""The largest share of an evaluation table's converting rows that training may have seen. By chance, 0.8 % of a real week's rows recur."""

RESERVED = frozenset({"revisions", PREDICTIONS, REJECTS, JobFile.MANIFEST.value})
"""Names of files and folders at the place of a result: no folder of a place may have one of them."""


def check_place(place: str) -> None:
    """Raises RequestError when a part of the path of a place is a reserved name."""
    taken = RESERVED.intersection(place.split("/"))
    if taken:
        raise RequestError(
            f"the place {place} of the result holds {min(taken)}, a name that is reserved at the place of a result",
            next_step="Rename that folder of the table, or copy the table to another one.",
        )


KEYS = ("entity_id", "device")
"""The columns that identify a row of a result, unless the definition has its own."""

ColumnType = Literal["binary", "number", "text"]


MAX_KEYS_COUNTED = 4_000_000
"""An earlier version estimated the repeated keys of a result with more rows, from a sample of this size."""

MAX_MANIFEST_BYTES = 16 << 20
"""The longest manifest of a release, in bytes: room for 200,000 columns."""

OptionalSignature = Annotated[Sha256 | None, Field(exclude_if=lambda signature: signature is None)]
"""The field of ``shared.signatures``; an unsigned manifest does not have it."""


Keys = Annotated[tuple[str, ...], Field(exclude_if=lambda keys: keys == KEYS)]
WithInterval = Annotated[bool, Field(exclude_if=lambda has_one: not has_one)]


class Column(Frozen):
    """A feature that a release needs: ``binary`` holds only 0 and 1, ``number`` any finite number, ``text`` any text on one line."""

    name: str
    type: ColumnType


class TableFingerprint(Frozen):
    """The identity of a table: every file with its digest, and the rows used and rejected."""

    path: BucketPath
    files: dict[str, FileDigest]
    rows: int
    rejected: int

    @property
    def contents(self) -> str:
        """A digest of the contents of its files, independent of their names and places."""
        return hashlib.sha256("".join(sorted(file.sha256 for file in self.files.values())).encode()).hexdigest()

    def shares_file_with(self, other: "TableFingerprint") -> bool:
        """Returns True when one of its files has the same contents as a file of the other table, under any name."""
        return not {file.sha256 for file in self.files.values()}.isdisjoint(file.sha256 for file in other.files.values())


class TableAudit(Frozen):
    """Rows and clicks of a training table: used, left out, and cut.

    In a prepared table, which has rates instead of clicks, each row counts as one click.
    """

    has_clicks: bool
    clicks: float
    """Clicks of the rows used."""
    conversions: float
    """Conversions of the rows used, after cutting."""
    left_out_clicks: float = 0.0
    """Clicks of the rows left out; a row whose clicks cannot be read counts as the mean of the others."""
    first_left_out: list[str] = Field(default_factory=list)
    totals: list[str] = Field(default_factory=list)
    """Rows left out that hold the sum of all others; they count no clicks."""
    above_rows: int = 0
    """Rows with more conversions than clicks."""
    above_clicks: float = 0.0
    conversions_cut: float = 0.0
    first_above: str = ""
    unclicked_rows: Annotated[int, Field(exclude_if=lambda rows: not rows)] = 0
    """Those of them without clicks: they have no weight, and all their conversions are cut."""
    unclicked_conversions: Annotated[float, Field(exclude_if=lambda conversions: not conversions)] = 0.0
    first_unclicked: Annotated[str, Field(exclude_if=lambda where: not where)] = ""
    repeated_rows: int = 0
    """Rows with the keys and the week of an earlier row."""
    total_row: str = ""
    """A row among those used that holds the sum of all others."""
    fractional: str = ""
    """The first row with a fraction of a click, in a table where most rows have whole clicks."""
    is_thousands_dot: bool = False
    """True when the fractions look like thousands separated by a dot: ``1.801``."""

    @property
    def left_out_share(self) -> float:
        """The share of all clicks that is in rows left out."""
        return self.left_out_clicks / (self.clicks + self.left_out_clicks) if self.left_out_clicks else 0.0

    @property
    def above_share(self) -> float:
        """The share of clicks that is in rows with more conversions than clicks."""
        return self.above_clicks / self.clicks if self.clicks else 0.0

    @property
    def stated_conversions(self) -> float:
        """Conversions before cutting, of the rows used and of those without clicks."""
        return self.conversions + self.conversions_cut

    @property
    def unclicked_share(self) -> float:
        """The share of all conversions that is in rows without clicks."""
        return self.unclicked_conversions / self.stated_conversions if self.unclicked_conversions else 0.0


MetricValues = dict[str, float]


class Estimate(Frozen):
    """A figure with its confidence interval; None for both ends when too few keywords contribute."""

    value: float
    low: float | None
    high: float | None


class TableSummary(Frozen):
    """The size and content of a table of clicks and conversions."""

    rows: int
    keywords: int
    clicks: float
    conversions: float
    device_clicks: dict[str, float]
    cold_keywords: int
    """Keywords without a row in the training table."""
    cold_clicks: float


class SliceFigures(Frozen):
    """The quality of the predictors on a slice of the rows."""

    rows: int
    keywords: int
    clicks: float
    metrics: dict[str, MetricValues]
    """Predictor -> metric -> value."""
    residual: Estimate
    """Predicted minus true conversions per click, of the release."""


class CalibrationBin(Frozen):
    """Rows with similar predictions: clicks, and predicted and true conversions per click."""

    clicks: float
    predicted: float
    happened: Estimate


class Importance(Frozen):
    """The most important columns, in descending order."""

    what: str
    """The meaning of the numbers."""
    columns: dict[str, float]


class Verdict(Frozen):
    """The decision of the gate about promoting this release to ``champion``."""

    promote: Promote
    """The requested mode."""
    passed: bool
    """True when the release is better than the champion and every naive predictor, beyond chance."""
    promotes: bool
    """True when the alias should move; the outcome of the job records whether it did."""
    reason: str
    champion: ReleaseId | None
    """The champion at the time of the decision."""
    objection: Annotated[str, Field(exclude_if=lambda objection: not objection)] = ""
    """Why the release did not pass, in words; empty when it passed, and in manifests of an earlier version."""


class Evaluation(Frozen):
    """The quality of a release, with intervals, and the decision of the gate."""

    judged_on: Literal["eval", "train"]
    """The table of the figures; figures on the training table say little about later tables."""
    confidence: float
    """The level of all intervals; they come from resampling keywords (``shared.catalog.bootstrap``)."""
    resamples: int
    differences: dict[str, Estimate]
    """Other predictor -> log-loss per click of this release minus that of the other on the same rows; below 0 this release is better."""
    not_compared: dict[str, str]
    """Release -> why it could not be evaluated on these rows."""
    slices: dict[str, dict[str, SliceFigures]]
    """Kind of slice (device, clicks of the row, history of the keyword) -> slice -> figures."""
    calibration: list[CalibrationBin]
    gains: dict[str, list[float]]
    """Predictor -> share of all conversions among the 0, 5, ..., 100 % of clicks with the highest predictions."""
    importance: Importance | None
    summaries: dict[str, TableSummary]
    gate: Verdict


class CandidateState(StrEnum):
    """The state of a candidate of a search, the best state first."""

    CHOSEN = "chosen"
    """The release has these parameters."""
    TRIED = "tried"
    """All folds were evaluated."""
    STOPPED = "stopped"
    """Clearly worse than the best, so it got no further folds."""
    FAILED = "failed"
    """The definition failed with these parameters."""


class Candidate(Frozen):
    """One set of parameters of a search with its results."""

    number: int
    params: dict[str, Any]
    state: CandidateState
    log_loss_per_click: float | None
    """Over all its folds, each click counted once; None when no fold was evaluated."""
    folds: list[float]
    """The same for each of its folds, in their order."""
    reason: str = ""
    """Why the candidate failed or was stopped."""


class Search(Frozen):
    """The search that found the parameters of a release."""

    method: str
    config: dict[str, Any]
    """The decoded ``params.yaml``."""
    folds: list[str] = Field(default_factory=list)
    """Each fold in words: its training and evaluation rows."""
    rule: str = ""
    """The condition under which a candidate gets no further folds."""
    candidates: list[Candidate] = Field(default_factory=list)
    """The best first."""
    chosen: dict[str, Any]


class TreeEvaluator(StrEnum):
    """What evaluates the boosted trees of a release; the rates are the same."""

    BITWISE = "bitwise"
    """``model_store.trees``, 64 rows at a time."""
    LIGHTGBM = "lightgbm"


class TreeEvaluation(Frozen):
    """How the boosted trees of a release are evaluated."""

    evaluator: TreeEvaluator
    reason: str = ""
    """Why LightGBM evaluates them."""

    @property
    def in_words(self) -> str:
        """The same for people."""
        if self.evaluator is TreeEvaluator.BITWISE:
            return "evaluated 64 rows at a time, with LightGBM's digits"
        return f"evaluated by LightGBM itself: {self.reason}"


class ReleaseManifest(Record):
    """The record of a release. It is the last file of its folder, so a folder that has it is complete."""

    release: ReleaseId
    definition: Name
    definition_sha256: Sha256
    """Digest of the code that trained the release."""
    created: Timestamp
    job_id: JobId
    model_file: FileName
    columns: list[Column]
    """The features, in the order of training."""
    keys: Keys = KEYS
    """The columns that identify a row, in the order of the result."""
    interval: WithInterval = False
    """True when the release can predict an interval for each rate."""
    files: dict[FileName, FileDigest]
    tables: dict[str, TableFingerprint]
    """``train`` and, if one was given, ``eval``."""
    metrics: dict[str, dict[str, MetricValues]]
    """Table -> predictor (this release's definition, the naive ones, other releases) -> metric -> value."""
    libraries: dict[str, str]
    seconds: float
    evaluation: Annotated[Evaluation | None, Field(exclude_if=lambda found: found is None)] = None
    """None in manifests of an earlier version."""
    search: Annotated[Search | None, Field(exclude_if=lambda search: search is None)] = None
    """The search that found its parameters; None when they are the definition's own."""
    audits: Annotated[dict[str, TableAudit], Field(exclude_if=lambda audits: not audits)] = Field(default_factory=dict)
    """The audit of each table; empty in manifests of an earlier version."""
    seen_share: Annotated[float, Field(ge=0, le=1, exclude_if=lambda share: not share)] = 0.0
    """The share of converting rows of the evaluation table that also occur in the training table, in any file."""
    trees: Annotated[TreeEvaluation | None, Field(exclude_if=lambda trees: trees is None)] = None
    """How its boosted trees are evaluated; None if it has none, or was trained by an earlier version."""
    warnings: Annotated[list[str], Field(exclude_if=lambda warnings: not warnings)] = Field(default_factory=list)
    """Reasons to doubt its figures or rates, in sentences."""
    forced: Annotated[list[str], Field(exclude_if=lambda forced: not forced)] = Field(default_factory=list)
    """Why its tables would have been refused without ``--force``, in sentences."""
    signature: OptionalSignature = None

    @property
    def forced_in_words(self) -> str:
        """The note that the release was trained with ``--force``, and why its tables would have been refused; empty without ``--force``."""
        return f"trained with --force, although {'; '.join(self.forced)}" if self.forced else ""

    @property
    def judged_on(self) -> Literal["eval", "train"]:
        """The table whose figures count: the evaluation table if there is one."""
        return "eval" if "eval" in self.metrics else "train"

    @property
    def judged_on_seen(self) -> bool:
        """True when the figures that count include rows of the training table: it is the evaluation table, or overlaps it too much."""
        table = self.tables.get(self.judged_on)
        return self.judged_on == "train" or self.seen_share > MOST_SEEN or (table is not None and self.was_trained_on(table))

    def was_trained_on(self, table: TableFingerprint) -> bool:
        """Returns True when the training table shares a file with this table. For rows in other files see the sketch (``TRAINED_ROWS``)."""
        return self.tables["train"].shares_file_with(table)

    def check_interval(self) -> None:
        """Raises ModelError when the release cannot predict intervals."""
        if not self.interval:
            raise ModelError(
                f"the release {self.release} gives no interval: its definition has no predict_interval",
                next_step="Leave out --interval, or score with a release that gives one.",
            )


class DeviceSummary(Frozen):
    """The scored rows of one device and their mean rate."""

    rows: int
    mean_cr: float


class ResultManifest(Record):
    """The record of a result, next to the prediction file."""

    job_id: JobId
    release: ReleaseId
    release_files: dict[FileName, FileDigest]
    table: TableFingerprint
    rows_in: int
    rows_scored: int
    rows_rejected: int
    rows_clipped: int
    """Rows whose prediction was outside [0, 1] and was set to the nearer end."""
    rows_repeated: Annotated[int, Field(exclude_if=lambda rows: rows == 0)] = 0
    """Rows whose key occurs in an earlier row; also 0 when nothing was counted, as in results of an earlier version."""
    devices: dict[str, DeviceSummary]
    """Device name -> its summary; only ``all`` when the device is not read."""
    keys: Keys = KEYS
    """The columns that identify a row."""
    interval: WithInterval = False
    """True when ``cr_low`` and ``cr_high`` follow ``cr``."""
    fixes: JobId | None = None
    """The job whose rejects this job fixed, if any."""
    fixed_rows: FileDigest | None = None
    """The file of fixed rows."""
    channel: Annotated[Name | None, Field(exclude_if=lambda name: name is None)] = None
    """The channel for which the result was made."""
    guard_off: Annotated[str, Field(exclude_if=lambda reason: not reason)] = ""
    """Why the result was published on its channel without the guard; empty otherwise."""
    text_sha256: Sha256
    """Digest of the uncompressed prediction file; chunk sizes and retries do not change it."""
    output: FileDigest
    """The compressed prediction file."""
    rejects: FileDigest | None
    index: Annotated[FileDigest | None, Field(exclude_if=lambda index: index is None)] = None
    """The sorted index in the revision; None in manifests of an earlier version."""
    revision: BucketPath
    """Folder that keeps this result permanently, also when a later result is published at its place."""
    job_created: Timestamp
    started: Timestamp
    """The time at which the plan was complete."""
    finished: Timestamp
    chunks: int
    seconds: float
    """Seconds from the request to the result."""

    @property
    def repeated(self) -> str:
        """The number of rows that repeat a key, in words; empty when none does."""
        about = "about " if self.index is None and self.rows_scored > MAX_KEYS_COUNTED else ""
        rows = "row has" if self.rows_repeated == 1 else "rows have"
        return f"{about}{self.rows_repeated:,} {rows} the key of an earlier row" if self.rows_repeated else ""

    signature: OptionalSignature = None
