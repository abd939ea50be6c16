"""Notices that beat has been silent, tells people once, and sends the sweep in its place until it is back.

Every worker watches, in a thread of its main process: Redis or the webhook may hang without holding up the loop that takes messages, and
no pool process is needed. The thread has a connection of its own, which the pool processes that are forked beside it never use.

What is silence is judged by what this process saw: the clock starts when it first looks, and anew when Redis did not answer or the process
itself was asleep. So there is no alarm because the stack has just started, Redis was away or emptied, or the machine was suspended.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import redis
import structlog

from shared.jobs.messages import Notice
from shared.processes import process_token
from shared.queue import heartbeat, progress
from shared.settings import Settings
from workers.notices import delivery
from workers.notices.event import Event
from workers.notices.notifier import choose_notifier
from workers.notices.resting import NoticeError
from workers.notices.tries import TriesInMemory

LONGEST_PAUSE_SECONDS = 5.0
"""Between two looks."""
FEWEST_SWEEPS = 3
"""Beat is not silent before so many sweeps are missing, however short the limit."""
CLAIM_SECONDS = 60
"""A worker that took it upon itself to tell, and died, is replaced after this long."""

SILENT = "scoring:beat:silent"
"""Who is about to tell of the silence, or ``TOLD``. A hint: without it people are told again."""
TOLD = b"told"
STAND_IN = "scoring:beat:stand-in"
"""There while a sweep that a worker sent in beat's place is not due again."""

log = structlog.get_logger()


def start_watch(settings: Settings, send_sweep: Callable[[], None]) -> None:
    """Watch from now to the end of the process, unless the settings say never."""
    if not settings.beat_silent_seconds:
        return
    watch = Watch(settings, send_sweep)
    pause = min(settings.sweep_seconds, LONGEST_PAUSE_SECONDS)

    def run() -> None:
        while True:
            try:
                watch.check(time.monotonic())
            except Exception:
                # a defect of ours must not leave the worker without its watch
                log.exception("beat not looked at")
            time.sleep(pause)

    threading.Thread(target=run, name="beat watch", daemon=True).start()


class Watch:
    """What one process knows of beat."""

    def __init__(self, settings: Settings, send_sweep: Callable[[], None]) -> None:
        self._client = progress.connect(settings.broker_url)
        self._webhook_url = settings.webhook_url.get_secret_value()
        self._webhook_format = settings.webhook_format
        self._sweep_seconds = settings.sweep_seconds
        self._limit = max(settings.beat_silent_seconds, FEWEST_SWEEPS * settings.sweep_seconds)
        self._send_sweep = send_sweep
        self._name = process_token().encode()
        self._sign: bytes | None = None
        self._heard = self._looked = float("-inf")
        self._untold: Event | None = None
        self._tries = TriesInMemory()

    def check(self, now: float) -> None:
        """Look once, at this moment of ``time.monotonic``, and do what is needed."""
        try:
            sign = heartbeat.last_heartbeat(self._client, heartbeat.BEAT)
            if now - self._looked > self._limit / 2:
                # the first look, or the first after a sleep: an old sign says nothing
                self._heard, self._sign = now, sign
            self._looked = now
            if sign not in (None, self._sign):
                self._heard, self._sign = now, sign
                self._note_return()
            elif now - self._heard >= self._limit:
                self._stand_in()
                self._note_silence(now - self._heard)
        except redis.RedisError:
            # Redis away is not beat silent
            self._heard = self._looked = now
            return
        self._tell()

    def _stand_in(self) -> None:
        # a little less than the period, so that a look at its end finds the sweep due
        if self._client.set(STAND_IN, b"", nx=True, px=int(self._sweep_seconds * 900)):
            self._send_sweep()

    def _note_silence(self, seconds: float) -> None:
        """One worker of all takes it upon itself to tell."""
        if self._client.set(SILENT, self._name, nx=True, ex=CLAIM_SECONDS):
            if heartbeat.last_heartbeat(self._client, heartbeat.BEAT) not in (None, self._sign):
                self._client.delete(SILENT)  # it came back this moment, and who saw it found no mark to take away
                return
            self._plan_to_tell(_silence(seconds))
        elif self._untold is not None:
            self._client.expire(SILENT, CLAIM_SECONDS)

    def _note_return(self) -> None:
        """The one worker that takes the mark away tells that beat is back, if people heard that it was gone."""
        if self._untold is not None and not self._untold.good:
            self._untold = None
        if self._client.getdel(SILENT) == TOLD:
            self._plan_to_tell(Notice(good=True, title="beat is back", facts={"what it means": "the schedule is kept again"}))

    def _plan_to_tell(self, notice: Notice) -> None:
        now = datetime.now(UTC)
        self._untold = Event.of(notice, id=f"beat/{now:%Y%m%dT%H%M%S.%f}", at=now)
        self._tries = TriesInMemory()
        log.warning("notice", title=notice.title, **{name.replace(" ", "_"): value for name, value in notice.facts.items()})

    def _tell(self) -> None:
        """Make one try, if no other process is at the webhook; after the last one it counts as told."""
        if self._untold is None:
            return
        notifier = choose_notifier(self._webhook_url, self._webhook_format)
        if notifier is not None:
            with delivery.take_turn(self._client, notifier) as turn:
                if turn.notifier is None or not turn.may_deliver:
                    return
                try:
                    delivery.deliver(self._untold, turn.notifier, self._tries)
                except NoticeError:
                    return
        if not self._untold.good:
            try:
                self._client.set(SILENT, TOLD, ex=heartbeat.KEPT_SECONDS)
            except redis.RedisError as error:
                log.warning("telling not noted", error=str(error))
        self._untold = None


def _silence(seconds: float) -> Notice:
    minutes = round(seconds / 60)
    since = datetime.now(UTC) - timedelta(seconds=seconds)
    return Notice(
        good=False,
        title=f"beat has been silent for {f'{minutes} min' if minutes else f'{seconds:.0f} s'}",
        facts={
            "silent since": f"{since:%Y-%m-%d %H:%M:%S} UTC",
            "what it means": "nothing is started by the schedule; jobs go on, because the workers send the sweep meanwhile",
        },
        next_step="Start it with: scoring run beat, or docker-compose up -d beat (scoring up starts it too); if it runs, see its log",
    )
