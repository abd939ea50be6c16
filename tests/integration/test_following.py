"""A person who waits for a job sees it move, may stop looking at any moment, and sees what may be wrong when nothing moves."""

import io
import os
import pty
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from producers.display import follow
from shared.bucket.local import LocalBucket
from shared.errors import JobFailedError
from shared.jobs.folder import JobFolder, Outcome
from tests.conftest import REPOSITORY, Place, free_port, wait_until
from tests.handmade import NOON, make_job

CHUNKS = 200
"""20,000 rows by 100: some seconds of work."""

IN_THIS_TERMINAL = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
os.login_tty(0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""With the signals as a terminal leaves them: a suite that was started in the background ignores Ctrl-C, and its children would too."""
HINT = "No worker has taken the job yet"


def plain(text: str) -> str:
    """A text without colours and movements of the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


class Terminal:
    """A command that runs in a terminal of its own, what it has shown so far, and a keyboard."""

    def __init__(self, place: Place, *arguments: str) -> None:
        self._keyboard, terminal = pty.openpty()
        command = [sys.executable, "-c", IN_THIS_TERMINAL, sys.executable, "-m", "producers.cli", *arguments]
        environment = place.environment | {"TERM": "xterm-256color"}
        self.running = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdin=terminal, stdout=terminal, stderr=terminal)
        os.close(terminal)
        self._shown = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                more = os.read(self._keyboard, 65536)
            except OSError:  # how Linux says that nobody has the terminal open any more
                return
            if not more:
                return
            self._shown += more

    @property
    def text(self) -> str:
        """All that was shown, without colours and movements of the cursor."""
        return plain(self._shown.decode(errors="replace")).replace("\r", "\n")

    @property
    def counts(self) -> list[int]:
        """Each different number of finished chunks, in the order shown."""
        return list(dict.fromkeys(int(done) for done in re.findall(rf"(\d+) of {CHUNKS} chunks", self.text)))

    @property
    def job_id(self) -> str:
        return re.search(r"^Job (\S+)", self.text, re.MULTILINE)[1]

    def press(self, keys: bytes) -> None:
        os.write(self._keyboard, keys)

    def end(self) -> int:
        """Waits for the command and returns its exit code; all it showed is in ``text`` then."""
        code = self.running.wait(120)
        self._reader.join(20)
        return code

    def close(self) -> None:
        if self.running.poll() is None:
            self.running.kill()
            self.running.wait(20)
        self._reader.join(20)
        os.close(self._keyboard)


@contextmanager
def terminal(place: Place, *arguments: str) -> Iterator[Terminal]:
    opened = Terminal(place, *arguments)
    try:
        yield opened
    finally:
        opened.close()


def score(place: Place) -> list[str]:
    """The command that scores the sample table in many small chunks, as a job of its own."""
    return ["score", str(place.sample_table.relative_to(place.bucket)), "--model", "v2", "--chunk-rows", "100", "--again"]


def results_of(place: Place, job_id: str) -> list[Path]:
    return list((place.bucket / "data/predict/output").rglob(f"revisions/{job_id}/manifest.json"))


# --- in a terminal


def test_the_progress_bar_moves_and_ends_with_the_facts(trained: Place) -> None:
    with terminal(trained, *score(trained)) as shown:
        assert shown.end() == 0, shown.text
    assert len(shown.counts) >= 3
    assert shown.counts == sorted(shown.counts)
    rates = [int(rate.replace(",", "")) for rate in re.findall(r"([\d,]+) rows/s", shown.text)]
    assert any(rates)
    assert "━" in shown.text
    assert HINT not in shown.text
    facts = shown.text[shown.text.rindex("rows/s") :]
    assert re.search(r"^scored +20,000\s*$", facts, re.MULTILINE)
    assert re.search(rf"^result +{results_of(trained, shown.job_id)[0].relative_to(trained.bucket).parents[2]}\s*$", facts, re.MULTILINE)


@pytest.fixture(scope="module")
def left(trained: Place) -> Terminal:
    """What a terminal showed whose user pressed Ctrl-C once chunks were finished."""
    with terminal(trained, *score(trained)) as shown:
        wait_until(lambda: any(shown.counts), 60, "the first finished chunk")
        shown.press(b"\x03")
        assert shown.end() == 130, shown.text
    return shown


def test_ctrl_c_ends_the_following_and_not_the_job(trained: Place, left: Terminal) -> None:
    assert max(left.counts) < CHUNKS
    assert "Traceback" not in left.text
    look_again = re.search(r"Stopped following; the job goes on\. Look again with: scoring (.+)", left.text)[1].split()
    assert look_again == ["jobs", "show", left.job_id, "--follow"]
    with terminal(trained, *look_again) as again:
        assert again.end() == 0, again.text
    assert re.search(r"^scored +20,000\s*$", again.text, re.MULTILINE)
    wait_until((trained.bucket / "jobs" / left.job_id / "notified.json").exists, what="the notice")
    assert len(results_of(trained, left.job_id)) == 1
    assert [result["job_id"] for result in trained.scoring_json("results", "list")].count(left.job_id) == 1
    assert len(trained.webhook.sent_about(left.job_id)) == 1


def test_the_cursor_is_back_after_the_bar(left: Terminal) -> None:
    assert left._shown.rindex(b"\x1b[?25h") > left._shown.rindex(b"\x1b[?25l")


# --- in a file


def test_a_file_gets_no_bar_and_no_colours(trained: Place) -> None:
    done = trained.scoring(*score(trained)[:-3], "--again")
    assert "\x1b" not in done.stdout + done.stderr
    assert re.search(r"^scored +20,000$", done.stdout, re.MULTILINE)
    assert "scored" not in done.stderr


# --- with no worker


@pytest.fixture
def bucket(tmp_path: Path) -> LocalBucket:
    return LocalBucket(tmp_path / "bucket")


def follow_and_cancel(folder: JobFolder, monkeypatch: pytest.MonkeyPatch, pause_seconds: float = 0) -> str:
    """What is said by following a job that no worker takes, until it is cancelled after the fifth glance."""
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        time.sleep(pause_seconds)
        if len(pauses) == 5:
            folder.cancel()

    monkeypatch.setattr(follow, "time", SimpleNamespace(monotonic=time.monotonic, sleep=pause))
    said = io.StringIO()
    with pytest.raises(JobFailedError, match=f"job {folder.job_id} cancelled: cancelled on request"):
        follow.follow(
            folder.bucket, folder.job_id, f"redis://127.0.0.1:{free_port()}/0", Console(file=said, width=200, force_terminal=True)
        )
    return plain(said.getvalue())


def test_a_job_that_nobody_takes_brings_one_hint(bucket: LocalBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "PATIENCE_SECONDS", 0)
    assert follow_and_cancel(make_job(bucket), monkeypatch).count(HINT) == 1


def test_nothing_is_hinted_at_while_it_is_early(bucket: LocalBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "PATIENCE_SECONDS", 3600)
    assert HINT not in follow_and_cancel(make_job(bucket), monkeypatch)


def test_nothing_is_hinted_at_when_a_worker_has_the_job(bucket: LocalBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "PATIENCE_SECONDS", 0)
    folder = make_job(bucket)
    folder.write_stage("cuts the table")
    assert HINT not in follow_and_cancel(folder, monkeypatch)


def test_following_shows_that_redis_does_not_answer(bucket: LocalBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    # the display is drawn ten times a second
    assert follow.NO_REDIS in follow_and_cancel(make_job(bucket), monkeypatch, pause_seconds=0.15)


def test_any_reason_is_shown_as_it_is(bucket: LocalBucket) -> None:
    folder, reason, said = make_job(bucket), "there is no column [/week] in data/[bold]/train.csv", io.StringIO()
    folder.write_outcome(Outcome(state="failed", at=NOON, reason=reason, exit_code=3))
    with pytest.raises(JobFailedError) as raised:
        follow.follow(bucket, folder.job_id, f"redis://127.0.0.1:{free_port()}/0", Console(file=said, width=200, force_terminal=True))
    assert raised.value.message == f"job {folder.job_id} failed: {reason}"
    assert raised.value.exit_code == 3
    assert reason in plain(said.getvalue())


def test_the_pauses_between_glances_grow_to_a_limit(bucket: LocalBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    folder = make_job(bucket)

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 40:
            folder.cancel()

    monkeypatch.setattr(follow, "time", SimpleNamespace(monotonic=time.monotonic, sleep=pause))
    states = [glance.status.state for glance in follow.watch(bucket, folder.job_id, f"redis://127.0.0.1:{free_port()}/0")]
    assert states == ["queued"] * 40 + ["cancelled"]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (follow.FIRST_PAUSE_SECONDS, follow.LONGEST_PAUSE_SECONDS)
