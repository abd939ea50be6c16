"""Reads a channel all the time, as a bidding system does, and notes what nobody may ever see there.

Whatever is killed, the channel shows the predictions of one whole revision that passed the guard, that a person approved, or to which a
person went back. Its manifest may belong to the result before or after for a moment, because the predictions are replaced first.
"""

import hashlib
import threading
import time
from dataclasses import dataclass

from shared.bucket.interface import Bucket
from shared.catalog.channels import ChannelChange, channel_folder
from shared.catalog.held import read_decision
from shared.catalog.manifests import CHANNELS, PREDICTIONS, ResultManifest
from shared.catalog.paths import MANIFEST
from shared.errors import ScoringError
from shared.guard.verdict import read_verdict
from shared.jobs.folder import JobFolder
from shared.records import decode_long

RETURN_SECONDS = 5.0
"""Two processes that change a channel at once may let it show the result before once more, for a moment."""
MISMATCH_SECONDS = 150.0
"""A process that is killed between two files of a result is followed by another one within this time."""


@dataclass(frozen=True, kw_only=True)
class Approved:
    """A change of the channel, with what readers may see because of it."""

    change: ChannelChange
    predictions: str
    """SHA-256 of the file."""
    manifest: bytes


class ChannelWatcher:
    """Reads a channel in a thread of its own."""

    def __init__(self, bucket: Bucket, channel: str, *, pause: float) -> None:
        self._bucket, self._channel, self._pause = bucket, channel, pause
        self._approved: list[Approved] = []
        self._settled = 0
        """Position of the newest change that was seen whole: what was shown before may not come back."""
        self._since: dict[str, float] = {}
        """What is tolerated for a while -> since when it has been so."""
        self.problems: list[str] = []
        self.reads = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        self._thread.join(30)

    def take_problems(self) -> list[str]:
        """What was seen since the last call and should not have been."""
        found, self.problems = self.problems, []
        return found if self._thread.is_alive() else [*found, "nobody watches the channel"]

    def _watch(self) -> None:
        while not self._ending.wait(self._pause):
            try:
                self.look()
            except ScoringError as error:
                self._note(f"the channel cannot be read: {error}")

    def look(self) -> None:
        """Reads the channel once."""
        folder = channel_folder(self._channel)
        predictions, manifest = self._bucket.read(f"{folder}/{PREDICTIONS}"), self._bucket.read(f"{folder}/{MANIFEST}")
        self._learn_changes()  # after the files: whatever they show was decided before
        self.reads += 1
        if not self._approved:
            return
        if predictions is None or manifest is None:
            self._note("the channel shows nothing")
            return
        digest = hashlib.sha256(predictions).hexdigest()
        self._judge("predictions", [digest == approved.predictions for approved in self._approved])
        self._judge("manifest", [manifest == approved.manifest for approved in self._approved])
        whole = [place for place, approved in enumerate(self._approved) if (digest, manifest) == (approved.predictions, approved.manifest)]
        self._tolerate("the manifest is not that of the predictions", not whole, MISMATCH_SECONDS)
        self._settled = max([self._settled, *whole])

    def _judge(self, what: str, is_of: list[bool]) -> None:
        """Notes a file that belongs to no change, or for too long to a change before the newest one that was seen whole."""
        if not any(is_of):
            self._note(f"the {what} are of no result that was published on the channel")
        self._tolerate(f"the {what} of an older result came back", any(is_of) and not any(is_of[self._settled :]), RETURN_SECONDS)

    def _tolerate(self, what: str, is_so: bool, seconds: float) -> None:
        if not is_so:
            self._since.pop(what, None)
        elif time.monotonic() - self._since.setdefault(what, time.monotonic()) > seconds:
            self._note(f"{what}, for more than {seconds:.0f} s")

    def _learn_changes(self) -> None:
        while True:
            number = len(self._approved) + 1
            text = self._bucket.read(f"{CHANNELS}/_history/{self._channel}/{number:06d}.json")
            if text is None:
                return
            change = ChannelChange.decode(text)
            if problem := self._why_not(change):
                self._note(f"change {number} of the channel ({change.how}, job {change.job_id}): {problem}")
            manifest = self._bucket.read(f"{change.revision}/{MANIFEST}") or b""
            file = self._bucket.read(f"{change.revision}/{PREDICTIONS}") or b""
            self._approved.append(Approved(change=change, predictions=hashlib.sha256(file).hexdigest(), manifest=manifest))
            if self._approved[-1].predictions != decode_long(ResultManifest, manifest).output.sha256:
                self._note(f"the revision of change {number} is not whole")

    def _why_not(self, change: ChannelChange) -> str:
        """Returns why a change should not have been made; empty if it is right."""
        before = self._approved[-1].change if self._approved else None
        if change.how == "passed the guard":
            verdict = read_verdict(self._bucket, change.revision)
            if verdict is None or verdict.holds:
                return "the guard did not let it pass"
            return "the channel was pinned" if before is not None and before.pinned else ""
        if change.how == "approved":
            decision = read_decision(JobFolder(self._bucket, change.job_id))
            return "" if decision is not None and decision.verdict == "approved" else "nobody approved it"
        if change.how == "rolled back":
            return "" if change.revision in {approved.change.revision for approved in self._approved} else "it was never published"
        if change.how == "unpinned":
            return "" if before is not None and change.revision == before.revision else "it shows another result"
        return "nobody asked for that"

    def _note(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)
