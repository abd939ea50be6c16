"""What `docker_environment.sh` finds and makes before anything is built: no engine is needed to see it refuse."""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

TOOLS = ("bash", "sed", "dirname", "sort", "head", "tail", "cat", "id", "od", "tr", "grep", "mv", "mkdir", "chown")


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
    bash(checkout, "-euc", ". ./docker_environment.sh; make_settings; make_bucket", **variables)
    lines = (checkout / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_settings_are_made_once_with_secrets_of_their_own_that_only_their_owner_reads(checkout):
    made = make_settings(checkout)
    secrets = {made[name] for name in ("REDIS_PASSWORD", "SCORING_FLOWER_PASSWORD", "SCORING_NOTEBOOK_TOKEN")}
    assert len(secrets) == 3
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


@pytest.mark.parametrize("script", ["docker-compose", "docker compose"])
@pytest.mark.parametrize(("there", "settings", "number"), [(3, "", "3"), (0, "", "1"), (3, "SCORING_WORKERS=5\n", "5")])
def test_a_new_image_keeps_the_number_of_workers(checkout, script, there, settings, number):
    """`docker-compose` takes what is there away before it starts the new; either starts as many as SCORING_WORKERS says."""
    (checkout / ".env").write_text(settings)
    for container in range(there):
        (checkout / f"worker{container}").touch()
    put_docker(
        checkout,
        """case "$*" in
        *"ps -q worker"*) for container in worker*; do [ ! -f "$container" ] || echo "$container"; done ;;
        *" rm "*) mv worker* bin/ || true ;;
        *" up -d "*) echo "up with $SCORING_WORKERS" ;;
        esac""",
        name=script.split()[0],
    )
    said = bash(checkout, "-euo", "pipefail", "-c", f". ./docker_environment.sh; compose=({script}); start_stack")
    assert f"up with {number}\n" in said


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
    assert said.endswith("The bucket is s3://scoring, which is no folder of this machine: name a table in it with --table.\n")
    assert "--service is train, score or both" in bash(checkout, "build_pipelines.sh", "--service", "serve", code=2)
    assert bash(checkout, "build_pipelines.sh", "-h").startswith("Builds the image")
    assert bash(checkout, "build_pipelines.sh", "--unknown", code=2).startswith("Builds the image")


def test_the_newest_folder_of_the_bucket_that_holds_something_is_the_one_that_is_scored(checkout):
    for place in ("2026/11/09", "2026/11/23", "2025/12/31", "2026/11/notes"):
        (checkout / "bucket/data/predict/input" / place).mkdir(parents=True)
        (checkout / "bucket/data/predict/input" / place / "prediction_input.csv.gz").touch()
    (checkout / "bucket/data/predict/input/2026/11/24").mkdir()
    (checkout / ".env").write_text("")
    newest = bash(checkout, "-euc", ". ./docker_environment.sh; newest_input", PATH=f"{checkout / 'bin'}{os.pathsep}/bin:/usr/bin")
    assert newest == "data/predict/input/2026/11/23\n"
