"""What a killed process had begun to write is cleared away, and what a living one writes is left alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.bucket.local import ORPHAN_SECONDS, TEMPORARY, LocalBucket
from shared.processes import process_token, temporary_folder
from tests.conftest import REPOSITORY

KILLED_WRITING = """
import os, signal, sys
from pathlib import Path
from shared.bucket.local import LocalBucket
with LocalBucket(Path(sys.argv[1])).writer("data/half.csv") as out:
    out.write(b"half of it")
    out.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""

KILLED_PUTTING_A_FOLDER = """
import os, shutil, signal, sys
from pathlib import Path
from shared.bucket.local import LocalBucket
def copy_and_die(source, target):
    Path(target).write_bytes(b"half of it")
    os.kill(os.getpid(), signal.SIGKILL)
shutil.copyfile = copy_and_die
LocalBucket(Path(sys.argv[1])).put_folder(Path(sys.argv[2]), "data/half", last="manifest.json")
"""

WRITES_UNTIL_TOLD = """
import sys
from pathlib import Path
from shared.bucket.local import LocalBucket
with LocalBucket(Path(sys.argv[1])).writer("data/whole.csv") as out:
    out.write(b"all ")
    out.flush()
    print("writing", flush=True)
    sys.stdin.readline()
    out.write(b"of it")
"""


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    return LocalBucket(tmp_path / "bucket")


def aside(bucket: LocalBucket) -> list[str]:
    """What lies among the files that are being written."""
    return sorted(file.name for file in (bucket.root / TEMPORARY).iterdir())


def leave(bucket: LocalBucket, name: str, *, seconds_ago: float = 0) -> Path:
    """Leaves a half-written file of this name, last touched that long ago."""
    file = bucket.root / TEMPORARY / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"half of it")
    touched = time.time() - seconds_ago
    os.utime(file, (touched, touched))
    return file


def ended_process() -> int:
    """The id of a process that was here and is gone."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(30)
    return ended.pid


@pytest.mark.parametrize("program", [KILLED_WRITING, KILLED_PUTTING_A_FOLDER], ids=["a file", "a folder"])
def test_what_a_killed_process_left_is_removed_at_once_and_was_never_seen(bucket, tmp_path, program):
    staged = tmp_path / "staged"
    staged.mkdir()
    (staged / "manifest.json").write_bytes(b"{}")
    killed = subprocess.run([sys.executable, "-c", program, str(bucket.root), str(staged)], cwd=REPOSITORY, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(aside(bucket)) == 1
    assert not bucket.files("data")
    assert not bucket.folders("data")
    bucket.drop_orphans()
    assert aside(bucket) == []


def test_what_another_living_process_writes_is_kept_and_gets_whole(bucket):
    command = [sys.executable, "-c", WRITES_UNTIL_TOLD, str(bucket.root)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writing:
        assert writing.stdout.readline() == "writing\n"
        before = aside(bucket)
        bucket.drop_orphans()
        assert aside(bucket) == before != []
        assert bucket.read("data/whole.csv") is None
        writing.communicate("go on\n", timeout=60)
    assert writing.returncode == 0
    assert bucket.read("data/whole.csv") == b"all of it"


def test_what_this_process_writes_is_kept(bucket):
    with bucket.writer("data/mine.csv") as out:
        out.write(b"all ")
        bucket.drop_orphans()
        out.write(b"of it")
    assert bucket.read("data/mine.csv") == b"all of it"
    assert aside(bucket) == []


def test_only_the_strays_go_when_both_lie_side_by_side(bucket):
    here = process_token().rsplit(".", 2)[0]
    leave(bucket, f"{here}.{ended_process()}.0123456789abcdef")
    mine = leave(bucket, f"{here}.{os.getpid()}.0123456789abcdef")
    bucket.drop_orphans()
    assert aside(bucket) == [mine.name]


@pytest.mark.parametrize("host", ["elsewhere-4026531836", "node-3.example.org-4026531836"])
def test_a_file_of_another_host_is_judged_by_its_age_alone(bucket, host):
    # the number of a process that is gone here may well be that of a living one there
    gone = ended_process()
    young = leave(bucket, f"{host}.{gone}.aaaaaaaaaaaaaaaa", seconds_ago=ORPHAN_SECONDS - 600)
    leave(bucket, f"{host}.{gone}.bbbbbbbbbbbbbbbb", seconds_ago=ORPHAN_SECONDS + 600)
    leave(bucket, f"{host}.{os.getpid()}.cccccccccccccccc", seconds_ago=ORPHAN_SECONDS + 600)
    bucket.drop_orphans()
    assert aside(bucket) == [young.name]


def test_a_very_old_folder_of_another_host_is_removed_with_what_is_in_it(bucket):
    folder = bucket.root / TEMPORARY / "elsewhere-1.77.0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "model.json").write_bytes(b"half of it")
    old = time.time() - ORPHAN_SECONDS - 600
    os.utime(folder, (old, old))
    bucket.drop_orphans()
    assert aside(bucket) == []


@pytest.mark.parametrize("name", ["note", "a.b", "..x", "host.pid.x"])
def test_a_file_with_a_foreign_name_stays_for_a_day(bucket, name):
    leave(bucket, name)
    bucket.drop_orphans()
    assert aside(bucket) == [name]
    leave(bucket, name, seconds_ago=ORPHAN_SECONDS + 600)
    bucket.drop_orphans()
    assert aside(bucket) == []


def test_a_bucket_without_strays_stays_as_it_is(bucket):
    bucket.drop_orphans()
    assert not bucket.root.exists()
    bucket.write("data/kept.csv", b"kept")
    bucket.drop_orphans()
    assert bucket.read("data/kept.csv") == b"kept"


def test_a_temporary_folder_goes_with_its_block_or_with_the_next_one_after_a_kill(tmp_path):
    program = """
import os, signal, sys
from pathlib import Path
from shared.processes import temporary_folder

with temporary_folder(Path(sys.argv[1])) as folder:
    (folder / "model.skops").write_bytes(b"half of it")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    parent = tmp_path / "own"
    subprocess.run([sys.executable, "-c", program, str(parent)], cwd=REPOSITORY, check=False)
    [left] = parent.iterdir()
    assert list(left.iterdir())
    with temporary_folder(parent) as first, temporary_folder(parent) as second:
        assert sorted(parent.iterdir()) == sorted([first, second])
    assert list(parent.iterdir()) == []
