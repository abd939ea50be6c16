"""Looks at the alias and the channel once a second, in a thread, and exchanges what is served when either has moved.

What is new is opened beside what is served. A failure keeps what is served, is counted, and is announced once a day.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import structlog

from model_store.foreign_code import SoftTimeLimitExceeded
from model_store.library import ModelLibrary
from model_store.store import read_manifest
from shared.bucket.interface import Bucket
from shared.catalog.aliases import resolve
from shared.catalog.channels import ChannelChange, read_channel
from shared.errors import ScoringError
from shared.jobs.messages import Notice
from shared.jobs.outbox import announce
from workers.serving.rates.serving import LoadedRelease, Serving
from workers.serving.releases.attempts import Attempts
from workers.serving.releases.opening import open_published, open_release

log = structlog.get_logger()

LOOK_SECONDS = 1.0
RETRY_SECONDS = 30.0
"""What could not be opened is tried again after this time."""
KEYS_DIFFER = "keys"
"""The kind of problem that is no failure: its sentence is for clients too."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What a server serves: where it is, and by which names."""

    bucket: Bucket
    library: ModelLibrary
    home: Path
    model: str
    """A release, an alias or a definition."""
    channel: str


@dataclass
class Events:
    """Called when something was exchanged or could not be, with its kind: ``release`` or ``result``."""

    swapped: Callable[[str, float], None] = lambda _kind, _seconds: None
    failed: Callable[[str], None] = lambda _kind: None
    looked: list[Callable[[], None]] = field(default_factory=list)
    """Called after each look."""


def _no_trial(_: str) -> None:
    """Takes every release as tried."""


@dataclass
class Swapper:
    """Holds what is served now; ``serving`` is replaced as a whole."""

    watched: Watched
    events: Events = field(default_factory=Events)
    serving: Serving = field(default_factory=Serving)
    problems: dict[str, str] = field(default_factory=dict)
    """Kind -> why the newest release or result is not served; empty while all is well."""
    trial: Callable[[str], None] = _no_trial
    """Called before a release is opened beside another one, or again after a death; raises ModelError if it must not be opened here."""
    shown_job: str = ""
    """The job whose result the channel shows, by the last look; empty if it shows none or cannot be read."""
    _opened: set[str] = field(default_factory=set)
    """Releases that this process has opened."""
    _not_before: dict[tuple[str, str], float] = field(default_factory=dict)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _looked: threading.Event = field(default_factory=threading.Event)

    @property
    def is_ready(self) -> bool:
        """True once there is something to answer from."""
        return self.serving.is_ready

    @property
    def why_not_ready(self) -> str:
        """Why there is nothing to answer from yet, in a sentence without any detail of this machine; empty if there is."""
        channel, job_id = self.watched.channel, self.shown_job
        if not self.serving.has_looked:
            return "the alias and the channel are not read yet"
        if self.serving.lacks_result and job_id:
            return f"the result of job {job_id}, which the channel {channel} shows, cannot be opened; a later one is opened by itself"
        if self.serving.lacks_result:
            return f"the channel {channel} cannot be read; it is tried again by itself"
        if not self.serving.is_ready:
            return f"there is neither a release {self.watched.model} nor a result on the channel {channel}"
        return ""

    def start(self) -> threading.Thread:
        """Starts the thread; the first look is made at once."""
        thread = threading.Thread(target=self._run, name="swapping", daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """Lets the thread end after its present look."""
        self._stopping.set()

    def wait_for_first_look(self, seconds: float) -> bool:
        """Waits until the first look has ended, for at most so many seconds; returns True if it has."""
        return self._looked.wait(seconds)

    def _run(self) -> None:
        while not self._stopping.is_set():
            for call in (self.look, *self.events.looked):
                try:
                    call()
                except Exception:
                    log.exception("look failed")
            self._looked.set()
            self._stopping.wait(LOOK_SECONDS)

    def look(self) -> None:
        """Looks once, and exchanges what has moved: first the result, because without it nobody knows which rows are published."""
        shown = self._follow_channel()
        self._follow_alias(shown)
        self._compare_keys()
        if not self.serving.has_looked:
            self.serving = replace(self.serving, has_looked=True)

    def _follow_channel(self) -> ChannelChange | None:
        """Opens the result that the channel shows, if it is another one; returns what the channel shows."""
        try:
            shown = read_channel(self.watched.bucket, self.watched.channel)
        except Exception as error:  # noqa: BLE001 - noted; the alias is followed all the same
            self._note_problem("result", error)
            self.shown_job = ""
            if not self.serving.has_looked:
                self._note_lack(lacks_result=True)
            return None
        self.shown_job = "" if shown is None else shown.job_id
        if shown is not None:
            self._take_result(shown)
        self._note_lack(lacks_result=shown is not None and self.serving.published is None)
        return shown

    def _note_lack(self, *, lacks_result: bool) -> None:
        if lacks_result != self.serving.lacks_result:
            self.serving = replace(self.serving, lacks_result=lacks_result)

    def _follow_alias(self, shown: ChannelChange | None) -> None:
        watched, kind = self.watched, "release"
        try:
            release = resolve(watched.bucket, watched.model)
        except Exception as error:  # noqa: BLE001 - noted; the channel is followed all the same
            self._note_problem(kind, error)
            return
        if release == self.serving.release:
            self.problems.pop(kind, None)
            return
        began = time.monotonic()
        if self._is_resting(kind, release):
            return
        try:
            loaded = self._open(release, shown)
        except (Exception, SoftTimeLimitExceeded) as error:  # noqa: BLE001 - counted, logged and announced
            self._fail(kind, release, f"the release {release} is not served", error)
            return
        self.serving = replace(self.serving, loaded=loaded)
        self._note_swap(kind, release, time.monotonic() - began)

    def _open(self, release: str, shown: ChannelChange | None) -> LoadedRelease:
        """Opens a release, after a trial unless nothing is served yet that it could harm.

        The first release of a server gets a trial too if a process died while it opened it: the server then starts without it.
        """
        watched, attempts = self.watched, Attempts(self.watched.home / "serving" / "opening")
        if release not in self._opened and (self.serving.has_looked or attempts.has_killed(release)):
            # most that is wrong with a release shows here, within a millisecond
            read_manifest(watched.bucket, release)
            self.trial(release)
        with attempts.opening(release):
            loaded = open_release(watched.bucket, watched.library, release, shown)
        attempts.forget(release)
        self._opened.add(release)
        return loaded

    def _take_result(self, shown: ChannelChange) -> None:
        watched, kind = self.watched, "result"
        now = self.serving.published
        if now is not None and (now.change == shown.number or now.manifest.revision == shown.revision):
            self.problems.pop(kind, None)
            return
        began = time.monotonic()
        if self._is_resting(kind, shown.job_id):
            return
        try:
            published = open_published(watched.bucket, watched.home, watched.channel, shown)
        except Exception as error:  # noqa: BLE001 - counted, logged and announced
            self._fail(kind, shown.job_id, f"the result of job {shown.job_id} is not served", error)
            return
        self.serving = replace(self.serving, published=published, lacks_result=False)
        self._note_swap(kind, shown.job_id, time.monotonic() - began)

    def _compare_keys(self) -> None:
        """Notes, and logs once, that the release and the result name rows by other columns."""
        why = self.serving.why_not_computed
        if why and self.problems.get(KEYS_DIFFER) != why:
            log.warning("rows that are not published are not computed", why=why)
        if why:
            self.problems[KEYS_DIFFER] = why
        else:
            self.problems.pop(KEYS_DIFFER, None)

    def _is_resting(self, kind: str, name: str) -> bool:
        return time.monotonic() < self._not_before.get((kind, name), 0.0)

    def _note_swap(self, kind: str, name: str, seconds: float) -> None:
        self.problems.pop(kind, None)
        self._not_before.clear()
        self.events.swapped(kind, seconds)
        log.info("served from now on", kind=kind, name=name, seconds=round(seconds, 3))

    def _note_problem(self, kind: str, error: Exception) -> None:
        """Notes that the alias or the channel cannot be read; logs it once, and counts what is no known trouble of the bucket."""
        why, is_defect = str(error), _is_defect(error)
        if self.problems.get(kind) != why:
            log.warning("cannot look for a newer one", kind=kind, why=why, exc_info=error if is_defect else None)
        self.problems[kind] = why
        if is_defect:
            self.events.failed(kind)

    def _fail(self, kind: str, name: str, what: str, error: BaseException) -> None:
        self._not_before = {key: until for key, until in self._not_before.items() if key[0] != kind}
        self._not_before[kind, name] = time.monotonic() + RETRY_SECONDS
        self.problems[kind] = str(error)
        self.events.failed(kind)
        log.error("not served", kind=kind, name=name, why=str(error), exc_info=error if _is_defect(error) else None)
        day = datetime.now(UTC)
        notice = Notice(
            good=False,
            title=f"HTTP: {what}",
            facts={"reason": str(error), "still served": self.serving.release or "no release", "channel": self.watched.channel},
            next_step=getattr(error, "next_step", "") or "See the log of: scoring serve",
        )
        try:
            announce(self.watched.bucket, f"serve-{kind}-{name.replace('@', '-')}-{day:%Y%m%d}", notice)
        except (ScoringError, OSError) as problem:
            log.warning("notice not written", why=str(problem))


def _is_defect(error: BaseException) -> bool:
    return not isinstance(error, (ScoringError, OSError, SoftTimeLimitExceeded))
