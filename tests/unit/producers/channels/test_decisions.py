"""One person decides about a held result; channels go back and stay there until somebody unpins them."""

import contextlib
import gzip
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from producers.authorship import who
from producers.channels.deciding import approve, refuse
from producers.channels.held import list_held
from producers.channels.moving import existing_channel, roll_back_channel, unpin
from producers.cli import root
from producers.display.terminal import say_error
from producers.enqueue.score import enqueue_score
from producers.operations.checks.channels import check_channels
from producers.operations.checks.examined import Examined
from producers.schedule.schedule_file import SCHEDULE
from shared.bucket.local import LocalBucket
from shared.catalog.channels import channel_changes, channel_folder, read_channel
from shared.catalog.held import read_decision
from shared.catalog.manifests import CHANNELS, PREDICTIONS
from shared.catalog.paths import MANIFEST
from shared.errors import BrokerError, BucketError, HeldError, RequestError, ScoringError
from shared.guard.config import GUARD
from shared.jobs.files import JobFile
from shared.jobs.folder import JobFolder, close_job, open_jobs
from shared.jobs.outbox import undelivered
from shared.jobs.states import JobState
from shared.retention.config import RETENTION, read_retention
from shared.retention.needs import read_needs
from shared.retention.round import make_round
from shared.settings import Settings
from shared.text.numbered import in_lines
from tests.handmade import die_after, make_job, publish_handmade, row, run_job, text_at, write_table
from workers.notices import delivery
from workers.scoring import publishing

ROWS = 600
METHODS = ["write", "create", "copy", "delete"]


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    return bucket


@pytest.fixture
def settings(bucket, no_redis_url) -> Settings:
    return Settings(bucket_url=bucket.url, redis_url=no_redis_url)


def scoring(settings: Settings, *arguments: str, error: type[ScoringError] | None = None) -> Result:
    environment = {"BUCKET_URL": settings.bucket_url, "REDIS_URL": settings.broker_url, "COLUMNS": "300"}
    done = CliRunner().invoke(root.scoring, list(arguments), env=environment)
    assert done.exit_code == 0 if error is None else isinstance(done.exception, error), done.output
    return done


def job_for(bucket: LocalBucket, minute: int, rows: int = ROWS) -> JobFolder:
    table = write_table(bucket, [row(number) for number in range(rows)], f"data/predict/input/{minute}/keywords.csv")
    folder = make_job(bucket, minute=minute, table=table, channel="live")
    run_job(folder)
    return folder


@pytest.fixture
def held(bucket) -> JobFolder:
    job_for(bucket, 1)
    return job_for(bucket, 2, ROWS // 2)


def test_an_approval_is_recorded_and_published_once_the_finish_step_runs(bucket, settings, held):
    asked = approve(settings, bucket, held.job_id, reason="meant")
    assert asked.enqueued.problem is not None  # no Redis: the sweep sends the step
    decision = read_decision(held)
    assert decision is not None
    assert (decision.verdict, decision.by, decision.reason, decision.compared_with) == ("approved", who(), "meant", 1)
    outcome = publishing.finish_job(held)
    assert outcome is not None
    assert outcome.state == JobState.DONE
    assert list(list_held(bucket)) == []


def test_the_second_person_is_told_who_decided_and_when(bucket, settings, held):
    refuse(bucket, held.job_id, reason="a broken join")
    for decide in (lambda: approve(settings, bucket, held.job_id, reason="fine"), lambda: refuse(bucket, held.job_id, reason="no")):
        with pytest.raises(RequestError) as raised:
            decide()
        assert f"was refused by {who()} at" in raised.value.message
        assert "(a broken join)" in raised.value.message
    assert list(list_held(bucket)) == []


def before_the_second_decides(patch, bucket, held, first) -> None:
    """Lets the second person read that there is no decision; then the first one decides."""
    read, decisions = LocalBucket.read, [first]

    def read_then_decide(self, path):
        found = read(self, path)
        if path == held.file(JobFile.DECISION) and decisions:
            decisions.pop()()
        return found

    patch.setattr(LocalBucket, "read", read_then_decide)


@pytest.mark.parametrize(("first", "second"), [("approved", "refused"), ("refused", "approved")])
def test_of_two_decisions_at_once_the_first_one_counts(bucket, settings, held, monkeypatch, first, second):
    def decide(verdict, reason):
        return (
            approve(settings, bucket, held.job_id, reason=reason) if verdict == "approved" else refuse(bucket, held.job_id, reason=reason)
        )

    with monkeypatch.context() as patch:
        before_the_second_decides(patch, bucket, held, lambda: decide(first, "of the first"))
        with pytest.raises(RequestError) as raised:
            decide(second, "of the second")
    assert f"was {first} by {who()} at" in raised.value.message
    assert "(of the first)" in raised.value.message
    decision = read_decision(held)
    assert (decision.verdict, decision.reason) == (first, "of the first")


def test_a_decision_that_cannot_be_read_is_replaced(bucket, held):
    bucket.write(held.file(JobFile.DECISION), b"{")
    refuse(bucket, held.job_id, reason="no")
    assert read_decision(held).verdict == "refused"


def test_an_approval_whose_command_died_is_completed_by_the_next_which_names_it(bucket, settings, held, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(JobFolder, "reopen_held", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            approve(settings, bucket, held.job_id, reason="meant")
    said = scoring(settings, "results", "approve", held.job_id, "--reason", "me too", "--no-wait", error=BrokerError)
    assert f"was approved by {who()} at" in said.stderr
    assert "(meant). This command completes that approval; its own reason is not kept." in said.stderr
    outcome = publishing.finish_job(held)
    assert outcome is not None
    assert "meant" in outcome.facts["approved"]


def test_a_refused_result_is_shown_as_refused_and_not_as_one_to_approve(bucket, settings, held):
    refuse(bucket, held.job_id, reason="a broken join")
    shown = scoring(settings, "jobs", "show", held.job_id).stdout
    listed = scoring(settings, "jobs", "list").stdout
    data = scoring(settings, "jobs", "show", held.job_id, "--json").stdout
    again = scoring(settings, "jobs", "show", held.job_id, "--follow", error=HeldError).exception
    for text in (shown, listed, data, f"{again.message} {again.next_step}"):
        words = " ".join(text.split())
        assert f"refused by {who()} at" in words
        assert "(a broken join)" in words
        assert "results approve" not in words


def test_people_read_once_why_a_result_is_held_with_a_line_for_each_reason(bucket, settings, held):
    head, *reasons = in_lines(held.outcome().reason)
    assert len(reasons) > 1
    shown = scoring(settings, "jobs", "show", held.job_id).stdout
    lines = [line.strip() for line in shown.splitlines()]
    assert [lines.count(reason) for reason in reasons] == [1] * len(reasons)
    assert [shown.count(reason.partition(") ")[2]) for reason in reasons] == [1] * len(reasons)
    error = scoring(settings, "jobs", "show", held.job_id, "--follow", error=HeldError).exception
    with contextlib.redirect_stderr(io.StringIO()) as said:
        say_error(error.message, error.next_step)
    assert said.getvalue().splitlines()[:-2] == [
        f"Error: the result of job {held.job_id} is held: {head}",
        *(f"  {reason}" for reason in reasons[:-1]),
        f"  {reasons[-1]}.",
    ]


def test_programs_get_the_revision_of_a_held_result_and_no_place(bucket, settings, held):
    place, revision = held.outcome().result, f"{held.outcome().result}/revisions/{held.job_id}"
    shown = json.loads(scoring(settings, "jobs", "show", held.job_id, "--json").stdout)["outcome"]
    listed = json.loads(scoring(settings, "jobs", "list", "--state", "held", "--json").stdout)[0]["outcome"]
    followed = json.loads(scoring(settings, "jobs", "show", held.job_id, "--follow", "--json", error=HeldError).stdout)
    for outcome in (shown, listed, followed):
        assert (outcome["state"], outcome["result"], outcome["revision"]) == ("held", "", revision)
    assert bucket.exists(f"{revision}/{MANIFEST}")
    done = json.loads(scoring(settings, "jobs", "list", "--state", "done", "--json").stdout)[0]["outcome"]
    assert (done["result"], "revision" in done) == (place, False)


def test_an_approval_that_dies_at_any_write_does_not_announce_twice_that_the_result_is_held(bucket, settings, held, monkeypatch):
    outcome = held.outcome()
    delivery.deliver_job_notice(held, None)
    for writes in range(20):
        with monkeypatch.context() as patch:
            left = die_after(patch, bucket, writes, METHODS)
            with contextlib.suppress(KeyboardInterrupt):
                approve(settings, bucket, held.job_id, reason="meant")
        assert held.outcome() is None or delivery.is_delivered(held, outcome)
        if left[0] >= 0:
            break
        held.bucket.delete(held.file(JobFile.DECISION))
        held.write_outcome(outcome)
    assert 3 < writes < 19


def test_a_result_that_is_not_held_is_refused(bucket, settings):
    done = job_for(bucket, 1)
    with pytest.raises(RequestError, match="is not held: the job is done"):
        approve(settings, bucket, done.job_id, reason="meant")
    with pytest.raises(RequestError, match="there is no job"):
        refuse(bucket, "20261123t120000z-score-000009", reason="no")


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
def test_a_decision_needs_a_short_reason(bucket, settings, held, reason):
    with pytest.raises(RequestError, match="reason"):
        approve(settings, bucket, held.job_id, reason=reason)
    assert read_decision(held) is None


def test_the_held_are_listed_with_their_reason_until_they_are_overdue(bucket, held):
    [found] = list_held(bucket)
    assert (found.job_id, found.channel, found.is_overdue) == (held.job_id, "live", False)
    assert "rows" in found.reason
    outcome = held.outcome()
    assert outcome is not None
    held.reconsider(outcome)
    held.write_outcome(outcome.model_copy(update={"at": outcome.at - timedelta(hours=13)}))
    assert next(list_held(bucket)).is_overdue
    bucket.write(GUARD, b"live: {hold_for: 14h}")
    assert not next(list_held(bucket)).is_overdue


def test_the_files_of_a_held_job_and_of_what_a_channel_shows_stay(bucket, held):
    for job_id in open_jobs(bucket):
        close_job(bucket, job_id)
    needs = read_needs(bucket)
    assert needs.reason(held.job_id) == "its result is held until a person approves or refuses it"
    now = read_channel(bucket, "live")
    assert now is not None
    assert needs.reason(now.job_id) is None
    assert needs.reason_of_revision(now.job_id) == "the channel live shows it or can be rolled back to it"


def test_a_refused_result_stays_refused_after_its_files_were_removed(bucket, settings, held):
    refuse(bucket, held.job_id, reason="a broken join")
    close_job(bucket, held.job_id)
    bucket.write(RETENTION, b"jobs: {done: 30d, failed: 30d}")
    for days in (31, 33):
        make_round(bucket, read_retention(bucket), datetime.now(UTC) + timedelta(days=days))
    assert not held.has(JobFile.PLAN)
    assert held.status().state == JobState.HELD
    with pytest.raises(RequestError, match="was refused by"):
        approve(settings, bucket, held.job_id, reason="fine after all")
    bucket.delete(held.file(JobFile.DECISION))  # an earlier version removed it
    outcome = held.outcome()
    for decide in (lambda: approve(settings, bucket, held.job_id, reason="fine"), lambda: refuse(bucket, held.job_id, reason="no")):
        with pytest.raises(RequestError, match="were removed some time after it had ended"):
            decide()
    assert read_decision(held) is None
    with pytest.raises(RequestError, match="were removed"):
        held.reopen_held()
    assert held.outcome() == outcome
    assert held.job_id not in open_jobs(bucket)


def test_a_rollback_goes_back_one_step_each_time_and_pins(bucket):
    folders = [job_for(bucket, minute, ROWS - minute) for minute in range(1, 4)]
    for expected in (folders[1], folders[0]):
        change = roll_back_channel(bucket, "live", to=None, reason="bad")
        assert (change.job_id, change.pinned) == (expected.job_id, True)
        assert text_at(bucket, channel_folder("live")) == text_at(bucket, change.revision)
    with pytest.raises(RequestError, match="no earlier result of it is left"):
        roll_back_channel(bucket, "live", to=None, reason="bad")
    assert unpin(bucket, "live") is not None
    assert unpin(bucket, "live") is None
    now = existing_channel(bucket, "live")
    assert (now.job_id, now.pinned) == (folders[0].job_id, False)


def test_a_rollback_that_died_at_any_write_is_completed_by_the_next(bucket, monkeypatch):
    first, second = job_for(bucket, 1), job_for(bucket, 2, ROWS - 3)
    texts = [text_at(bucket, change.revision) for change in reversed([*channel_changes(bucket, "live")])]
    for writes in range(30):
        with monkeypatch.context() as patch:
            left = die_after(patch, bucket, writes, METHODS)
            with contextlib.suppress(KeyboardInterrupt):
                roll_back_channel(bucket, "live", to=first.job_id, reason="absurd")
        assert gzip.decompress(bucket.read(f"{channel_folder('live')}/{PREDICTIONS}")).decode() in texts
        if left[0] >= 0:
            break
        with contextlib.suppress(RequestError):  # it shows it already
            roll_back_channel(bucket, "live", to=first.job_id, reason="absurd")
        assert text_at(bucket, channel_folder("live")) == texts[0]
        now = read_channel(bucket, "live")
        assert (now.job_id, now.pinned) == (first.job_id, True)
        assert [folder.name for folder in undelivered(bucket)][-1] == f"channel-live-{now.number:06d}"
        roll_back_channel(bucket, "live", to=second.job_id, reason="for the next one")
    assert 8 < writes < 29


def test_doctor_sees_a_rollback_whose_files_are_missing_and_its_command_copies_them(bucket, settings, monkeypatch):
    first, second = job_for(bucket, 1), job_for(bucket, 2, ROWS - 3)
    examined = Examined(settings=settings, bucket=bucket)
    assert [finding.state for finding in check_channels(examined)] == ["well"]
    with monkeypatch.context() as patch:
        patch.setattr(bucket, "copy", lambda *_, **__: (_ for _ in ()).throw(BucketError("the disk is full", next_step="Make room.")))
        with pytest.raises(BucketError):
            roll_back_channel(bucket, "live", to=first.job_id, reason="absurd")
    [found] = check_channels(examined)
    assert (found.state, found.next_step) == ("warning", "The sweep completes it within minutes.")
    for mark in bucket.files(f"{CHANNELS}/_open"):
        bucket.delete(mark.path)
    [found] = check_channels(examined)
    assert found.state == "ill"
    assert f"not those of the result that it shows, of job {first.job_id}" in found.text
    assert f"scoring results rollback live --to {first.job_id}" in found.next_step
    with pytest.raises(RequestError, match="already"):
        roll_back_channel(bucket, "live", to=first.job_id, reason="once more")
    assert text_at(bucket, channel_folder("live")) != text_at(bucket, f"{second.outcome().result}/revisions/{second.job_id}")
    assert [(found.state, "pinned" in found.text) for found in check_channels(examined)] == [("warning", True)]


def test_an_unpin_that_died_at_any_write_is_completed_by_the_next(bucket, monkeypatch):
    jobs = [job_for(bucket, 1).job_id, job_for(bucket, 2, ROWS - 3).job_id]
    for writes in range(30):
        roll_back_channel(bucket, "live", to=jobs[writes % 2], reason="absurd")
        with monkeypatch.context() as patch:
            left = die_after(patch, bucket, writes, METHODS)
            with contextlib.suppress(KeyboardInterrupt):
                unpin(bucket, "live")
        if left[0] >= 0:
            break
        unpin(bucket, "live")
        now = read_channel(bucket, "live")
        assert not now.pinned
        assert f"channel-live-{now.number:06d}" in {folder.name for folder in undelivered(bucket)}
    assert 8 < writes < 29


def test_unpin_of_a_channel_that_is_not_pinned_says_what_it_shows(bucket, settings):
    first, second = job_for(bucket, 1), job_for(bucket, 2, ROWS - 3)
    said = scoring(settings, "results", "unpin", "live").stdout
    assert said.startswith(f"live was not pinned: it shows the result of job {second.job_id}, and the next result")
    data = json.loads(scoring(settings, "results", "unpin", "live", "--json").stdout)
    assert data == {"channel": "live", "changed": False, "job_id": second.job_id}
    roll_back_channel(bucket, "live", to=None, reason="bad")
    said = scoring(settings, "results", "unpin", "live").stdout
    assert said.startswith(f"live is not pinned any more: it shows the result of job {first.job_id}, and the next result")


@pytest.mark.parametrize(
    ("section", "advice"), [("liev", "Write live."), ("nightly", ""), ("live", ""), ("new", ""), ("zzz", "Correct its name")]
)
def test_doctor_warns_of_limits_for_a_channel_that_nothing_publishes_on(bucket, settings, section, advice):
    job_for(bucket, 1)
    entry = {"name": "nightly", "cron": "0 4 * * *", "time_zone": "UTC", "model": "v1", "score": "data/predict/input/1"}
    bucket.write(SCHEDULE, json.dumps([entry]).encode())
    waiting = make_job(bucket, minute=2, table="data/predict/input/1/keywords.csv", channel="new")
    bucket.write(GUARD, b"]")
    assert run_job(waiting).state == JobState.HELD
    bucket.write(GUARD, f"{section}: {{mode: warn}}".encode())
    found = [finding for finding in check_channels(Examined(settings=settings, bucket=bucket)) if finding.subject == "guard"]
    assert [finding.state for finding in found] == (["warning"] if advice else [])
    if found:
        assert f"{GUARD} has limits for {section}, but there is no channel {section}" in found[0].text
        assert "there are: live, new, nightly" in found[0].text
        assert advice in found[0].next_step


def test_doctor_does_not_guess_what_a_schedule_that_cannot_be_read_names(bucket, settings):
    bucket.write(SCHEDULE, b"- name")
    bucket.write(GUARD, b"nightly: {mode: warn}")
    assert [*check_channels(Examined(settings=settings, bucket=bucket))] == []


@pytest.mark.parametrize("decision", ["none", "refused"])
def test_a_held_result_is_not_shown_by_a_rollback(bucket, held, decision):
    if decision == "refused":
        refuse(bucket, held.job_id, reason="a broken join")
    before = text_at(bucket, channel_folder("live"))
    with pytest.raises(RequestError, match=f"live never showed the result of job {held.job_id}") as raised:
        roll_back_channel(bucket, "live", to=held.job_id, reason="the last good night")
    assert ("results approve" in raised.value.next_step) == (decision == "none")
    assert ("(a broken join)" in raised.value.message) == (decision == "refused")
    assert text_at(bucket, channel_folder("live")) == before


@pytest.mark.parametrize("channel", [None, "other"])
def test_a_result_of_another_channel_or_of_none_is_not_shown_by_a_rollback(bucket, channel):
    job_for(bucket, 1)
    other = make_job(bucket, minute=2, table=write_table(bucket, [row(1), row(2)], "data/predict/input/2/other.csv"), channel=channel)
    run_job(other)
    with pytest.raises(RequestError, match="live never showed the result of job") as raised:
        roll_back_channel(bucket, "live", to=other.job_id, reason="the last good night")
    assert raised.value.next_step == "See what live showed: scoring results history live"


def test_a_rollback_to_a_job_shows_the_result_of_this_job(bucket):
    folders = [job_for(bucket, minute, ROWS - minute) for minute in range(1, 4)]
    change = roll_back_channel(bucket, "live", to=folders[0].job_id, reason="the last good one")
    assert change.job_id == folders[0].job_id
    with pytest.raises(RequestError, match="already"):
        roll_back_channel(bucket, "live", to=folders[0].job_id, reason="again")


def test_while_a_channel_is_pinned_later_results_are_held(bucket):
    first = job_for(bucket, 1)
    job_for(bucket, 2, ROWS - 2)
    roll_back_channel(bucket, "live", to=None, reason="tablets")
    later = job_for(bucket, 3, ROWS - 2)
    outcome = later.outcome()
    assert outcome is not None
    assert outcome.state == JobState.HELD
    pin = f"ive is pinned to the result of job {first.job_id} by {who()}"
    assert f"l{pin}" in outcome.reason
    page = (bucket.read(outcome.facts["report"]) or b"").decode()
    assert "Held back from live" in page
    assert pin in page


def test_an_unknown_channel_is_refused_with_those_that_there_are(bucket):
    with pytest.raises(RequestError) as raised:
        roll_back_channel(bucket, "live", to=None, reason="bad")
    assert "and no other one" in raised.value.message
    job_for(bucket, 1)
    with pytest.raises(RequestError, match="there are: live"):
        unpin(bucket, "prod")
    with pytest.raises(RequestError, match="there is no channel"):
        existing_channel(bucket, "../live")


def test_a_result_that_is_gone_is_not_rolled_back_to(bucket):
    first, _ = job_for(bucket, 1), job_for(bucket, 2, ROWS - 2)
    now = read_channel(bucket, "live")
    assert now is not None
    bucket.delete_folder(now.back[0])
    with pytest.raises(RequestError, match="no earlier result of it is left"):
        roll_back_channel(bucket, "live", to=None, reason="bad")
    with pytest.raises(RequestError, match="has no result"):
        roll_back_channel(bucket, "live", to=first.job_id, reason="bad")
    assert Path(bucket.root, channel_folder("live"), "manifest.json").exists()


def test_no_channel_is_called_none(bucket):
    with pytest.raises(RequestError, match="a channel cannot be called none"):
        enqueue_score(Settings(bucket_url=bucket.url), bucket, table="data/predict/input/2026/11/30", model="v1", channel="none")
