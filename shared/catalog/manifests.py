"""What is known of one release and of one result: the json beside each, written by workers and read by everybody."""

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

PREDICTIONS, REJECTS = "prediction_output.csv.gz", "rejects.csv.gz"
"""The files of a result, beside its manifest."""

REPORT, LOSSES = "report.html", "evaluation.parquet"
"""Files of a release beside those of its model: a page for people, and what each keyword cost (``shared.catalog.keyword_losses``)."""

TRAINED_ROWS = "trained_rows.parquet"
"""Beside them: a sketch of the rows that the release was trained on."""

MOST_SEEN = 0.05
"""Of the rows with conversions that a release is judged on, how many it may have seen in training: 0.8 % of a real week are, by chance."""

RESERVED = frozenset({"revisions", PREDICTIONS, REJECTS, JobFile.MANIFEST.value})
"""Names of what lies at a place: no folder of a place may be called so."""


def check_place(place: str) -> None:
    """Raise RequestError when a part of the place of a result is the name of something that lies at a place itself."""
    taken = RESERVED.intersection(place.split("/"))
    if taken:
        raise RequestError(
            f"the place {place} of the result holds {min(taken)}, which is the name of what lies at the place of a result",
            next_step="Rename that folder of the table, or copy the table to another one.",
        )


KEYS = ("entity_id", "device")
"""The columns that name a row of a result, unless the definition has its own."""

ColumnType = Literal["binary", "number", "text"]


MAX_KEYS_COUNTED = 4_000_000
"""Rows of a result in which repeated keys are counted; in more they are counted in a sample of so many."""

MAX_MANIFEST_BYTES = 16 << 20
"""No manifest of a release is longer: that is room for 200,000 columns."""

OptionalSignature = Annotated[Sha256 | None, Field(exclude_if=lambda signature: signature is None)]
"""See ``shared.signatures``; an unsigned manifest does not have the field."""


Keys = Annotated[tuple[str, ...], Field(exclude_if=lambda keys: keys == KEYS)]
WithInterval = Annotated[bool, Field(exclude_if=lambda has_one: not has_one)]


class Column(Frozen):
    """One feature that a release needs: ``binary`` holds only 0 and 1, ``number`` any finite number, ``text`` any text on one line."""

    name: str
    type: ColumnType


class TableFingerprint(Frozen):
    """Which table it was: every file with its digest, and the rows used and rejected."""

    path: BucketPath
    files: dict[str, FileDigest]
    rows: int
    rejected: int

    @property
    def contents(self) -> str:
        """A digest of what is in its files, whatever they are called and wherever they lie."""
        return hashlib.sha256("".join(sorted(file.sha256 for file in self.files.values())).encode()).hexdigest()

    def shares_file_with(self, other: "TableFingerprint") -> bool:
        """True when a file of it has the contents of one of the other, whatever they are called."""
        return not {file.sha256 for file in self.files.values()}.isdisjoint(file.sha256 for file in other.files.values())


class TableAudit(Frozen):
    """What of a training table counts, and what was left out of it or cut, in clicks as well as rows.

    A prepared table, which has rates and no clicks, counts one for each row.
    """

    has_clicks: bool
    clicks: float
    """Of the rows used."""
    conversions: float
    """Of the rows used, after cutting."""
    left_out_clicks: float = 0.0
    """Of the rows left out; one whose clicks cannot be read counts as the mean of the others."""
    first_left_out: list[str] = Field(default_factory=list)
    totals: list[str] = Field(default_factory=list)
    """Rows among those left out that hold the sum of all others: they count no clicks."""
    above_rows: int = 0
    """Rows with more conversions than clicks."""
    above_clicks: float = 0.0
    conversions_cut: float = 0.0
    first_above: str = ""
    unclicked_rows: Annotated[int, Field(exclude_if=lambda rows: not rows)] = 0
    """Rows among them without any clicks: they weigh nothing, and their conversions are cut whole."""
    unclicked_conversions: Annotated[float, Field(exclude_if=lambda conversions: not conversions)] = 0.0
    first_unclicked: Annotated[str, Field(exclude_if=lambda where: not where)] = ""
    repeated_rows: int = 0
    """Rows with the keys, and the week, of a row before them."""
    total_row: str = ""
    """A row among those used that holds the sum of all others."""
    fractional: str = ""
    """The first row with a fraction of a click, where most rows have whole clicks."""
    is_thousands_dot: bool = False
    """True when the fractions look like thousands with a dot: ``1.801``."""

    @property
    def left_out_share(self) -> float:
        """Of all its clicks."""
        return self.left_out_clicks / (self.clicks + self.left_out_clicks) if self.left_out_clicks else 0.0

    @property
    def above_share(self) -> float:
        """Clicks of the rows with more conversions than clicks, of all."""
        return self.above_clicks / self.clicks if self.clicks else 0.0

    @property
    def stated_conversions(self) -> float:
        """Of the rows used and of those without clicks, before cutting."""
        return self.conversions + self.conversions_cut

    @property
    def unclicked_share(self) -> float:
        """Conversions of the rows without clicks, of all."""
        return self.unclicked_conversions / self.stated_conversions if self.unclicked_conversions else 0.0


MetricValues = dict[str, float]


class Estimate(Frozen):
    """A figure with its interval; None where too few keywords stand behind it."""

    value: float
    low: float | None
    high: float | None


class TableSummary(Frozen):
    """What is in a table of clicks and conversions."""

    rows: int
    keywords: int
    clicks: float
    conversions: float
    device_clicks: dict[str, float]
    cold_keywords: int
    """Keywords of which the training table has no row."""
    cold_clicks: float


class SliceFigures(Frozen):
    """How good the predictors are on some of the rows."""

    rows: int
    keywords: int
    clicks: float
    metrics: dict[str, MetricValues]
    """Predictor -> metric -> value."""
    residual: Estimate
    """Predicted minus true conversions per click, of the release itself."""


class CalibrationBin(Frozen):
    """Rows with similar predictions: what was predicted, and what happened, per click."""

    clicks: float
    predicted: float
    happened: Estimate


class Importance(Frozen):
    """The columns that matter most, the most important first."""

    what: str
    """What the numbers are."""
    columns: dict[str, float]


class Verdict(Frozen):
    """What the gate said about letting the alias ``champion`` mean this release."""

    promote: Promote
    """What was asked for."""
    passed: bool
    """Whether it is better than the champion and every naive predictor, beyond chance."""
    promotes: bool
    """Whether the alias was to be moved; what was made of it, the outcome of the job says."""
    reason: str
    champion: ReleaseId | None
    """The champion at that time."""
    objection: Annotated[str, Field(exclude_if=lambda objection: not objection)] = ""
    """What speaks against it, in words; empty where it passed, and in manifests of an earlier version."""


class Evaluation(Frozen):
    """How good a release is, how sure that is, and what the gate made of it."""

    judged_on: Literal["eval", "train"]
    """The table it was judged on; figures on the training table say little of later tables."""
    confidence: float
    """Of all intervals; they come from resampling keywords (``shared.catalog.bootstrap``)."""
    resamples: int
    differences: dict[str, Estimate]
    """Other predictor -> log-loss per click of this release minus that of the other on the same rows; below 0 this one is better."""
    not_compared: dict[str, str]
    """Release -> why it could not be judged on these rows."""
    slices: dict[str, dict[str, SliceFigures]]
    """Kind of slice (device, clicks of the row, history of the keyword) -> slice -> figures."""
    calibration: list[CalibrationBin]
    gains: dict[str, list[float]]
    """Predictor -> share of all conversions among the 0, 5, ..., 100 % of clicks with the highest predictions."""
    importance: Importance | None
    summaries: dict[str, TableSummary]
    gate: Verdict


class CandidateState(StrEnum):
    """The state of the parameters that a search tried; the best come first."""

    CHOSEN = "chosen"
    """The release has these parameters."""
    TRIED = "tried"
    """Every fold was tried."""
    STOPPED = "stopped"
    """Clearly worse than the best, so it got no further folds."""
    FAILED = "failed"
    """The definition failed with these parameters."""


class Candidate(Frozen):
    """Parameters that were tried, and what came of them."""

    number: int
    params: dict[str, Any]
    state: CandidateState
    log_loss_per_click: float | None
    """Over all its folds, each click counted once; None when there is none."""
    folds: list[float]
    """The same for each fold that it got, in their order."""
    reason: str = ""
    """Why it failed or was stopped."""


class Search(Frozen):
    """How the parameters of a release were found."""

    method: str
    config: dict[str, Any]
    """``params.yaml`` as it was understood."""
    folds: list[str] = Field(default_factory=list)
    """Each in words: what was trained on and what evaluated."""
    rule: str = ""
    """When a candidate gets no further folds."""
    candidates: list[Candidate] = Field(default_factory=list)
    """The best first."""
    chosen: dict[str, Any]


class ReleaseManifest(Record):
    """What is known of one release; the last file of its folder, so that a folder with it is complete."""

    release: ReleaseId
    definition: Name
    definition_sha256: Sha256
    """Digest of the code that trained it."""
    created: Timestamp
    job_id: JobId
    model_file: FileName
    columns: list[Column]
    """The features in the order that the model was trained with."""
    keys: Keys = KEYS
    """The columns that name a row, in the order of the result."""
    interval: WithInterval = False
    """True when it can say between what a rate lies as well."""
    files: dict[FileName, FileDigest]
    tables: dict[str, TableFingerprint]
    """``train`` and, if there was one, ``eval``."""
    metrics: dict[str, dict[str, MetricValues]]
    """Table -> predictor (this release's definition, the naive ones, other releases) -> metric -> value."""
    libraries: dict[str, str]
    seconds: float
    evaluation: Annotated[Evaluation | None, Field(exclude_if=lambda found: found is None)] = None
    """None in manifests of an earlier version."""
    search: Annotated[Search | None, Field(exclude_if=lambda search: search is None)] = None
    """How its parameters were found; None when they are the definition's own."""
    audits: Annotated[dict[str, TableAudit], Field(exclude_if=lambda audits: not audits)] = Field(default_factory=dict)
    """Of each of its tables; empty in manifests of an earlier version."""
    seen_share: Annotated[float, Field(ge=0, le=1, exclude_if=lambda share: not share)] = 0.0
    """Of the rows with conversions that it was judged on, how many it was trained on too, in whatever file."""
    warnings: Annotated[list[str], Field(exclude_if=lambda warnings: not warnings)] = Field(default_factory=list)
    """What makes its figures or its rates doubtful, in sentences."""
    forced: Annotated[list[str], Field(exclude_if=lambda forced: not forced)] = Field(default_factory=list)
    """Why its tables would have been refused without ``--force``, in sentences."""
    signature: OptionalSignature = None

    @property
    def forced_in_words(self) -> str:
        """That it was trained with ``--force``, and why its tables would have been refused; empty where they were not."""
        return f"trained with --force, although {'; '.join(self.forced)}" if self.forced else ""

    @property
    def judged_on(self) -> Literal["eval", "train"]:
        """The table whose figures count: that of a later time if there was one."""
        return "eval" if "eval" in self.metrics else "train"

    @property
    def judged_on_seen(self) -> bool:
        """True when the figures that count are of rows it was trained on: there was no other table, or it has seen a part of that."""
        table = self.tables.get(self.judged_on)
        return self.judged_on == "train" or self.seen_share > MOST_SEEN or (table is not None and self.was_trained_on(table))

    def was_trained_on(self, table: TableFingerprint) -> bool:
        """True when it has seen a file of this table in training; of rows in another file its sketch tells (``TRAINED_ROWS``)."""
        return self.tables["train"].shares_file_with(table)

    def check_interval(self) -> None:
        """Raise ModelError when the release can give no interval."""
        if not self.interval:
            raise ModelError(
                f"the release {self.release} gives no interval: its definition has no predict_interval",
                next_step="Leave out --interval, or score with a release that gives one.",
            )


class DeviceSummary(Frozen):
    """What was scored for one device."""

    rows: int
    mean_cr: float


class ResultManifest(Record):
    """What is known of one result; it lies beside the prediction file."""

    job_id: JobId
    release: ReleaseId
    release_files: dict[FileName, FileDigest]
    table: TableFingerprint
    rows_in: int
    rows_scored: int
    rows_rejected: int
    rows_clipped: int
    """Rows whose prediction lay outside [0, 1] and was set to the nearer end."""
    rows_repeated: Annotated[int, Field(exclude_if=lambda rows: rows == 0)] = 0
    """Rows whose key an earlier row has as well; 0 also where nobody counted, as in results of an earlier version."""
    devices: dict[str, DeviceSummary]
    """Device name -> what was scored for it; ``all`` alone where the device is not read."""
    keys: Keys = KEYS
    """The columns that name a row."""
    interval: WithInterval = False
    """True when ``cr_low`` and ``cr_high`` stand behind ``cr``."""
    fixes: JobId | None = None
    """The job whose rejects were fixed, if this one fixes any."""
    fixed_rows: FileDigest | None = None
    """The file of fixed rows."""
    text_sha256: Sha256
    """Digest of the uncompressed prediction file: the same for any chunk size and any fault on the way."""
    output: FileDigest
    """The compressed prediction file."""
    rejects: FileDigest | None
    revision: BucketPath
    """Folder that keeps this result for ever, whatever is published later at its place."""
    job_created: Timestamp
    started: Timestamp
    """When the table had been cut into chunks."""
    finished: Timestamp
    chunks: int
    seconds: float
    """From the request to the result."""

    @property
    def repeated(self) -> str:
        """How many rows repeat a key, in words; empty where none does."""
        about = "about " if self.rows_scored > MAX_KEYS_COUNTED else ""
        rows = "row has" if self.rows_repeated == 1 else "rows have"
        return f"{about}{self.rows_repeated:,} {rows} the key of an earlier row" if self.rows_repeated else ""

    signature: OptionalSignature = None
