"""A real Prometheus: it scrapes a running stack, each alarm fires, and each panel of the dashboard has something to show."""

import contextlib
import functools
import gzip
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
import yaml
from prometheus_client import start_http_server

from producers.operations.metrics import serve
from producers.schedule.run_states import Since, find_entry
from producers.schedule.schedule_file import SCHEDULE
from shared.bucket.local import LocalBucket
from shared.catalog.held import mark_held
from shared.jobs.folder import Outcome
from shared.jobs.messages import StepMessage
from shared.jobs.states import JobState
from shared.queue.broker import make_app, send
from shared.queue.routes import QUEUE_CONTROL, SCORE_PLAN
from shared.settings import Settings
from tests.conftest import REPOSITORY, Place, free_port, own_server, wait_until
from tests.handmade import make_job
from workers.serving.metrics import Metrics

METRICS = REPOSITORY / "deploy/metrics"
BOARD = json.loads((METRICS / "grafana/dashboards/scoring.json").read_text())
RULES = [rule for group in yaml.safe_load((METRICS / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
EXPRESSIONS = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]

SLOW_BUCKET_SECONDS = 6
"""A scrape waits five seconds for the bucket."""


def need(program: str) -> str:
    """The path of a program of Prometheus; skips where it is not there. In CI that is a failure."""
    found = shutil.which(program)
    if found is None:
        problem = f"there is no {program} on this machine: apt-get install prometheus"
        pytest.fail(problem) if os.environ.get("CI") else pytest.skip(problem)
    return found


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run([need("promtool"), *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_files_of_prometheus_are_right_and_no_rule_does_what_its_test_does_not_expect(tmp_path: Path) -> None:
    shutil.copy(METRICS / "alerts.yml", tmp_path)
    config = (METRICS / "prometheus.yml").read_text()
    (tmp_path / "prometheus.yml").write_text(config.replace("/etc/prometheus/", f"{tmp_path}/"))
    assert "SUCCESS" in promtool("check", "config", tmp_path / "prometheus.yml")
    assert f"SUCCESS: {len(RULES)} rules found" in promtool("check", "rules", METRICS / "alerts.yml")
    assert "SUCCESS" in promtool("test", "rules", METRICS / "tests/alerts.test.yml")


def test_each_alarm_is_made_to_fire_and_is_silent_where_all_is_well_in_the_tests_of_the_rules() -> None:
    tests = yaml.safe_load((METRICS / "tests/alerts.test.yml").read_text())["tests"]
    checks = [check for test in tests for check in test["alert_rule_test"]]
    names = {rule["alert"] for rule in RULES}
    assert {check["alertname"] for check in checks if check.get("exp_alerts")} == names
    assert {check["alertname"] for check in tests[0]["alert_rule_test"]} == names
    assert not any(check.get("exp_alerts") for check in tests[0]["alert_rule_test"])


class Prometheus:
    """A running Prometheus and its interface for programs."""

    def __init__(self, port: int) -> None:
        self._address = f"http://127.0.0.1:{port}"

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self._address}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    def _get(self, path: str, **query: str) -> Any:
        with urllib.request.urlopen(f"{self._address}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression, now."""
        return list(self._get("query", query=expression)["result"])

    def firing(self) -> set[str]:
        """The names of the alarms that fire."""
        return {alert["labels"]["alertname"] for alert in self._get("alerts")["alerts"] if alert["state"] == "firing"}

    def problems(self) -> list[str]:
        """What Prometheus says of rules that it cannot evaluate."""
        return [rule["lastError"] for group in self._get("rules")["groups"] for rule in group["rules"] if rule.get("lastError")]


@contextlib.contextmanager
def running(root: Path, jobs: list[dict[str, Any]], shorten: Callable[[str], str] = str) -> Iterator[Prometheus]:
    """Prometheus with our rules, whose waiting times are shortened, until the block ends."""
    rules = re.sub(r"for: \d+m", "for: 1s", (METRICS / "alerts.yml").read_text())
    (root / "alerts.yml").write_text(shorten(rules))
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(root / "alerts.yml")],
        "scrape_configs": jobs,
    }
    (root / "prometheus.yml").write_text(json.dumps(config))
    port = free_port()
    command = [need("prometheus"), f"--config.file={root}/prometheus.yml", f"--storage.tsdb.path={root}/series"]
    with (root / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    try:
        prometheus = Prometheus(port)
        wait_until(lambda: prometheus.is_ready() or process.poll() is not None, 60, "the start of Prometheus", pause=0.1)
        assert process.poll() is None, (root / "prometheus.log").read_text()
        yield prometheus
    finally:
        process.terminate()
        process.wait(20)


def job(name: str, *ports: int, **more: str) -> dict[str, Any]:
    return {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}], **more}


@contextlib.contextmanager
def metrics_command(environment: Mapping[str, str]) -> Iterator[int]:
    """`scoring metrics` as an operator starts it, and its port."""
    port = free_port()
    command = [sys.executable, "-m", "producers.cli", "metrics", "--port", str(port)]
    serving = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL)
    try:
        yield port
    finally:
        serving.terminate()
        serving.wait(20)


@contextlib.contextmanager
def served(settings: Settings) -> Iterator[int]:
    """The same in this process."""
    port = free_port()
    stop, thread = serve(settings, "127.0.0.1", port)
    try:
        yield port
    finally:
        stop()
        thread.join(10)


@contextlib.contextmanager
def served_rates(code: int, age: timedelta) -> Iterator[int]:
    """The figures of an HTTP server in this process that answers with this code, from a result of this age."""
    metrics, port, is_over = Metrics(), free_port(), threading.Event()
    manifest = SimpleNamespace(finished=datetime.now(UTC) - age, job_id="20261123t101500000z-score-9bfad3")
    serving = SimpleNamespace(release="v1@20261123T101500Z-9bfad3", published=SimpleNamespace(manifest=manifest))

    def answer() -> None:
        while not is_over.wait(0.1):
            metrics.note_state(serving, is_ready=True)  # type: ignore[arg-type] # all that it reads
            metrics.note_request("/v1/rates", code, 0.001)
            metrics.note_rows(SimpleNamespace(counts={("published", "PRESENT"): 1}))  # type: ignore[arg-type] # as above
            if code >= 500:
                metrics.note_failure("release")

    server, thread = start_http_server(port, "127.0.0.1", metrics.registry)
    answering = threading.Thread(target=answer)
    answering.start()
    try:
        yield port
    finally:
        is_over.set()
        answering.join()
        server.shutdown()
        server.server_close()
        thread.join(10)


ENTRY = {"name": "nightly", "cron": "0 3 * * *", "time_zone": "UTC", "model": "v1"}


@pytest.mark.slow
def test_prometheus_scrapes_a_running_stack_where_every_panel_shows_something_and_failures_and_rejects_raise_their_alarms(
    trained: Place, tmp_path: Path
) -> None:
    schedule = trained.bucket / SCHEDULE
    schedule.parent.mkdir(exist_ok=True)
    with (
        metrics_command(trained.environment) as port,
        served_rates(200, timedelta(hours=1)) as rates,
        running(tmp_path, [job("scoring", port), job("scoring-serve", rates)]) as prometheus,
    ):
        wait_until(lambda: prometheus.query("scoring_jobs_ended_total"), 60, "the first scrape", pause=0.2)
        few, table = trained.bucket / "data/predict/few/good.csv", tmp_path / "third-bad.csv"
        few.parent.mkdir(parents=True, exist_ok=True)
        write_rows(trained.sample_table, few)
        os.utime(few, (time.time() - 3600,) * 2)  # the schedule leaves alone what was written a moment ago
        write_rows(trained.sample_table, table, bad=3)
        trained.scoring("score", table, "--model", "v1", "--max-reject-share", "0.9", "--channel", "panels")
        trained.scoring("score", table, "--model", "v2", "--max-reject-share", "0.01", code=3)
        schedule.write_text(yaml.safe_dump([ENTRY | {"score": "data/predict/few"}]))
        try:
            trained.scoring("schedule", "run", "nightly", "--date", f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}")
            for expression in EXPRESSIONS:
                wait_until(lambda expression=expression: has_value(prometheus.query(expression)), 30, f"a value of {expression}", pause=0.2)
            wait_until(lambda: prometheus.firing() >= {"JobsFail", "ManyRejects"}, 30, "the alarms", pause=0.2)
        finally:
            schedule.write_text("[]\n")  # a file that is gone would be a fault
        assert prometheus.problems() == []
        # the stack is well; what other tests left in its bucket is not looked at
        ill = {
            "ServedResultOld",
            "SwapFails",
            "ServerFails",
            "NoFigures",
            "RedisSilent",
            "BucketSilent",
            "NoWorkers",
            "SweepSilent",
            "BeatSilent",
            "RedisAlmostFull",
        }
        assert not prometheus.firing() & ill
        assert {series["metric"]["queue"]: series["value"][1] for series in prometheus.query("scoring_workers")} == {
            "control": "1", "score": "1", "train": "1",
        }  # fmt: skip


def has_value(series: Sequence[dict[str, Any]]) -> bool:
    """True when one of the series has a number: a rate of nothing between two scrapes is none."""
    return any(one["value"][1] != "NaN" for one in series)


def write_rows(source: Path, target: Path, bad: int = 1000) -> None:
    """The first 600 rows of a table; every so many one has a device that there is not."""
    with gzip.open(source, "rt") as lines:
        header, *rows = itertools.islice(lines, 601)
    place = header.rstrip("\n").split(",").index("device")
    for number in range(bad - 1, len(rows), bad):
        values = rows[number].rstrip("\n").split(",")
        values[place] = "Toaster"
        rows[number] = ",".join(values) + "\n"
    target.write_text("".join([header, *rows]))


@pytest.fixture
def ill(tmp_path: Path) -> Iterator[tuple[list[dict[str, Any]], Callable[[], None]]]:
    """What serves the figures of a stack with everything wrong with it, as jobs for Prometheus; and what makes its bucket hang."""
    bucket = LocalBucket(tmp_path / "bucket")
    hanging = LocalBucket(tmp_path / "hanging")
    dead_store = f"http://127.0.0.1:{free_port()}"
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(own_server(tmp_path))
        settings = Settings(redis_url=url, bucket_url=str(bucket.root))
        send_long_ago(settings)
        fill(redis.Redis.from_url(url))
        make_job(bucket)
        hold(bucket)
        bucket.write(SCHEDULE, json.dumps([ENTRY | {"score": "data/predict/input"}]).encode())
        bucket.write(
            f"schedule/nightly/{find_entry(bucket, 'nightly').timing}.json",
            Since(since=datetime.now(UTC) - timedelta(days=4)).to_json(),
        )
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("AWS_ENDPOINT_URL", dead_store)
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        away = Settings(redis_url=f"redis://127.0.0.1:{free_port()}/0", bucket_url="s3://nowhere")
        ports = [stack.enter_context(served(found)) for found in (settings, away)]
        rates = stack.enter_context(served_rates(500, timedelta(days=3)))
        slow = stack.enter_context(served(Settings(redis_url=url, bucket_url=str(hanging.root))))
        hangs, released, read = threading.Event(), threading.Event(), LocalBucket.read
        patch.setattr(LocalBucket, "read", functools.partialmethod(_read_or_hang, read, hanging.root, hangs, released))

        def hang() -> None:
            make_job(hanging)
            hangs.set()

        seconds = f"{SLOW_BUCKET_SECONDS}s"
        yield (
            [
                job("scoring", ports[0], free_port()),
                job("scoring-serve", rates),
                job("away", ports[1], scrape_interval=seconds, scrape_timeout=seconds),
                job("slow", slow, scrape_interval=seconds, scrape_timeout=seconds),
            ],
            hang,
        )
        released.set()


def _read_or_hang(
    bucket: LocalBucket,
    read: Callable[[LocalBucket, str], bytes | None],
    root: Path,
    hangs: threading.Event,
    released: threading.Event,
    path: str,
) -> bytes | None:
    """Reads as the bucket does, unless it is one that hangs."""
    if bucket.root == root and hangs.is_set():
        released.wait()
    return read(bucket, path)


def send_long_ago(settings: Settings) -> None:
    """A message that has waited for an hour."""
    with make_app(settings) as app:
        send(app, SCORE_PLAN, [StepMessage(job_id="20261123t101500000z-score-9bfad3")])
    client = redis.Redis.from_url(settings.broker_url)
    message = json.loads(client.rpop(QUEUE_CONTROL))
    message["headers"]["sent_at"] = time.time() - 3600
    client.rpush(QUEUE_CONTROL, json.dumps(message))


def hold(bucket: LocalBucket) -> None:
    """A result that was held long ago, and that nobody has decided about."""
    folder = make_job(bucket, minute=1, channel="live")
    folder.write_outcome(Outcome(state=JobState.HELD, at=datetime.now(UTC) - timedelta(days=4), exit_code=7))
    mark_held(bucket, folder.job_id)


def fill(client: redis.Redis) -> None:
    """A limit that is nearly reached."""
    client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.15))


@pytest.mark.server
def test_every_other_alarm_fires_on_a_stack_that_has_what_it_is_for(
    ill: tuple[list[dict[str, Any]], Callable[[], None]], tmp_path: Path
) -> None:
    jobs, hang = ill
    expected = {rule["alert"] for rule in RULES} - {"JobsFail", "ManyRejects"}

    def shorten(rules: str) -> str:
        # what would take minutes to come, and a disk that nobody can fill here
        for long, short in (("figures_age_seconds > 300", "figures_age_seconds > 3"), ("_bytes < 0.1", "_bytes < 1.1")):
            assert long in rules
            rules = rules.replace(long, short)
        return rules

    with running(tmp_path, jobs, shorten) as prometheus:
        wait_until(lambda: prometheus.query('scoring_bucket_figures_age_seconds{job="slow"}'), 30, "the first look", pause=0.2)
        hang()
        seen: set[str] = set()

        def all_fired() -> bool:
            seen.update(prometheus.firing())
            return seen >= expected

        with contextlib.suppress(pytest.fail.Exception):
            wait_until(all_fired, 60, "the alarms", pause=0.2)
        assert seen == expected
        assert prometheus.problems() == []
