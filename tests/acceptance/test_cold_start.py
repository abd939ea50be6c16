"""`cold_start.sh` itself: from nothing to a result, and nothing that remains."""

import json
import re
import subprocess
from pathlib import Path

import psutil
import pytest

from shared.signatures import Signature, Signer
from tests.conftest import REPOSITORY, make_place, wait_until


def processes_of(home: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SCORING_HOME") == str(home) and process.pid != psutil.Process().pid:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.mark.slow
def test_cold_start_shows_a_result_and_leaves_nothing_running(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    done = subprocess.run(
        ["./cold_start.sh"], cwd=REPOSITORY, env=place.environment, capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for fact in (
        "rows in",
        "scored",
        "rejected",
        "release",
        "rows per second",
        "mean cr, Computer",
        "mean cr, Smartphone",
        "mean cr, Tablet",
    ):
        assert fact in done.stdout
    assert re.search(r"took +[\d.]+ s in \d+ chunks", done.stdout)
    path = re.search(r"^result +(\S+)$", done.stdout[done.stdout.index("Scoring with") :], flags=re.MULTILINE)[1]
    assert (place.bucket / path).is_file()
    first_rows = done.stdout[done.stdout.index("entity_id,device,cr") :].splitlines()[1:6]
    assert all(re.fullmatch(r"\d+,[012],(0|1|0\.\d+|\d(\.\d+)?e-\d+)", row) for row in first_rows), first_rows
    assert wait_until(lambda: not processes_of(tmp_path / "home"), what="the end of every process")
    key = tmp_path / "home" / "store-key"
    assert {file.stat().st_mode & 0o077 for file in (tmp_path / "home", key, tmp_path / "home" / "up.log")} == {0}
    manifests = [*place.bucket.glob("model/*/*/manifest.json"), *place.bucket.glob("data/predict/output/**/manifest.json")]
    assert len(manifests) >= 3
    signer = Signer((key.read_text().strip().encode(),))
    assert {signer.check(manifest.read_bytes()) for manifest in manifests} == {Signature.RIGHT}
    # a second terminal finds the key by the home folder
    assert place.scoring_json("models", "list")


@pytest.mark.slow
@pytest.mark.long
def test_cold_start_keep_leaves_the_stack_and_says_how_to_stop_it(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    done = subprocess.run(
        ["./cold_start.sh", "--keep"], cwd=REPOSITORY, env=place.environment, capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pid = int(re.search(r"Stop it with: kill (\d+)", done.stdout)[1])
    assert psutil.pid_exists(pid)
    assert "done" in place.scoring("jobs", "list").stdout
    # the line that it ends with works as it is
    command = re.search(r"^ +(curl \S+)$", done.stdout, flags=re.MULTILINE)[1]
    found = json.loads(subprocess.run(["curl", "-s", *command.split()[1:]], capture_output=True, text=True, timeout=30, check=True).stdout)
    assert (found["status"], found["source"]) == ("PRESENT", "published")
    psutil.Process(pid).terminate()
    assert wait_until(lambda: not processes_of(tmp_path / "home"), what="the end of every process")


def test_missing_python_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("bash", "sed", "dirname", "cat", "sha256sum"):
        (tmp_path / "bin" / name).symlink_to(f"/usr/bin/{name}")
    done = subprocess.run(
        ["/bin/bash", str(REPOSITORY / "cold_start.sh")],
        env={"PATH": str(tmp_path / "bin")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "No Python 3.11 or newer was found" in done.stderr
