"""Tells people how a job ended, and what else is announced: one message to the Slack webhook, or a log line where there is none.

A webhook that is down, slow or wrong fails nothing: after a few tries the notice is logged and the job is closed all the same. A notice is
told twice rather than never, and then it says so: a webhook cannot be asked whether it has heard something before.
"""

import contextlib
from datetime import UTC, datetime

import structlog

from shared.errors import MessageError, RequestError
from shared.jobs.folder import TELLING, JobFolder, Outcome
from shared.jobs.messages import Notice, ScoreJob
from shared.jobs.outbox import NoticeFolder
from shared.records import Moment, Record
from workers.notices.resting import NoticeError
from workers.notices.slack import post

log = structlog.get_logger()

NOTICE_TRIES = 3
NOTIFIED = "notified.json"


class Notified(Record):
    """That people were told, or that this was given up."""

    at: datetime
    sent: bool
    ended: datetime | None = None
    """When the end was that they were told of; None in files of an earlier version."""


class Telling(Record):
    """That a try to tell people was begun, and what is known of its end."""

    at: Moment
    tries: int
    perhaps_told: bool
    """True while nobody knows better: the process may have died after the webhook took the notice, or the answer never came."""


def tell(folder: JobFolder, webhook_url: str) -> Outcome | None:
    """Send the notice of a job that has ended, unless it was sent, and take the job off the list of open ones.

    Returns the end that was told of; None when there is none, or it was told of before.

    Raises:
        NoticeError: the webhook did not take it and this was not the last try; a sweep makes the next one.
    """
    outcome = folder.outcome()
    if outcome is None:
        return None
    is_new = not is_told(folder, outcome)
    if is_new:
        sent = _send(folder, compose(folder, outcome), webhook_url)
        if folder.outcome() != outcome:
            return None  # resumed in the meantime: how it ends then is yet to be told
        told = Notified(at=datetime.now(UTC), sent=sent, ended=outcome.at)
        folder.bucket.write(folder.file(NOTIFIED), told.to_json())
    folder.close(outcome)
    return outcome if is_new else None


def give_up(folder: JobFolder) -> None:
    """Close a job whose notice cannot be sent, since each try kills its process."""
    outcome = folder.outcome()
    if outcome is None:
        return
    folder.bucket.write(folder.file(NOTIFIED), Notified(at=datetime.now(UTC), sent=False, ended=outcome.at).to_json())
    folder.close(outcome)


def tell_announced(folder: NoticeFolder, webhook_url: str, now: datetime) -> None:
    """Send a notice that belongs to no job, unless it was sent, and take its mark away; ``now`` by the one clock of all workers.

    Raises:
        NoticeError: the webhook did not take it and this was not the last try; a sweep makes the next one.
    """
    if not folder.bucket.exists(folder.file(NOTIFIED)):
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
        sent = _send(folder, notice, webhook_url)
        folder.bucket.write(folder.file(NOTIFIED), Notified(at=datetime.now(UTC), sent=sent).to_json())
    folder.close()


def is_told(folder: JobFolder, outcome: Outcome) -> bool:
    """True when people were told of this end of the job, or it was given up."""
    text = folder.bucket.read(folder.file(NOTIFIED))
    with contextlib.suppress(MessageError):
        return text is not None and Notified.decode(text).ended in (None, outcome.at)
    return True  # damaged: rather not told twice


def compose(folder: JobFolder, outcome: Outcome) -> Notice:
    """What people are told about the end of a job, even of one whose request cannot be read."""
    facts = {"job": folder.job_id}
    what = f"job {folder.job_id}"
    with contextlib.suppress(RequestError):
        job = folder.job()
        what = f"score {job.table} with {outcome.release or job.model}" if isinstance(job, ScoreJob) else f"train {job.definition}"
        facts["took"] = f"{(outcome.at - job.created).total_seconds():.1f} s"
    if outcome.release:
        facts["release"] = outcome.release
    if outcome.result:
        facts["path"] = outcome.result
    facts |= folder.told(outcome).facts
    if outcome.reason:
        facts["reason"] = outcome.reason
    return Notice(
        job_id=folder.job_id, good=outcome.state == "done", title=f"{outcome.state}: {what}", facts=facts, next_step=outcome.next_step
    )


def _send(folder: JobFolder | NoticeFolder, notice: Notice, webhook_url: str) -> bool:
    """Whether people were told; False when there is no webhook, or the notice is given up."""
    log.info("notice", title=notice.title, **{name.replace(" ", "_"): value for name, value in notice.facts.items()})
    if not webhook_url:
        return False
    before = _telling(folder)
    if before.tries >= NOTICE_TRIES:
        log.error("notice given up", problem=f"its process died in each of {before.tries} tries")
        return False
    if before.perhaps_told:
        notice = notice.model_copy(update={"title": f"{notice.title} (perhaps told before)"})
    # written before the post: a process that dies in it leaves the word that somebody may have read the notice
    now = Telling(at=datetime.now(UTC), tries=before.tries + 1, perhaps_told=True)
    folder.bucket.write(folder.file(TELLING), now.to_json())
    try:
        post(notice, webhook_url)
    except NoticeError as error:
        perhaps_told = before.perhaps_told or error.perhaps_told
        folder.bucket.write(folder.file(TELLING), now.model_copy(update={"perhaps_told": perhaps_told}).to_json())
        error.message = f"the webhook did not take the notice {_of(notice)}: {error}"
        if now.tries < NOTICE_TRIES:
            raise
        log.error("notice given up", problem=str(error))
        return False
    return True


def _of(notice: Notice) -> str:
    return f"of job {notice.job_id}" if notice.job_id else repr(notice.title)


def _telling(folder: JobFolder | NoticeFolder) -> Telling:
    """What earlier tries left."""
    text = folder.bucket.read(folder.file(TELLING))
    with contextlib.suppress(MessageError):
        if text is not None:
            return Telling.decode(text)
    return Telling(at=datetime.now(UTC), tries=0, perhaps_told=text is not None)
