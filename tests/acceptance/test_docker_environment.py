"""What `docker_environment.sh` finds and makes before anything is built: no engine is needed to see it refuse."""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, free_port

TOOLS = ("bash", "sed", "dirname", "sort", "head", "tail", "cat", "id", "od", "tr", "grep", "mv", "mkdir", "chown", "chmod", "ls")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the files that the scripts need, and a PATH with no docker on it."""
    for name in ("cold_start.sh", "build_pipelines.sh", "docker_environment.sh", ".env.example"):
        shutil.copy(REPOSITORY / name, tmp_path)
    shutil.copytree(REPOSITORY / "model_store", tmp_path / "model_store")
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    return tmp_path


def put_docker(checkout: Path, script: str, name: str = "docker") -> None:
    program = checkout / "bin" / name
    program.write_text(f"#!/bin/bash\n{script}\n")
    program.chmod(0o755)


def bash(checkout: Path, *command: str, code: int = 0, **variables: str) -> str:
    kept = {"PATH": str(checkout / "bin"), "USER": "anna"}
    done = subprocess.run(
        ["/bin/bash", *command], cwd=checkout, env=kept | variables, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("docker", "said"),
    [
        (None, "Docker is not installed: install it"),
        ("echo 'Docker version 18.09.1, build 4c52b90'", "Docker is too old, 18.09.1: install 19.03 or newer."),
        (
            "[ $1 = --version ] && echo 'Docker version 28.2.2, build e6534b4' && exit\n"
            "echo 'permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock' >&2; exit 1",
            "You may not use Docker: type sudo usermod -aG docker anna, log in again, and start again.",
        ),
        (
            "[ $1 = --version ] && echo 'Docker version 28.2.2, build e6534b4' && exit\n"
            "echo 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?' >&2; exit 1",
            "Docker is installed but not running: start it",
        ),
        (
            "[ $1 = --version ] && echo 'Docker version 28.2.2, build e6534b4' && exit\n[ $1 = version ] && echo 18.06.3",
            "The Docker engine is too old, 18.06.3: install 19.03 or newer.",
        ),
        (
            "[ $1 = --version ] && echo 'Docker version 28.2.2, build e6534b4' && exit\n[ $1 = version ] && echo 28.2.2",
            "Docker Compose is not installed: install its plugin",
        ),
    ],
)
@pytest.mark.parametrize("script", [("cold_start.sh", "--docker"), ("build_pipelines.sh",)])
def test_what_docker_lacks_is_said_in_one_sentence(checkout, docker, said, script):
    if docker:
        put_docker(checkout, docker)
    [line] = bash(checkout, *script, code=1).splitlines()
    assert line.startswith(said)
    assert not (checkout / ".env").exists()


def test_a_docker_compose_that_is_too_old_is_refused(checkout):
    put_docker(checkout, "[ $1 = --version ] && echo 'Docker version 28.2.2, build e6534b4' && exit\n[ $1 = version ] && echo 28.2.2")
    put_docker(checkout, "echo 1.24.0", name="docker-compose")
    assert bash(checkout, "cold_start.sh", "--docker", code=1) == "Docker Compose is too old, 1.24.0: install 1.29 or newer.\n"


@pytest.mark.skipif(shutil.which("docker") is None, reason="there is no docker on this machine")
def test_the_real_docker_s_own_words_are_understood(checkout):
    (checkout / "bin/docker").symlink_to(shutil.which("docker"))
    said = bash(checkout, "cold_start.sh", "--docker", code=1, DOCKER_HOST=f"unix://{checkout}/no.sock")
    assert said.startswith("Docker is installed but not running: start it")


def make_settings(checkout: Path, **variables: str) -> dict[str, str]:
    bash(checkout, "-euo", "pipefail", "-c", ". ./docker_environment.sh; make_settings; make_bucket; make_secrets", **variables)
    lines = (checkout / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_settings_are_made_once_with_secrets_of_their_own_that_only_their_owner_reads(checkout):
    made = make_settings(checkout)
    secrets = {made[name] for name in ("REDIS_PASSWORD", "SCORING_FLOWER_PASSWORD", "SCORING_NOTEBOOK_TOKEN", "SCORING_STORE_KEY")}
    assert len(secrets) == 4
    assert all(len(secret) == 48 and secret.isalnum() for secret in secrets)
    assert (checkout / ".env").stat().st_mode & 0o777 == 0o600
    assert make_settings(checkout) == made
    assert (checkout / "bucket").stat().st_uid == int(made["SCORING_UID"]) != 0


def test_what_a_person_has_set_is_kept(checkout):
    (checkout / ".env").write_text("REDIS_PASSWORD=mine\nMODEL_VER=v2\nSCORING_BUCKET=./elsewhere\n")
    made = make_settings(checkout, SCORING_NOTEBOOK_TOKEN="from-outside")
    assert (made["REDIS_PASSWORD"], made["MODEL_VER"]) == ("mine", "v2")
    assert made["SCORING_FLOWER_PASSWORD"]
    assert "SCORING_NOTEBOOK_TOKEN" not in made
    assert (checkout / "elsewhere").is_dir()
    assert not (checkout / "bucket").exists()


def test_a_last_line_that_was_left_open_stays_as_it_was(checkout):
    (checkout / ".env").write_text("REDIS_PASSWORD=mine\nMODEL_VER=v2")
    assert make_settings(checkout)["MODEL_VER"] == "v2"


def secret(checkout: Path, name: str) -> str:
    return (checkout / ".secrets" / name).read_text()


def test_each_secret_is_a_file_of_its_own_for_the_containers_that_nobody_else_reads(checkout):
    made = make_settings(checkout, AWS_ACCESS_KEY_ID="id", AWS_SECRET_ACCESS_KEY="key", WEBHOOK_URL="https://hooks.example/x")
    assert secret(checkout, "redis-url") == f"redis://:{made['REDIS_PASSWORD']}@redis:6379/0"
    assert secret(checkout, "store-key") == made["SCORING_STORE_KEY"]
    assert secret(checkout, "webhook-url") == "https://hooks.example/x"
    assert secret(checkout, "aws-credentials") == "[default]\naws_access_key_id=id\naws_secret_access_key=key"
    modes = {file.name: file.stat().st_mode & 0o777 for file in (checkout / ".secrets").iterdir()}
    # the server runs as another user, who has your group in its container
    assert {name for name, mode in modes.items() if mode != 0o600} == {"redis-password"}
    assert modes["redis-password"] == 0o640
    assert (checkout / ".secrets").stat().st_mode & 0o777 == 0o700
    assert (checkout / "bucket").stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_uid for file in (checkout / ".secrets").iterdir()} == {int(made["SCORING_UID"])}


def test_another_redis_is_the_one_of_the_file_and_not_of_this_shell(checkout):
    make_settings(checkout, REDIS_URL="redis://localhost:6389/0")
    assert "@redis:6379/0" in secret(checkout, "redis-url")
    with (checkout / ".env").open("a") as file:
        file.write("REDIS_URL=rediss://scoring:x@redis.example:6380/0\n")
    make_settings(checkout)
    assert secret(checkout, "redis-url") == "rediss://scoring:x@redis.example:6380/0"


def test_a_stack_with_releases_goes_on_without_a_key_until_a_person_brings_one_in(checkout):
    (checkout / "bucket/model/v1").mkdir(parents=True)
    (checkout / ".env").write_text("REDIS_PASSWORD=mine\n")
    made = make_settings(checkout)
    assert made["SCORING_STORE_KEY_FILE"] == ""
    assert "SCORING_STORE_KEY" not in made
    assert make_settings(checkout) == made
    assert "${SCORING_STORE_KEY_FILE-/run/secrets/store-key}" in (REPOSITORY / "docker-compose.yml").read_text()


@pytest.mark.parametrize(("processes", "memory"), [("1", "4096m"), ("16", "10240m")])
def test_a_worker_with_many_processes_gets_memory_for_each(checkout, processes, memory):
    assert make_settings(checkout, SCORING_PROCESSES=processes)["SCORING_WORKER_MEMORY"] == memory


def test_what_was_set_by_environment_once_holds_for_every_later_command(checkout):
    command = ". ./docker_environment.sh; make_settings; keep_environment"
    said = bash(checkout, "-euo", "pipefail", "-c", command, SCORING_FLOWER_PORT="5755", MODEL_VER="v2")
    assert "SCORING_FLOWER_PORT=5755 of the environment is kept in .env" in said
    made = make_settings(checkout)
    assert (made["SCORING_FLOWER_PORT"], made["MODEL_VER"]) == ("5755", "v2")
    assert (checkout / ".env").stat().st_mode & 0o777 == 0o600
    assert "kept in .env" not in bash(checkout, "-euo", "pipefail", "-c", command, SCORING_FLOWER_PORT="5755")


COMPOSE = """echo "$*" >>calls
case "$*" in
*"ps -q worker"*) for container in worker* guest; do [ ! -f "$container" ] || echo "$container"; done ;;
"inspect --format {{index .Config.Labels "*" guest") echo True ;;
*"run -d "*) touch guest; echo guest ;;
"inspect --format {{.Id}} guest") echo guest ;;
"inspect --format {{.State.Running}} "*) echo true ;;
"inspect --format {{.State.Health.Status}} "*) echo healthy ;;
"exec guest scoring health worker") [ ! -f broken ] ;;
"stop -t 50 worker"*) mv worker* bin/ ;;
*" up -d "*worker*) echo "up with $SCORING_WORKERS" ;;
esac"""


@pytest.fixture
def there(checkout):
    """A stack whose containers are files, and which notes what it is asked."""
    for name in ("docker", "docker-compose"):
        put_docker(checkout, COMPOSE, name)
    return checkout


@pytest.mark.parametrize("script", ["docker-compose", "docker compose"])
@pytest.mark.parametrize(("running", "settings", "number"), [(3, "", "3"), (0, "", "1"), (3, "SCORING_WORKERS=5\n", "5")])
def test_a_new_image_keeps_the_number_of_workers(there, script, running, settings, number):
    """What runs is taken away before the new is started; either starts as many as SCORING_WORKERS says."""
    (there / ".env").write_text(settings)
    for container in range(running):
        (there / f"worker{container}").touch()
    said = bash(there, "-euo", "pipefail", "-c", f". ./docker_environment.sh; compose=({script}); start_stack")
    assert f"up with {number}\n" in said


def test_one_worker_of_the_new_image_is_at_work_before_the_old_ones_stop(there):
    (there / ".env").write_text("")
    for container in range(2):
        (there / f"worker{container}").touch()
    bash(there, "-euo", "pipefail", "-c", ". ./docker_environment.sh; compose=(docker-compose); SCORING_WORKERS=2 replace worker")
    calls = (there / "calls").read_text().splitlines()
    order = [
        "run -d --no-deps worker",
        "exec guest scoring health worker",
        "stop -t 50 worker0 worker1",
        "rm --volumes worker0 worker1",
        "--profile notebook --profile metrics up -d --no-deps worker",
        "stop -t 50 guest",
    ]
    assert [call for call in calls if call in order] == order


def test_an_image_whose_worker_does_not_work_leaves_the_old_ones_at_work(there):
    (there / ".env").write_text("")
    for name in ("worker0", "broken"):
        (there / name).touch()
    script = ". ./docker_environment.sh; compose=(docker-compose); WAIT_SECONDS=0; replace worker"
    said = bash(there, "-euo", "pipefail", "-c", script, code=1)
    assert "The new image of worker does not work: see above. The old one goes on" in said
    assert "stop -t 50 worker0" not in (there / "calls").read_text()
    assert (there / "worker0").exists()


def test_a_script_of_any_definition_that_fails_fails_the_build(checkout):
    [command] = re.findall(r"^RUN (for script in (?:.*\\\n)*.*)", (REPOSITORY / "Dockerfile").read_text(), flags=re.MULTILINE)
    command = command.replace("/tmp/", f"{checkout}/").replace("/var/", f"{checkout}/var/")
    assert all(word.startswith(str(checkout)) for word in re.findall(r"(?<!\S)/\S+", command)), "it would remove what is not ours"
    (checkout / "bin/rm").symlink_to(shutil.which("rm"))
    for script in checkout.glob("model_store/*/install_dependencies.sh"):
        script.write_text("exit 0" if script.parent.name != "v1" else "exit 3")
    bash(checkout, "-euo", "pipefail", "-c", command, code=1)
    assert (checkout / "model_store").exists()
    (checkout / "model_store/v1/install_dependencies.sh").write_text("exit 0")
    bash(checkout, "-euo", "pipefail", "-c", command)
    assert not (checkout / "model_store").exists()


def test_a_port_that_is_busy_is_named_with_its_setting(checkout):
    command = ". ./docker_environment.sh; compose=(true); check_port notebook $0 SCORING_NOTEBOOK_PORT"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        said = bash(checkout, "-euc", command, port, code=1)
    assert said == f"Port {port} is busy: stop what uses it, or set SCORING_NOTEBOOK_PORT to another port in .env, and start again.\n"
    assert bash(checkout, "-euc", command, port) == ""


ENGINE = "[ $1 = --version ] && echo 'Docker version 28.2.2, build e6534b4' && exit\n[ $1 = version ] && echo 28.2.2\nexit 0"


def test_build_pipelines_refuses_what_it_cannot_do_before_it_builds(checkout):
    put_docker(checkout, ENGINE)
    assert "There is no definition v9" in bash(checkout, "build_pipelines.sh", code=1, MODEL_VER="v9")
    assert "There is no table in data/predict/input of the bucket" in bash(checkout, "build_pipelines.sh", code=1)
    said = bash(checkout, "build_pipelines.sh", code=1, BUCKET_URL="s3://scoring")
    assert said.endswith("The bucket is s3://scoring, which is not a folder on this machine: name a table in it with --table.\n")
    assert "--service is train, score or both" in bash(checkout, "build_pipelines.sh", "--service", "serve", code=2)
    assert "There is no image before this one" in bash(checkout, "build_pipelines.sh", "--back", code=1)
    assert bash(checkout, "build_pipelines.sh", "-h").startswith("Builds the image")
    assert bash(checkout, "build_pipelines.sh", "--unknown", code=2).startswith("Builds the image")


NOTHING_TOUCHED = 'case "$*" in *build*|*stop*|*rm*) touch touched ;; esac\n' + ENGINE


def test_build_pipelines_looks_at_the_ports_before_it_builds_or_stops_anything(checkout):
    put_docker(checkout, NOTHING_TOUCHED)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        for option in ("--build-only", "--back"):
            said = bash(checkout, "build_pipelines.sh", option, code=1, SCORING_FLOWER_PORT=port)
            assert f"Port {port} is busy: stop what uses it, or set SCORING_FLOWER_PORT to another port in .env" in said
    assert not (checkout / "touched").exists()


BROKEN = """case "$*" in
*"models check"*) echo "v1 does not import: no module named xgboost"; exit 4 ;;
*" up "*|*tag*|*stop*) touch touched ;;
esac
"""


def test_a_definition_that_fails_in_the_new_image_leaves_what_runs_as_it_was(checkout):
    put_docker(checkout, BROKEN + ENGINE)
    said = bash(checkout, "build_pipelines.sh", "--build-only", code=1, MODEL_VER="v1", SCORING_FLOWER_PORT=str(free_port()))
    assert said.endswith(
        "v1 does not import: no module named xgboost\nThe new image is not put into service: see above. What runs was left as it was.\n"
    )
    assert not (checkout / "touched").exists()
    # what did not come into service is no setting either
    assert "SCORING_FLOWER_PORT" not in {line.partition("=")[0] for line in (checkout / ".env").read_text().splitlines()}


def test_the_newest_folder_of_the_bucket_that_holds_something_is_the_one_that_is_scored(checkout):
    for place in ("2026/11/09", "2026/11/23", "2025/12/31", "2026/11/notes"):
        (checkout / "bucket/data/predict/input" / place).mkdir(parents=True)
        (checkout / "bucket/data/predict/input" / place / "prediction_input.csv.gz").touch()
    (checkout / "bucket/data/predict/input/2026/11/24").mkdir()
    (checkout / ".env").write_text("")
    newest = bash(checkout, "-euc", ". ./docker_environment.sh; newest_input", PATH=f"{checkout / 'bin'}{os.pathsep}/bin:/usr/bin")
    assert newest == "data/predict/input/2026/11/23\n"
