"""Tells people how a job ended: one message to the Slack webhook, or a log line where there is none.

A webhook that is down, slow or wrong fails nothing: after a few tries the notice is logged and the job is closed all the same.
"""

import contextlib
import queue
import threading
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from slack_sdk.webhook import WebhookClient, WebhookResponse

from shared.errors import RequestError, TransientError
from shared.job_folder import JobFolder, Outcome, close_job
from shared.messages import Notice, Record, ScoreJob

TIMEOUT_SECONDS = 5
"""For the whole of one try; a webhook that answers byte by byte gets no more."""

GOOD, BAD = "#2eb67d", "#e01e5a"

log = structlog.get_logger()


class NoticeError(TransientError):
    """Raised when the webhook did not take the notice; it is tried again a few times."""


class Notified(Record):
    """That people were told, or that this was given up."""

    at: datetime
    sent: bool


def tell(folder: JobFolder, webhook_url: str, *, last_try: bool) -> None:
    """Send the notice of a job that has ended, unless it was sent, and take the job off the list of open ones.

    Raises:
        NoticeError: the webhook did not take it and this was not the last try.
    """
    outcome = folder.outcome()
    if outcome is None:
        return
    if not folder.has("notified.json"):
        sent = _send(compose(folder, outcome), webhook_url, last_try=last_try)
        if folder.outcome() != outcome:
            return  # resumed in the meantime: how it ends then is yet to be told
        folder.bucket.create(folder.file("notified.json"), Notified(at=datetime.now(UTC), sent=sent).to_json())
    close_job(folder.bucket, folder.job_id)


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
    facts |= outcome.facts
    if outcome.reason:
        facts["reason"] = outcome.reason
    return Notice(
        job_id=folder.job_id, good=outcome.state == "done", title=f"{outcome.state}: {what}", facts=facts, next_step=outcome.next_step
    )


def _send(notice: Notice, webhook_url: str, *, last_try: bool) -> bool:
    log.info("notice", title=notice.title, **{name.replace(" ", "_"): value for name, value in notice.facts.items()})
    if not webhook_url:
        return False
    try:
        post(notice, webhook_url)
    except Exception as error:  # noqa: BLE001 - whatever a hostile or broken webhook brings about, the job's end must not depend on it
        # the text of any other error may hold the address, which is a secret
        reason = str(error) if isinstance(error, NoticeError | OSError) else type(error).__name__
        problem = f"the webhook did not take the notice of job {notice.job_id}: {reason}"
        if not last_try:
            raise NoticeError(problem) from None
        log.error("notice given up", problem=problem)
        return False
    return True


def post(notice: Notice, webhook_url: str) -> None:
    """One message to a Slack webhook; raises NoticeError unless it was taken."""
    fields = [{"title": name, "value": value, "short": len(value) < 40} for name, value in notice.facts.items()]
    attachment = {"color": GOOD if notice.good else BAD, "fields": fields, "footer": notice.next_step, "fallback": notice.title}
    client = WebhookClient(webhook_url, timeout=TIMEOUT_SECONDS, retry_handlers=[])
    answer = _in_time(lambda: client.send(text=notice.title, attachments=[attachment]))
    # a redirect that was followed answers 200 as well, but not with Slack's word for it
    if answer.status_code != 200 or answer.body.strip() != "ok":
        raise NoticeError(f"it answered {answer.status_code} {answer.body[:100]!r}")


def _in_time(ask: Callable[[], WebhookResponse]) -> WebhookResponse:
    """The answer, if it comes in time: the timeout of a socket begins anew with every byte, so the asking has a thread of its own."""
    answers: queue.SimpleQueue[WebhookResponse | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put(ask())
        except Exception as error:  # noqa: BLE001 - it is raised by the thread that waits
            answers.put(error)

    threading.Thread(target=run, name="webhook", daemon=True).start()
    try:
        answer = answers.get(timeout=TIMEOUT_SECONDS)
    except queue.Empty:
        raise NoticeError(f"it did not answer within {TIMEOUT_SECONDS} seconds") from None
    if isinstance(answer, Exception):
        raise answer
    return answer
