"""Detects that beat is silent, sends one notice, and sends the sweep in its place until it is back.

Every worker watches, in a thread of its main process: Redis or the webhook may hang without blocking the loop that receives messages, and
no pool process is needed. The thread has its own connection, which forked pool processes never use.

Silence is measured by what this process observed: the clock starts at its first check, and restarts after Redis did not answer or the
process was suspended. So there is no alarm because the stack has just started, Redis was down or emptied, or the machine was suspended.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import redis
import structlog

from shared.jobs.messages import Notice
from shared.processes import process_token
from shared.queue.client import connect_to_redis
from shared.queue.state import heartbeat
from shared.settings import Settings
from workers.notices import delivery
from workers.notices.delivery_state import MemoryDeliveryStore
from workers.notices.identified_notice import IdentifiedNotice
from workers.notices.notifier import choose_notifier
from workers.notices.resting import NoticeError

LONGEST_PAUSE_SECONDS = 5.0
"""Maximum seconds between two checks."""
FEWEST_SWEEPS = 3
"""Beat is not silent before this many sweeps are missing, however short the limit."""
CLAIM_SECONDS = 60
"""A worker that claimed the notice and died is replaced after this many seconds."""

SILENT = "scoring:beat:silent"
"""Key with the worker that is about to send the notice, or ``ANNOUNCED``. Only a hint: without it the notice is sent again."""
ANNOUNCED = b"told"
"""Value of the key once the notice was delivered."""
STAND_IN = "scoring:beat:stand-in"
"""Key that exists until the next sweep in beat's place is due."""

log = structlog.get_logger()


def start_watch(settings: Settings, send_sweep: Callable[[], None]) -> None:
    """Starts the watch for the life of the process, unless the settings disable it."""
    if not settings.beat_silent_seconds:
        return
    watch = Watch(settings, send_sweep)
    pause = min(settings.sweep_seconds, LONGEST_PAUSE_SECONDS)

    def run() -> None:
        while True:
            try:
                watch.check(time.monotonic())
            except Exception:
                # a defect must not leave the worker without its watch
                log.exception("beat not checked")
            time.sleep(pause)

    threading.Thread(target=run, name="beat watch", daemon=True).start()


class Watch:
    """What one process knows about beat."""

    def __init__(self, settings: Settings, send_sweep: Callable[[], None]) -> None:
        self._client = connect_to_redis(settings.broker_url)
        self._webhook_url = settings.webhook_url.get_secret_value()
        self._webhook_format = settings.webhook_format
        self._sweep_seconds = settings.sweep_seconds
        self._limit = max(settings.beat_silent_seconds, FEWEST_SWEEPS * settings.sweep_seconds)
        self._send_sweep = send_sweep
        self._name = process_token().encode()
        self._sign: bytes | None = None
        self._last_change = self._last_check = float("-inf")
        self._pending: IdentifiedNotice | None = None
        self._store = MemoryDeliveryStore()

    def check(self, now: float) -> None:
        """Checks beat once, at this moment of ``time.monotonic``, and acts on it."""
        try:
            sign = heartbeat.last_heartbeat(self._client, heartbeat.BEAT)
            if now - self._last_check > self._limit / 2:
                # the first check, or the first after a suspension: an old heartbeat proves nothing
                self._last_change, self._sign = now, sign
            self._last_check = now
            if sign not in (None, self._sign):
                self._last_change, self._sign = now, sign
                self._note_return()
            elif now - self._last_change >= self._limit:
                self._send_sweep_for_beat()
                self._note_silence(now - self._last_change)
        except redis.RedisError:
            # an unreachable Redis does not prove that beat is silent
            self._last_change = self._last_check = now
            return
        self._deliver()

    def _send_sweep_for_beat(self) -> None:
        # a little less than the period, so that a check at its end finds the sweep due
        if self._client.set(STAND_IN, b"", nx=True, px=int(self._sweep_seconds * 900)):
            self._send_sweep()

    def _note_silence(self, seconds: float) -> None:
        """Claims the notice, so that only one worker sends it."""
        if self._client.set(SILENT, self._name, nx=True, ex=CLAIM_SECONDS):
            if heartbeat.last_heartbeat(self._client, heartbeat.BEAT) not in (None, self._sign):
                self._client.delete(SILENT)  # beat came back meanwhile, and the worker that noticed it found no mark to remove
                return
            self._plan_notice(_silence(seconds))
        elif self._pending is not None:
            self._client.expire(SILENT, CLAIM_SECONDS)

    def _note_return(self) -> None:
        """The worker that removes the mark announces that beat is back, if the silence was announced."""
        if self._pending is not None and not self._pending.good:
            self._pending = None
        if self._client.getdel(SILENT) == ANNOUNCED:
            self._plan_notice(Notice(good=True, title="beat is back", facts={"what it means": "the schedule is kept again"}))

    def _plan_notice(self, notice: Notice) -> None:
        now = datetime.now(UTC)
        self._pending = IdentifiedNotice.of(notice, id=f"beat/{now:%Y%m%dT%H%M%S.%f}", at=now)
        self._store = MemoryDeliveryStore()
        log.warning("notice", title=notice.title, **{name.replace(" ", "_"): value for name, value in notice.facts.items()})

    def _deliver(self) -> None:
        """Makes one try, if no other process uses the webhook; after the last try the notice counts as delivered."""
        if self._pending is None:
            return
        notifier = choose_notifier(self._webhook_url, self._webhook_format)
        if notifier is not None:
            with delivery.take_turn(self._client, notifier) as turn:
                if turn.notifier is None or not turn.may_deliver:
                    return
                try:
                    delivery.deliver(self._pending, turn.notifier, self._store)
                except NoticeError:
                    return
        if not self._pending.good:
            try:
                self._client.set(SILENT, ANNOUNCED, ex=heartbeat.KEPT_SECONDS)
            except redis.RedisError as error:
                log.warning("delivery not recorded", error=str(error))
        self._pending = None


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
