"""The containers: built, run, scaled and killed on a real Docker engine, with the text that the same release gives without them.

The engine is the one that `docker` on this machine reaches.
"""

import base64
import contextlib
import csv
import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.bucket.local import LocalBucket
from shared.queue.routes import NOTIFY, SCORE_CHUNK, SCORE_FINISH, SCORE_PLAN
from tests.conftest import REPOSITORY, free_port, wait_until
from tests.handmade import make_job, run_job, text_at

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1500)]

ROWS, CHUNK_ROWS = 1_000_000, 10_000
TOKEN = "t0ken" * 4
WEBHOOK = """
import http.server, sys
class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print("POSTED", self.rfile.read(int(self.headers["Content-Length"])).decode(), flush=True)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Receiver).serve_forever()
"""


def need_engine() -> None:
    """Skips on a machine without Docker; in CI that is a failure."""
    problem = None
    if shutil.which("docker") is None:
        problem = "there is no docker on this machine"
    elif subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        problem = "docker reaches no running engine"
    if problem and os.environ.get("CI"):
        pytest.fail(problem)
    if problem:
        pytest.skip(problem)


class Containers:
    """One project of docker-compose, from a copy of this repository with settings and a bucket of its own."""

    def __init__(self, root: Path) -> None:
        self.checkout = root / "checkout"
        anywhere = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info")

        def left_out(folder: str, names: list[str]) -> set[str]:
            at_the_top = {"bucket", "tests", "build"} if Path(folder) == REPOSITORY else set()
            return {*anywhere(folder, names), *at_the_top.intersection(names)}

        shutil.copytree(REPOSITORY, self.checkout, ignore=left_out)
        shutil.copy(REPOSITORY / ".dockerignore", self.checkout)
        self.bucket = self.checkout / "bucket"
        self.bucket.mkdir()
        self.user = os.getuid() or 1000
        self.flower_port, self.serve_port = free_port(), free_port()
        if os.getuid() == 0:
            os.chown(self.bucket, self.user, self.user)
        settings = {
            "REDIS_PASSWORD": "a1b2c3d4",
            "SCORING_FLOWER_PASSWORD": "hunter2",
            "SCORING_NOTEBOOK_TOKEN": "not-used-here",
            "SCORING_UID": self.user,
            "SCORING_GID": self.user,
            "SCORING_IMAGE_TAG": "test",
            "SCORING_FLOWER_PORT": self.flower_port,
            "SCORING_SERVE_MODEL": "v2",
            "SCORING_SERVE_PORT": self.serve_port,
            "SCORING_SERVE_TOKENS": f"rates:{TOKEN}",
            "SCORING_WORKERS": 2,
            "SCORING_PROCESSES": 1,
            "SCORING_SWEEP_SECONDS": 1,
            "SCORING_STALL_SECONDS": 2,
            "WEBHOOK_URL": "http://webhook:8000/services/T0/B0/secret",
        }
        (self.checkout / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        beside = {"services": {"webhook": {"image": "keyword-scoring:test", "entrypoint": ["python", "-c", WEBHOOK]}}}
        (self.checkout / "beside.json").write_text(json.dumps(beside))
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
        program = ["docker", "compose"] if plugin else ["docker-compose"]
        self.project = f"scoring-test-{os.getpid()}"
        self.command = [*program, "-p", self.project, "-f", "docker-compose.yml", "-f", "beside.json"]
        # ours would come before what is in .env
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SCORING_", "REDIS_", "WEBHOOK_"))}
        self.environment = kept | {"COMPOSE_PROJECT_NAME": self.project}
        self.script("docker_environment.sh")

    def __call__(self, *arguments: str, seconds: float = 400) -> str:
        return run([*self.command, *arguments], cwd=self.checkout, env=self.environment, seconds=seconds)

    def script(self, name: str, *arguments: str, code: int = 0, **more: str) -> str:
        """What one of our scripts says in this checkout."""
        done = subprocess.run(
            [f"./{name}", *arguments],
            cwd=self.checkout,
            env=self.environment | more,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def all_ids(self) -> list[str]:
        """Every container of the project that runs."""
        return docker("ps", "--quiet", "--filter", f"label=com.docker.compose.project={self.project}").split()

    def scoring(self, *arguments: str) -> str:
        return self("run", "--rm", "-T", "producer", *arguments)

    def ids(self, service: str) -> list[str]:
        """The containers of a service that run."""
        labels = f"label=com.docker.compose.project={self.project}", f"label=com.docker.compose.service={service}"
        return docker("ps", "--quiet", "--filter", labels[0], "--filter", labels[1]).split()

    def health(self, service: str) -> list[str]:
        return [docker("inspect", "--format", "{{.State.Health.Status}}", container).strip() for container in self.ids(service)]

    def workers(self) -> dict[str, str]:
        """What each worker that runs is called in Flower, and its container."""
        return {
            f"score@{docker('inspect', '--format', '{{.Config.Hostname}}', container).strip()}": container
            for container in self.ids("worker")
        }

    def flower(self, path: str) -> Any:
        """What Flower's interface for programs says to who knows the password."""
        credentials = base64.b64encode(b"scoring:hunter2").decode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.flower_port}{path}", headers={"Authorization": f"Basic {credentials}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def tasks(self, job_id: str, conditions: str = "") -> list[dict[str, Any]]:
        """The tasks of a job that Flower has seen."""
        return [task for task in self.flower(f"/api/tasks?{conditions}").values() if job_id in (task["args"] or "")]

    def figures(self) -> dict[str, float]:
        """What `scoring metrics` tells Prometheus."""
        ask = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9808/metrics', timeout=20).read().decode())"
        lines = self("exec", "-T", "metrics", "python", "-c", ask).splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))}

    def notices(self, job_id: str) -> list[str]:
        [container] = self.ids("webhook")
        return [line for line in docker("logs", container).splitlines() if line.startswith("POSTED") and job_id in line]


def run(command: list[str], seconds: float = 400, **more: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, stdin=subprocess.DEVNULL, **more)
    assert done.returncode == 0, f"{command} gave {done.returncode}:\n{done.stdout[-5000:]}\n{done.stderr[-5000:]}"
    return done.stdout


def docker(*arguments: str) -> str:
    return run(["docker", *arguments])


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    """The stack with two workers and what serves their figures, tables in its bucket and a release."""
    need_engine()
    started = Containers(tmp_path_factory.mktemp("compose"))
    started("build", "worker", seconds=600)
    try:
        started("up", "-d")
        started("--profile", "metrics", "up", "-d", "metrics")
        started.scoring("sample", "--rows", str(ROWS), "--train-rows", "5000")
        started.scoring("train", "v2")
        yield started
    finally:
        started("--profile", "serve", "kill")
        started("--profile", "metrics", "--profile", "serve", "down", "--volumes")


def test_the_image_runs_as_nobody_in_particular_and_holds_no_compiler_no_cache_and_no_secret(containers: Containers) -> None:
    look = """
        id -u
        ls -A /app
        for program in gcc cc make g++; do command -v $program || true; done
        ls -A /root/.cache /var/cache/apt /var/lib/apt/lists /tmp 2>/dev/null | grep -v ':$' | grep . || true
    """
    seen = docker("run", "--rm", "--entrypoint", "sh", "keyword-scoring:test", "-c", look).split()
    expected = ["LICENSE", "README.md", "model_store", "producers", "pyproject.toml", "requirements-image.lock", "shared", "workers"]
    assert seen == ["1000", *expected]


def test_redis_wants_the_password_and_has_the_options_of_the_file(containers: Containers) -> None:
    assert "NOAUTH" in containers("exec", "-T", "redis", "redis-cli", "llen", "score")
    ask = 'REDISCLI_AUTH="$(cat /run/secrets/redis-password)" redis-cli config get "$0" | tail -n 1'
    found = {
        name: containers("exec", "-T", "redis", "sh", "-c", ask, name).strip() for name in ("appendonly", "appendfsync", "maxmemory-policy")
    }
    assert found == {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}


def test_a_worker_killed_in_mid_job_leaves_one_result_one_notice_and_the_text_of_a_run_without_docker(containers: Containers) -> None:
    [path] = containers.bucket.glob("data/predict/input/*/*/*/prediction_input.csv.gz")
    table = str(path.relative_to(containers.bucket))
    victim = wait_until(lambda: all_alive(containers), 200, "both workers in Flower", 0.5)
    before = containers.figures()

    job_id = containers.scoring("score", table, "--model", "v2", "--chunk-rows", str(CHUNK_ROWS), "--no-wait").strip()
    folder = containers.bucket / "jobs" / job_id
    wait_until(lambda: len(list(folder.glob("parts/*.json"))) >= 5, 200, "the first parts")
    in_hand = f"taskname={SCORE_CHUNK}&workername={victim}"
    wait_until(lambda: containers.tasks(job_id, in_hand), 60, "a chunk in the hand of the worker")
    docker("kill", containers.workers()[victim])
    assert not (folder / "outcome.json").exists(), "the job had ended before its worker was killed"

    wait_until((folder / "outcome.json").exists, 400, "the end of the job")
    outcome = json.loads((folder / "outcome.json").read_text())
    assert outcome["state"] == "done"
    [notice] = wait_until(lambda: containers.notices(job_id), 120, "the notice")
    assert "done: score" in notice
    [manifest] = containers.bucket.glob(f"data/predict/output/v2/*/*/*/revisions/{job_id}/manifest.json")
    published = json.loads(manifest.read_text())
    text = gzip.decompress((manifest.parent / "prediction_output.csv.gz").read_bytes())
    assert text.count(b"\n") == ROWS + 1
    assert hashlib.sha256(text).hexdigest() == published["text_sha256"] == text_without_docker(containers, table, published["release"])

    after = containers.figures()
    assert more(before, after, "scoring_rows_total") == ROWS
    assert more(before, after, "scoring_chunks_total") == ROWS / CHUNK_ROWS
    assert more(before, after, 'scoring_jobs_ended_total{kind="score",state="done"}') == 1
    assert {task["name"] for task in containers.tasks(job_id)} == {SCORE_PLAN, SCORE_CHUNK, SCORE_FINISH, NOTIFY}
    wait_until(lambda: not containers.flower("/api/workers?status=1")[victim], 200, "the killed worker being offline in Flower", 0.5)


def all_alive(containers: Containers) -> str | None:
    """One of both workers, once Flower sees both alive."""
    seen = containers.flower("/api/workers?status=1")
    names = [name for name in containers.workers() if seen.get(name)]
    return names[0] if len(names) == 2 else None


def more(before: dict[str, float], after: dict[str, float], name: str) -> float:
    return after[name] - before.get(name, 0)


def test_every_container_is_healthy_and_flower_is_published_here_alone(containers: Containers) -> None:
    for service in ("redis", "worker", "control", "beat", "flower", "metrics"):
        wait_until(lambda service=service: {*containers.health(service)} == {"healthy"}, 300, f"the health of {service}", 1)
    with urllib.request.urlopen(f"http://127.0.0.1:{containers.flower_port}/healthcheck", timeout=10) as answer:
        assert answer.status == 200
    [flower] = containers.ids("flower")
    published = json.loads(docker("inspect", "--format", "{{json .NetworkSettings.Ports}}", flower))
    assert published == {"5555/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(containers.flower_port)}]}
    [redis] = containers.ids("redis")
    assert not any(json.loads(docker("inspect", "--format", "{{json .NetworkSettings.Ports}}", redis)).values())


def test_rates_are_answered_over_http_with_the_token_of_the_settings(containers: Containers) -> None:
    containers("--profile", "serve", "up", "-d", "serve")
    wait_until(lambda: containers.health("serve") == ["healthy"], 300, "the health of serve", 1)
    [path] = containers.bucket.glob("data/predict/input/*/*/*/prediction_input.csv.gz")
    with gzip.open(path, "rt") as lines:
        row = next(csv.DictReader(lines))
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
    address = f"http://127.0.0.1:{containers.serve_port}/v1/rates?source=computed"
    body = json.dumps({"rows": [row]}).encode()

    def rates() -> list[dict[str, Any]]:
        request = urllib.request.Request(address, body, headers)
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(request, timeout=10) as answer:
            found: list[dict[str, Any]] = json.load(answer)["rates"]
            return found
        return []

    [rate] = wait_until(rates, 60, "the release in the server")
    assert (rate["status"], rate["source"]) == ("PRESENT", "computed")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(urllib.request.Request(address, body, headers | {"Authorization": ""}), timeout=10)


def test_no_container_shows_a_secret_and_each_has_its_limits(containers: Containers) -> None:
    settings = dict(line.split("=", 1) for line in (containers.checkout / ".env").read_text().splitlines() if "=" in line)
    names = (
        "REDIS_PASSWORD",
        "SCORING_FLOWER_PASSWORD",
        "SCORING_NOTEBOOK_TOKEN",
        "SCORING_STORE_KEY",
        "SCORING_SERVE_TOKENS",
        "WEBHOOK_URL",
    )
    secrets = {settings[name] for name in names}
    assert len(secrets) == len(names)
    [helper] = containers.ids("webhook")
    for container in {*containers.all_ids()} - {helper}:
        shown = docker("inspect", container)
        assert not [secret for secret in secrets if secret in shown], "docker inspect shows a secret"
        host = json.loads(shown)[0]["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["Init"]
        assert host["Memory"] > 0
        assert host["PidsLimit"] > 0
        assert host["CapDrop"] == ["ALL"]
    # a helper of others' code has no way to sign
    assert "store-key" not in containers("exec", "-T", "beat", "ls", "/run/secrets")
    assert "store-key" in containers("exec", "-T", "control", "ls", "/run/secrets")


@pytest.mark.parametrize("service", ["worker", "beat"])
def test_a_container_without_an_init_that_is_stopped_while_it_starts_ends_at_once(containers: Containers, service: str) -> None:
    settings = "--env", "REDIS_URL=redis://127.0.0.1:1/0"
    container = docker("run", "--detach", "--network", "none", *settings, "keyword-scoring:test", "run", service).strip()
    try:
        # Python runs code of ours from some hundredths of a second on, later on a busy machine; importing everything takes seconds
        process = int(docker("inspect", "--format", "{{.State.Pid}}", container))
        wait_until(lambda: handles(process, signal.SIGTERM), 60, "a handler of SIGTERM")
        docker("stop", "-t", "30", container)
        assert docker("inspect", "--format", "{{.State.ExitCode}}", container).strip() in ("0", "143")
    finally:
        docker("rm", "--force", "--volumes", container)


def handles(process: int, number: signal.Signals) -> bool:
    """True when a process of this machine has a handler for a signal."""
    caught = next(line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def test_a_definition_that_does_not_import_in_the_new_image_changes_nothing_that_runs(containers: Containers) -> None:
    broken = containers.checkout / "model_store/broken"
    shutil.copytree(containers.checkout / "model_store/v1", broken)
    (broken / "model.py").write_text("import xgboost\n" + (broken / "model.py").read_text())
    before = {*containers.all_ids()}
    image = docker("image", "inspect", "--format", "{{.Id}}", "keyword-scoring:test")
    try:
        said = containers.script("build_pipelines.sh", "--build-only", code=1, MODEL_VER="broken")
    finally:
        shutil.rmtree(broken)
    assert "No module named 'xgboost'" in said
    assert "The new image is not put into service: see above. What runs was left as it was." in said
    assert {*containers.all_ids()} == before
    assert docker("image", "inspect", "--format", "{{.Id}}", "keyword-scoring:test") == image
    assert "MODEL_VER" not in (containers.checkout / ".env").read_text()


@pytest.mark.long
def test_an_upgrade_during_a_job_loses_nothing_and_one_command_leads_back(containers: Containers) -> None:
    image = docker("image", "inspect", "--format", "{{.Id}}", "keyword-scoring:test").strip()
    [path] = containers.bucket.glob("data/predict/input/*/*/*/prediction_input.csv.gz")
    table = str(path.relative_to(containers.bucket))
    job_id = containers.scoring("score", table, "--model", "v2", "--chunk-rows", "2000", "--no-wait", "--again").strip()
    with (containers.checkout / "producers/__init__.py").open("a") as file:
        file.write("# another version\n")
    said = containers.script("build_pipelines.sh", "--build-only")
    assert "It runs again with: ./build_pipelines.sh --back" in said

    def images() -> set[str]:
        services = ("worker", "control", "beat", "flower", "metrics")
        return {docker("inspect", "--format", "{{.Image}}", one).strip() for service in services for one in containers.ids(service)}

    assert len(images()) == 1
    assert images() != {image}
    assert len(containers.ids("worker")) == 2
    containers.script("build_pipelines.sh", "--back")
    assert images() == {image}
    outcome = containers.bucket / "jobs" / job_id / "outcome.json"
    wait_until(outcome.exists, 400, "the end of the job")
    assert json.loads(outcome.read_text())["state"] == "done"
    assert len(containers.notices(job_id)) == 1


def test_what_serves_the_figures_stops_on_request(containers: Containers) -> None:
    [container] = containers.ids("metrics")
    containers("--profile", "metrics", "stop", "metrics")
    assert docker("inspect", "--format", "{{.State.ExitCode}}", container).strip() != "137", "it was killed when its time was over"


def text_without_docker(containers: Containers, table: str, release: str) -> str:
    """The sha256 of the text that this release gives for this table on this machine itself, step by step and in another plan."""
    root = containers.checkout.parent / "without-docker"
    for folder in ("model", "data/predict/input"):
        shutil.copytree(containers.bucket / folder, root / folder)
    bucket = LocalBucket(root)
    outcome = run_job(make_job(bucket, table=table, model=release))
    assert outcome.result is not None
    return hashlib.sha256(text_at(bucket, outcome.result).encode()).hexdigest()
