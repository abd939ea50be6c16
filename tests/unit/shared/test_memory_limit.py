"""What a failed job says of its memory is the lowest limit there is: of the container, of the process, or all of the machine."""

import resource
import subprocess
import sys

import pytest

from shared import memory_limit as limits
from tests.acceptance.faults.memory import kills, memory_limit
from tests.conftest import REPOSITORY


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Control groups made of files; returns the function that says which of them this process is in."""
    monkeypatch.setattr(limits, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(limits, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    monkeypatch.setattr("os.sysconf", lambda name: 4096 if name == "SC_PAGE_SIZE" else 8_000_000_000 // 4096)

    def put(own, **files):
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            file = tmp_path / "cgroup" / name.replace("__", "/").replace("_dot_", ".")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    return put


@pytest.mark.parametrize(
    ("own", "files", "shown"),
    [
        ("0::/pod/worker\n", {"pod__worker__memory_dot_max": "2100000000\n"}, "2.1 GB, the limit of its container"),
        ("0::/pod/worker\n", {"pod__worker__memory_dot_max": "max\n"}, "8.0 GB, all of its machine"),
        (
            "0::/pod/worker\n",
            {"pod__worker__memory_dot_max": "max\n", "pod__memory_dot_max": "900000000\n"},
            "900 MB, the limit of its container",
        ),
        ("0::/../../of/the/host\n", {"memory_dot_max": "3000000000\n"}, "3.0 GB, the limit of its container"),
        ("4:memory:/pod\n", {"memory__pod__memory_dot_limit_in_bytes": "1500000000\n"}, "1.5 GB, the limit of its container"),
        ("4:memory:/pod\n", {"memory__pod__memory_dot_limit_in_bytes": "9223372036854771712\n"}, "8.0 GB, all of its machine"),
        ("1:cpu:/\n", {}, "8.0 GB, all of its machine"),
    ],
    ids=["version 2", "none", "of a group above", "path of the host", "version 1", "none in version 1", "no group"],
)
def test_the_lowest_limit_is_reported(groups, own, files, shown):
    groups(own, **files)
    assert limits.describe_memory() == shown


def test_a_limit_of_the_process_is_reported(groups, monkeypatch):
    groups("0::/\n")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (500_000_000, 500_000_000))
    assert limits.describe_memory() == "500 MB, the limit of the process"


def test_a_real_limit_is_reported_by_a_process_in_it():
    with memory_limit(1 << 30) as within:
        if not within:
            pytest.skip("no limit on memory can be set here")
        code = "from shared.memory_limit import describe_memory; print(describe_memory())"
        shown = subprocess.run([*within, sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == f"1.1 GB, the limit of {'its container' if kills(within) else 'the process'}"
