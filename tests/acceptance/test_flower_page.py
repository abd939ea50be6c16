"""Flower in real Chromium: it asks for the password, shows the workers and the tasks of a job, changes nothing, and keeps its history.

The job it shows lost a worker on the way: a third one, which was killed in the middle of a chunk.
"""

import base64
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from flower.urls import handlers
from playwright.sync_api import Browser, Error, Page
from tornado.web import RequestHandler, URLSpec

from producers.stack.services import lone_worker_command
from shared.queue.routes import NOTIFY, QUEUE_SCORE, SCORE_CHUNK, SCORE_FINISH, SCORE_PLAN
from tests.chromium import chromium
from tests.conftest import READY_PROGRAMS, REPOSITORY, Place, free_port, make_place, stop, wait_until
from tests.definitions import drop_in
from tests.ready_programs import Started

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(600)]

CHUNKS, CHUNK_ROWS = 6, 100
SLOW = f"""
import time

from model_store.v1.model import Model as Linear


class Model(Linear):
    def predict(self, X):
        time.sleep(3 if len(X) == {CHUNK_ROWS} else 0)
        return super().predict(X)
"""
"""A chunk takes one and a half seconds: long enough to be seen and killed in the middle."""

OPEN_TO_ALL = {"/metrics", "/healthcheck", "/logout", "/static/favicon.ico"}
"""What Flower answers without a password, and has no setting for. Only the first shows something: names of workers and tasks, counts."""
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """Flower of a running stack, and the job that it has seen."""

    place: Place
    url: str
    user: str
    password: str
    job_id: str
    lost_worker: str
    """What the killed worker was called."""

    @property
    def workers(self) -> list[str]:
        """What the living ones are called."""
        return [f"{name}@{socket.gethostname()}" for name in ("control", "score")]

    def flower(self) -> psutil.Process:
        up = psutil.Process(json.loads((self.place.root / "ready.json").read_text())["pid"])
        [flower] = [child for child in up.children() if child.cmdline()[-1:] == ["flower"]]
        return flower

    def ask(self, path: str) -> Any:
        """What Flower's interface for programs says."""
        credentials = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Basic {credentials}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium as the machine has it, with a new profile."""
    with chromium(FLAGS) as opened:
        yield opened


@pytest.fixture(scope="module")
def dashboard(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A stack on which a job was done although one of its workers was killed in the middle of a chunk."""
    place = make_place(tmp_path_factory.mktemp("flower"))
    drop_in(place.root / "definitions", "slow", SLOW)
    running = place.start()
    try:
        with third_worker(place) as worker:
            place.scoring("sample", "--rows", str(CHUNKS * CHUNK_ROWS), "--train-rows", "2000")
            place.scoring("train", "slow")
            yield score_with_a_loss(place, worker)
    finally:
        stopped = stop(running)
        place.webhook.close()
    assert stopped == 0, place.log.read_text()[-5000:]


def test_the_task_that_ends_a_job_as_failed_is_a_failure_in_flower(dashboard: Dashboard, tmp_path: Path) -> None:
    table = tmp_path / "broken.csv"
    table.write_text("entity_id,device\n1,Computer\n")
    said = dashboard.place.scoring("score", table, "--model", "slow", "--json", code=3)
    job_id = json.loads(said.stdout)["job_id"]

    def failures() -> list[dict[str, str]]:
        return [task for task in dashboard.ask("/api/tasks?state=FAILURE").values() if job_id in task["args"]]

    [task] = wait_until(failures, 30, "the failed task in Flower")
    assert task["name"] == SCORE_PLAN
    assert "lacks the column" in task["exception"]
    notices = f"/api/tasks?taskname={NOTIFY}&state=SUCCESS"
    wait_until(lambda: job_id in [task["args"] for task in dashboard.ask(notices).values()], 30, "the notice of the failure")


@contextlib.contextmanager
def third_worker(place: Place) -> Iterator[Started]:
    environment = place.environment | {"REDIS_URL": f"redis://127.0.0.1:{place.environment['SCORING_REDIS_PORT']}/0"}
    _, _, *program = lone_worker_command("third", [QUEUE_SCORE], 1)
    with (place.root / "third.log").open("wb") as log:
        worker = READY_PROGRAMS.start(program, environment, log)
    try:
        yield worker
    finally:
        kill(worker)


def kill(worker: Started) -> None:
    """The worker and its process, at once."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


def score_with_a_loss(place: Place, third: Started) -> Dashboard:
    ready = json.loads((place.root / "ready.json").read_text())
    name = f"third@{socket.gethostname()}"
    facts = {"url": ready["flower_url"], "user": ready["flower_user"], "password": ready["flower_password"], "lost_worker": name}
    waiting = Dashboard(place=place, job_id="", **facts)
    wait_until(lambda: name in waiting.ask("/api/workers?refresh=1"), 60, "the third worker", pause=0.5)
    arguments = ("score", place.sample_table, "--model", "slow", "--chunk-rows", str(CHUNK_ROWS), "--no-wait")
    job_id = place.scoring_json(*arguments)["job_id"]
    in_hand = f"/api/tasks?workername={name}&taskname={SCORE_CHUNK}&state=STARTED"
    wait_until(lambda: waiting.ask(in_hand), 30, "a chunk in the hand of the third worker")
    kill(third)
    outcome = place.scoring_json("jobs", "show", job_id, "--follow")
    assert outcome["facts"]["scored"] == f"{CHUNKS * CHUNK_ROWS:,}"
    notices = f"/api/tasks?taskname={NOTIFY}&state=SUCCESS"
    wait_until(lambda: job_id in [task["args"] for task in waiting.ask(notices).values()], 30, "the notice in Flower")
    return Dashboard(place=place, job_id=job_id, **facts)


@pytest.fixture
def page(browser: Browser, dashboard: Dashboard) -> Iterator[Page]:
    """A window of somebody who knows the password."""
    person = browser.new_context(
        base_url=dashboard.url,
        http_credentials={"username": dashboard.user, "password": dashboard.password},
        viewport={"width": 1280, "height": 900},
    )
    yield person.new_page()
    person.close()


def keep(page: Page, folder: Path, name: str) -> None:
    """A screenshot in the folder of the test, and in the one that SCORING_KEEP_SCREENSHOTS names."""
    kept = os.environ.get("SCORING_KEEP_SCREENSHOTS")
    for place in [folder, Path(kept)] if kept else [folder]:
        page.screenshot(path=place / f"{name}.png", full_page=True)


def rows_of(page: Page) -> list[dict[str, str]]:
    """The table as the page shows it: what stands under each heading."""
    headings = [text.lower() for text in page.locator(".dataTables_scrollHead th").all_inner_texts()]
    rows = page.locator(".dataTables_scrollBody tbody tr")
    cells = rows.evaluate_all("rows => rows.map(row => [...row.cells].map(cell => cell.innerText.trim()))")
    return [dict(zip(headings, row, strict=True)) for row in cells]


def tasks_of(page: Page, job_id: str) -> list[dict[str, str]]:
    """What the tasks page shows when somebody looks for a job."""
    page.goto("/tasks")
    page.get_by_label("Tasks per page").select_option("50")
    page.get_by_label("Search tasks").fill(job_id)
    page.get_by_text("filtered from").wait_for()
    return rows_of(page)


def test_without_the_password_nothing_is_shown(browser: Browser, dashboard: Dashboard) -> None:
    for headers in ({}, {"Authorization": f"Basic {base64.b64encode(b'scoring:wrong').decode()}"}):
        stranger = browser.new_context(base_url=dashboard.url, extra_http_headers=headers)
        page = stranger.new_page()
        answers = []
        page.on("response", lambda answer, answers=answers: answers.append(answer.status))
        # without a window Chromium has nobody to ask for a password, and gives up
        with pytest.raises(Error, match="ERR_INVALID_AUTH_CREDENTIALS"):
            page.goto("/tasks")
        assert answers == [401]
        assert stranger.request.get("/tasks").text() == "Access denied"
        stranger.close()


def addresses(dashboard: Dashboard, method: str) -> list[str]:
    """Every path of Flower's that takes this method; the place of a worker or a file is taken by one that exists."""
    found = []
    for rule in handlers:
        spec = rule if isinstance(rule, URLSpec) else URLSpec(*rule)
        # a method that a handler does not take is Tornado's, which refuses it
        if getattr(spec.handler_class, method) is not getattr(RequestHandler, method):
            pattern = spec.regex.pattern.rstrip("$")
            target = dashboard.workers[0] if "worker" in pattern else "favicon.ico" if "static" in pattern else "some-task"
            found.append(re.sub(r"\(\.[+*]\)", target, pattern).removesuffix("/?"))
    return found


def test_what_shows_anything_asks_for_the_password(browser: Browser, dashboard: Dashboard) -> None:
    stranger = browser.new_context(base_url=dashboard.url)
    answers = {path: stranger.request.get(path).status for path in addresses(dashboard, "get")}
    stranger.close()
    assert len(answers) > 15
    assert {path for path, status in answers.items() if status == 200} == OPEN_TO_ALL, answers


def test_both_workers_are_online_and_the_killed_one_is_not(page: Page, dashboard: Dashboard, tmp_path: Path) -> None:
    page.goto("/workers")
    page.get_by_text("Offline", exact=True).wait_for()
    keep(page, tmp_path, "workers")
    assert {row["worker"]: row["status"] for row in rows_of(page)} == {
        **dict.fromkeys(dashboard.workers, "Online"),
        dashboard.lost_worker: "Offline",
    }
    assert page.locator("#workers-online").inner_text() == "2"


def test_the_tasks_of_a_job_say_what_they_are_about(page: Page, dashboard: Dashboard, tmp_path: Path) -> None:
    rows = tasks_of(page, dashboard.job_id)
    keep(page, tmp_path, "tasks")
    assert {(row["name"], row["args"]) for row in rows if row["name"] != SCORE_CHUNK and row["state"] == "SUCCESS"} == {
        (name, dashboard.job_id) for name in (SCORE_PLAN, SCORE_FINISH, NOTIFY)
    }
    chunks = [row | chunk_of(row["args"], dashboard.job_id) for row in rows if row["name"] == SCORE_CHUNK]
    assert {row["number"] for row in chunks if row["state"] == "SUCCESS"} == {str(number + 1) for number in range(CHUNKS)}
    # the chunk that was lost stays in the hand of who lost it, and another did it
    [lost] = [row for row in chunks if row["state"] == "STARTED"]
    [again] = [row for row in chunks if row["number"] == lost["number"] and row["state"] == "SUCCESS"]
    assert (lost["worker"], again["worker"], again["of"]) == (dashboard.lost_worker, dashboard.workers[1], str(CHUNKS))


def chunk_of(arguments: str, job_id: str) -> dict[str, str]:
    """What a person reads; of chunks that are sent while the table is still being cut nobody knows how many there will be."""
    found = re.fullmatch(rf"chunk (?P<number>\d+) of (?P<of>{CHUNKS}|\?), {job_id}", arguments)
    assert found, arguments
    return found.groupdict()


def test_the_metrics_count_the_job_once(dashboard: Dashboard) -> None:
    port = free_port()
    command = [sys.executable, "-m", "producers.cli", "metrics", "--port", str(port)]
    serving = subprocess.Popen(command, env=dashboard.place.environment, cwd=REPOSITORY)

    def text() -> str:
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
        return ""

    try:
        page = wait_until(text, 30, "the metrics")
    finally:
        serving.terminate()
        serving.wait(20)
    samples = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    assert float(samples['scoring_jobs_ended_total{kind="score",state="done"}']) == 1
    assert float(samples["scoring_chunks_total"]) == CHUNKS
    assert float(samples["scoring_rows_total"]) == CHUNKS * CHUNK_ROWS
    assert float(samples["scoring_messages_in_hand"]) >= 1, "the message of the lost chunk"


def test_nothing_can_be_changed(page: Page, dashboard: Dashboard) -> None:
    [lost] = [row for row in tasks_of(page, dashboard.job_id) if row["state"] == "STARTED"]
    for path in (f"/task/{lost['uuid']}", f"/worker/{dashboard.workers[1]}"):
        page.goto(path)
        page.get_by_text(dashboard.job_id if "task" in path else "Max concurrency").first.wait_for()
        assert set(page.locator("main button").all_inner_texts()) <= {"Copy task UUID"}
    commands = [path for path in addresses(dashboard, "post") if path.startswith("/api/")]
    assert f"/api/worker/shutdown/{dashboard.workers[0]}" in commands
    assert "/api/task/revoke/some-task" in commands
    for path in commands:
        # as the page itself would send it
        said = page.evaluate("async path => { const a = await fetch(path, {method: 'POST'}); return [a.status, await a.text()] }", path)
        assert said == [403, "Read only mode is enabled"], path


def test_the_history_outlives_a_restart(page: Page, dashboard: Dashboard) -> None:
    before = tasks_of(page, dashboard.job_id)
    assert len(before) > CHUNKS
    flower = dashboard.flower()
    flower.terminate()
    assert psutil.wait_procs([flower], timeout=20)[1] == []

    def answers() -> bool:
        with contextlib.suppress(OSError):
            return bool(dashboard.ask("/api/workers"))
        return False

    # `scoring up` starts it again
    wait_until(answers, 60, "Flower after its restart", pause=0.2)
    assert dashboard.flower() != flower
    assert tasks_of(page, dashboard.job_id) == before
