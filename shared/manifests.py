"""What is known of one release and of one result: the json beside each, written by workers and read by everybody."""

from typing import Annotated, Literal

from pydantic import Field

from shared.errors import ModelError
from shared.messages import BucketPath, JobId, Moment, Name, Record, ReleaseId, Sha256

OUTPUTS = "data/predict/output"
"""Folder of the results: ``<definition>/<place>/`` below it."""

PREDICTIONS, REJECTS = "prediction_output.csv.gz", "rejects.csv.gz"
"""The files of a result, beside its manifest."""

KEYS = ("entity_id", "device")
"""The columns that name a row of a result, unless the definition has its own."""

ColumnType = Literal["binary", "number", "text"]


MAX_MANIFEST_BYTES = 16 << 20
"""No manifest of a release is longer: that is room for 200,000 columns."""

OptionalSignature = Annotated[Sha256 | None, Field(exclude_if=lambda signature: signature is None)]
"""See ``shared.signatures``; an unsigned manifest does not have the field."""


Keys = Annotated[tuple[str, ...], Field(exclude_if=lambda keys: keys == KEYS)]
WithInterval = Annotated[bool, Field(exclude_if=lambda has_one: not has_one)]
# neither field is written where it says nothing new: readers of an earlier version know no such field


class Part(Record):
    """A frozen piece of a manifest."""


class Column(Part):
    """One feature that a release needs: ``binary`` holds only 0 and 1, ``number`` any finite number, ``text`` any text on one line."""

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
    keys: Keys = KEYS
    """The columns that name a row, in the order of the result."""
    interval: WithInterval = False
    """True when it can say between what a rate lies as well."""
    files: dict[str, FileDigest]
    tables: dict[str, TableFingerprint]
    """``train`` and, if there was one, ``eval``."""
    metrics: dict[str, dict[str, Metrics]]
    """Table -> predictor (this release's definition, and the naive ones) -> metric -> value."""
    libraries: dict[str, str]
    seconds: float
    signature: OptionalSignature = None

    def check_interval(self) -> None:
        """Raise ModelError when the release can give no interval."""
        if not self.interval:
            raise ModelError(
                f"the release {self.release} gives no interval: its definition has no predict_interval",
                next_step="Leave out --interval, or score with a release that gives one.",
            )


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
    job_created: Moment
    started: Moment
    """When the table had been cut into chunks."""
    finished: Moment
    chunks: int
    seconds: float
    """From the request to the result."""
    signature: OptionalSignature = None
