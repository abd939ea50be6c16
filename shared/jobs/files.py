"""Names of the files and folders in a job's folder, ``jobs/<job id>/``; no other module contains them.

A step reads the folder, adds one thing, and may run any number of times. A file that is written once never changes: where two processes
may write it, the first writer wins.
"""

from enum import StrEnum


class JobFile(StrEnum):
    """Files in a job's folder: what each holds and who writes it."""

    REQUEST = "job.json"
    """The request. Enqueueing writes it; the first writer wins."""
    VERSIONS = "versions.json"
    """The version of each file of the table. Enqueueing or the plan step writes it."""
    PARAMS = "params.yaml"
    """The configuration of a search for the best parameters. Enqueueing writes it."""
    STAGE = "stage.json"
    """What the running step is doing, for people; may be stale. Each step writes it."""
    PINNED = "begun.json"
    """The pinned release and files of a score job. The plan step writes it before it cuts the table; the first writer wins."""
    PLAN = "plan.json"
    """The chunks, with the release pinned. The plan step writes it; the first writer wins."""
    SEARCH = "search.json"
    """The folds of a search. The training writes it before its first candidate; the first writer wins."""
    MANIFEST = "manifest.json"
    """The record of the result. The finish step writes it; the first writer wins."""
    GUARD = "guard.json"
    """How the guard judged the result against its channel. The finish step writes it, again if the channel moves before a decision."""
    DECISION = "decision.json"
    """A person approved or refused the held result. ``scoring results approve`` and ``refuse`` write it; the first writer wins."""
    SENT_AGAIN = "sent-again"
    """A mark whose time says when the sweep last sent a step of the job again. The sweep writes it."""
    REJECTS_ACCEPTED = "rejects-accepted"
    """A mark: a person lets the job go on without its rejects, however many it has. ``scoring jobs resume`` writes it."""
    OUTCOME = "outcome.json"
    """How the job ended. The last step, a failing step or a cancel writes it; the first writer wins."""
    PUBLISHED = "published.json"
    """The result is at its place; of a training also which aliases point to the release. The last step writes it."""
    HELD = "held.json"
    """The held result has its revision, with the verdict of the guard. The finish step writes it, once for each time it is held."""
    DELIVERY_ATTEMPT = "telling.json"
    """The tries to deliver the notice. The process that delivers it writes it."""
    NOTIFIED = "notified.json"
    """The notice was delivered or given up. The process that delivers it writes it."""
    CLEARED = "cleared"
    """A mark: the job failed, and all but its request and outcome was removed. The daily removal writes it."""


class Subfolder(StrEnum):
    """Folders in a job's folder: what the files in each hold and who writes them."""

    INPUT = "input"
    """The table, if it comes from outside the bucket. Enqueueing writes it."""
    SLICES = "slices"
    """The slices of a compressed table. The plan step writes them."""
    PARTS = "parts"
    """What each chunk wrote (``PartFile``). The chunk step writes them."""
    WAVES = "waves"
    """The candidates that a round of a search tries on one fold. The training writes them; the first writer wins."""
    CANDIDATES = "candidates"
    """The loss of one candidate on one fold. The candidate step writes them; the first writer wins."""
    SUSPECTS = "suspects"
    """Records about a chunk that killed its worker. The chunk step writes them."""
    CRASHES = "deaths"
    """The number of starts of a step without an end, for steps that died or were sent again. The step writes them."""
    FIXES = "fixes"
    """Rows that replace rejects of another job, and the rejects that were not fixed. The plan step of a fix writes them."""
    ENDED = "ended"
    """Earlier outcomes of a job that was resumed. ``scoring jobs resume`` writes them."""


class PartFile(StrEnum):
    """Endings of the files of a part: chunk 7 writes ``parts/0000007.<ending>``."""

    PREDICTED = "csv.gz"
    """The scored rows."""
    REJECTED = "rejects.csv.gz"
    """The rejected rows; only of a chunk with rejects."""
    INDEX = "index.arrow"
    """The scored rows in the order of their keys, for the index of the result."""
    COMPLETE = "json"
    """The record of the part. It is written last: the part is complete."""


NOTICE = "notice.json"
"""A notice that belongs to no job, in its own folder, next to ``JobFile.DELIVERY_ATTEMPT`` and ``JobFile.NOTIFIED``."""
