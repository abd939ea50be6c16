"""What is known of one release and of one result: the json beside each, written by workers and read by everybody."""

from typing import Annotated, Any, Literal

from pydantic import Field

from shared.messages import BucketPath, JobId, Moment, Name, Record, ReleaseId, Sha256

OUTPUTS = "data/predict/output"
"""Folder of the results: ``<definition>/<place>/`` below it."""

PREDICTIONS, REJECTS = "prediction_output.csv.gz", "rejects.csv.gz"
"""The files of a result, beside its manifest."""

ColumnType = Literal["binary", "number"]


MAX_MANIFEST_BYTES = 16 << 20
"""No manifest of a release is longer: that is room for 200,000 columns."""

OptionalSignature = Annotated[Sha256 | None, Field(exclude_if=lambda signature: signature is None)]
"""See ``shared.signatures``; an unsigned manifest does not have the field."""


class Part(Record):
    """A frozen piece of a manifest."""


class Column(Part):
    """One feature that a release needs: ``binary`` holds only 0 and 1, ``number`` any finite number."""

    name: str
    type: ColumnType


class FileDigest(Part):
    """Size in bytes and sha256 of one file."""

    sha256: Sha256
    size: Annotated[int, Field(ge=0)]


class TableFingerprint(Part):
    """Which table it was: every file with its digest, and the rows used and rejected."""

    path: BucketPath
    files: dict[str, FileDigest]
    rows: int
    rejected: int


Metrics = dict[str, float]


class Candidate(Part):
    """Parameters that were tried, and what came of them."""

    number: int
    params: dict[str, Any]
    state: Literal["chosen", "tried", "stopped", "failed"]
    """``stopped``: clearly worse than the best, so it got no further folds."""
    log_loss_per_click: float | None
    """Over all its folds, each click counted once; None when there is none."""
    folds: list[float]
    """The same for each fold that it got, in their order."""
    reason: str = ""
    """Why it failed or was stopped."""


class Search(Part):
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
    created: Moment
    job_id: JobId
    model_file: str
    columns: list[Column]
    """The features in the order that the model was trained with."""
    files: dict[str, FileDigest]
    tables: dict[str, TableFingerprint]
    """``train`` and, if there was one, ``eval``."""
    metrics: dict[str, dict[str, Metrics]]
    """Table -> predictor (this release's definition, and the naive ones) -> metric -> value."""
    libraries: dict[str, str]
    seconds: float
    search: Annotated[Search | None, Field(exclude_if=lambda search: search is None)] = None
    """How its parameters were found; None when they are the definition's own."""
    signature: OptionalSignature = None


class DeviceSummary(Part):
    """What was scored for one device."""

    rows: int
    mean_cr: float


class ResultManifest(Record):
    """What is known of one result; it lies beside the prediction file."""

    job_id: JobId
    release: ReleaseId
    release_files: dict[str, FileDigest]
    table: TableFingerprint
    rows_in: int
    rows_scored: int
    rows_rejected: int
    rows_clipped: int
    """Rows whose prediction lay outside [0, 1] and was set to the nearer end."""
    devices: dict[str, DeviceSummary]
    """Device name -> what was scored for it."""
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
    job_created: Moment
    started: Moment
    """When the table had been cut into chunks."""
    finished: Moment
    chunks: int
    seconds: float
    """From the request to the result."""
    signature: OptionalSignature = None
