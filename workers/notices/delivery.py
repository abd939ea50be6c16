"""Delivers all notices, with one loop of tries, lease and rest.

A webhook that is down, slow or wrong fails nothing: after three tries the notice is logged and the job is closed. A notice is sent twice
rather than never, and the second one says so, because a webhook cannot report whether it has received a notice before.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import redis
import structlog

from shared.catalog.paths import REVISIONS
from shared.errors import MessageError, RequestError
from shared.jobs.files import NOTICE, JobFile
from shared.jobs.folder import JobFolder, Outcome
from shared.jobs.messages import Notice, ScoreJob
from shared.jobs.outbox import NoticeFolder
from shared.jobs.states import JobState
from shared.queue.state.leases import leased
from shared.records import Record
from workers.notices import resting
from workers.notices.delivery_state import BucketDeliveryStore, DeliveryState, DeliveryStore
from workers.notices.identified_notice import IdentifiedNotice
from workers.notices.notifier import Notifier
from workers.notices.resting import NoticeError

log = structlog.get_logger()

NOTICE_TRIES = 3
LEASE = "webhook"
MAYBE_REPEATED = " (may be a repetition)"


@contextlib.contextmanager
def take_turn(client: redis.Redis, notifier: Notifier | None) -> Iterator["Turn"]:
    """Gives the webhook to one process at a time; the turn of any other process is not free."""
    with leased(client, LEASE) as is_free:
        yield Turn(is_free=is_free, client=client, notifier=None if notifier is None else _Resting(notifier, client))


@dataclass(frozen=True, kw_only=True)
class Turn:
    """The turn of a process that wants to deliver a notice."""

    is_free: bool
    """False while another process uses the webhook."""
    client: redis.Redis
    notifier: Notifier | None
    """Delivers, and lets the webhook rest after a failed try; None when there is no webhook."""

    @property
    def may_deliver(self) -> bool:
        """False while another process uses the webhook, or the webhook rests."""
        return self.is_free and not resting.rests(self.client)

    @property
    def reason(self) -> str:
        """Why no notice may be delivered now."""
        if not self.is_free:
            return "another process is sending it a notice: ask again in a few seconds"
        return "it is left alone for a while after a try that failed: ask again in a minute"


class _Resting:
    """Lets the webhook rest, for all processes, after each failed try."""

    def __init__(self, notifier: Notifier, client: redis.Redis) -> None:
        self._notifier = notifier
        self._client = client

    def deliver(self, notice: IdentifiedNotice) -> None:
        """Delivers one notice; raises NoticeError if it was not accepted."""
        try:
            self._notifier.deliver(notice)
        except NoticeError as error:
            resting.rest(self._client, error.rest_seconds)
            raise


class Notified(Record):
    """The end of the tries to deliver a notice."""

    at: datetime
    sent: bool
    ended: datetime | None = None
    """When the job of the notice ended; None in files of an earlier version."""


def deliver(notice: IdentifiedNotice, notifier: Notifier, store: DeliveryStore) -> bool:
    """Makes one try to deliver a notice; returns True if it was accepted, False if it is given up.

    Raises:
        NoticeError: it was not accepted and this was not the last try.
    """
    before = store.read()
    if before.tries >= NOTICE_TRIES:
        log.error("notice given up", problem=f"its process died in each of {before.tries} tries")
        return False
    # written before the try: if the process dies in it, the state says that the notice may have arrived
    now = DeliveryState(at=datetime.now(UTC), tries=before.tries + 1, may_have_arrived=True)
    store.write(now)
    title = notice.title + (MAYBE_REPEATED if before.may_have_arrived else "")
    try:
        notifier.deliver(notice.model_copy(update={"title": title}))
    except NoticeError as error:
        store.write(now.model_copy(update={"may_have_arrived": before.may_have_arrived or error.may_have_arrived}))
        error.message = f"the webhook did not take the notice {f'of job {notice.job_id}' if notice.job_id else repr(title)}: {error}"
        if now.tries < NOTICE_TRIES:
            raise
        log.error("notice given up", problem=str(error))
        return False
    return True


def deliver_job_notice(folder: JobFolder, notifier: Notifier | None) -> Outcome | None:
    """Sends the notice of a job that has ended, unless it was sent, and closes the job.

    Returns the outcome in the notice; None when the job is open, or its notice was sent before.

    Raises:
        NoticeError: the webhook did not accept it and this was not the last try; a sweep makes the next one.
    """
    outcome = folder.outcome()
    if outcome is None:
        return None
    is_new = not is_delivered(folder, outcome)
    if is_new:
        notice = IdentifiedNotice.of(compose(folder, outcome), id=f"{folder.job_id}/{outcome.at:%Y%m%dT%H%M%S.%f}", at=outcome.at)
        sent = _send(folder, notice, notifier)
        if folder.outcome() != outcome:
            return None  # resumed meanwhile: its next end gets a notice of its own
        record = Notified(at=datetime.now(UTC), sent=sent, ended=outcome.at)
        folder.bucket.write(folder.file(JobFile.NOTIFIED), record.to_json())
    folder.remove_open_mark(outcome)
    return outcome if is_new else None


def give_up_delivery(folder: JobFolder) -> None:
    """Closes a job whose notice cannot be sent, because each try kills its process."""
    outcome = folder.outcome()
    if outcome is None:
        return
    folder.bucket.write(folder.file(JobFile.NOTIFIED), Notified(at=datetime.now(UTC), sent=False, ended=outcome.at).to_json())
    folder.remove_open_mark(outcome)


def deliver_outbox_notice(folder: NoticeFolder, notifier: Notifier | None, now: datetime) -> None:
    """Sends a notice that belongs to no job, unless it was sent, and closes it; ``now`` comes from one clock for all workers.

    Raises:
        NoticeError: the webhook did not accept it and this was not the last try; a sweep makes the next one.
    """
    if not folder.bucket.exists(folder.file(JobFile.NOTIFIED)):
        try:
            notice = folder.notice()
        except MessageError as error:
            log.error("notice that cannot be read is left alone", name=folder.name, error=str(error))
            folder.close()
            return
        if notice is None:
            if folder.is_orphan(now):
                folder.close()
            return
        sent = _send(folder, _with_identity(folder, notice, now), notifier)
        folder.bucket.write(folder.file(JobFile.NOTIFIED), Notified(at=datetime.now(UTC), sent=sent).to_json())
    folder.close()


def is_delivered(folder: JobFolder, outcome: Outcome) -> bool:
    """Returns True if the notice of this end of the job was sent or given up."""
    text = folder.bucket.read(folder.file(JobFile.NOTIFIED))
    with contextlib.suppress(MessageError):
        return text is not None and Notified.decode(text).ended in (None, outcome.at)
    return True  # damaged: rather no notice than two


def compose(folder: JobFolder, outcome: Outcome) -> Notice:
    """Returns the notice about the end of a job, even of one whose request cannot be read."""
    facts = {"job": folder.job_id}
    what = f"job {folder.job_id}"
    with contextlib.suppress(RequestError):
        job = folder.job()
        what = f"score {job.table} with {outcome.release or job.model}" if isinstance(job, ScoreJob) else f"train {job.definition}"
        facts["took"] = f"{(outcome.at - job.created).total_seconds():.1f} s"
    if outcome.release:
        facts["release"] = outcome.release
    if outcome.result:
        held = f"/{REVISIONS}/{folder.job_id}" if outcome.state == JobState.HELD else ""
        facts["path"] = f"{outcome.result}{held}"
    facts |= folder.with_publication_facts(outcome).facts
    if outcome.reason:
        facts["reason"] = outcome.reason
    return Notice(
        job_id=folder.job_id,
        good=outcome.state == JobState.DONE,
        title=f"{outcome.state}: {what}",
        facts=facts,
        next_step=outcome.next_step,
    )


def _with_identity(folder: NoticeFolder, notice: Notice, now: datetime) -> IdentifiedNotice:
    """Adds the identity to a notice without a job: its name is unique only within its bucket, so its text is part of the identity."""
    file = folder.bucket.stat(folder.file(NOTICE))
    digest = hashlib.sha256(notice.to_json()).hexdigest()[:12]
    at = now if file is None else datetime.fromtimestamp(file.modified, UTC)
    return IdentifiedNotice.of(notice, id=f"{folder.name}/{digest}", at=at)


def _send(folder: JobFolder | NoticeFolder, notice: IdentifiedNotice, notifier: Notifier | None) -> bool:
    """Logs a notice and makes one try to deliver it; returns False if there is no webhook, or the notice is given up."""
    log.info("notice", title=notice.title, **{name.replace(" ", "_"): value for name, value in notice.facts.items()})
    return notifier is not None and deliver(notice, notifier, BucketDeliveryStore(folder))
