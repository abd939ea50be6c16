"""The benchmark still runs, on a table that is too small to tell anything, and refuses figures that mean nothing."""

import gzip
import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from benchmarks import comparison
from benchmarks.bars import Runs, bars_of_guard, bars_of_score
from benchmarks.hosts import Hosts
from benchmarks.lanes import BenchmarkError
from benchmarks.measuring import Run
from benchmarks.ways import check_same, has_dask
from tests.conftest import READY_PROGRAMS, REPOSITORY, wait_until


def benchmark(*arguments: str | Path, code: int = 0, forked: bool = False) -> str:
    """What the command prints; it and its stack may be forks of a process that has the libraries."""
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    run = READY_PROGRAMS.run if forked else subprocess.run
    done = run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.server
def test_every_way_is_measured_and_gives_the_same_rates(tmp_path):
    choice = ["--models", "v1", "--formats", "csv", "--only", "ours,pool,kernels,old", "--no-small", "--no-bars"]
    benchmark("score", "--rows", "2000", "--rounds", "1", *choice, "--json", tmp_path / "runs.json", "--work", tmp_path, forked=True)
    runs = json.loads((tmp_path / "runs.json").read_text())["runs"]
    assert {run["way"] for run in runs} == {"ours", "pool", "kernels", "old"}
    assert all(run["seconds"] > 0 for run in runs)
    # what is compared with a narrow bar is measured more often
    assert Counter(run["way"] for run in runs) == {
        "ours": 1 + comparison.MORE_TURNS,
        "pool": 1 + comparison.MORE_TURNS,
        "kernels": 1,
        "old": 1,
    }
    ours = next(run for run in runs if run["way"] == "ours")
    assert {"server", "score", "score process", "control", "control process"} <= ours["peaks_mb"].keys()
    assert ours["steps"].keys() == {"plan", "chunks", "join"}
    assert [path.name for path in tmp_path.iterdir()] == ["runs.json"]


@dataclass
class ALane:
    """A way that is one process."""

    pid: int

    def processes(self) -> dict[int, str]:
        return {self.pid: "main", 2**22 + 1: "a process that has just ended"}


def test_ways_that_are_not_measured_stand_still_and_go_on_whatever_happens(monkeypatch):
    monkeypatch.setattr(comparison, "SETTLE_SECONDS", 0)
    with subprocess.Popen(["sleep", "60"]) as sleeping:
        process = psutil.Process(sleeping.pid)
        with pytest.raises(BenchmarkError), comparison.standing_still([ALane(sleeping.pid)]):
            wait_until(lambda: process.status() == psutil.STATUS_STOPPED, what="the stop")
            raise BenchmarkError("the way that is measured died")
        wait_until(lambda: process.status() == psutil.STATUS_SLEEPING, what="the end of the stop")
        sleeping.kill()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.server
def test_growth_is_measured_from_size_to_size(tmp_path):
    benchmark("growth", "--most", "10000", "--rounds", "1", "--no-bars", "--json", tmp_path / "runs.json", "--work", tmp_path)
    [run] = json.loads((tmp_path / "runs.json").read_text())["runs"]
    assert run["rows"] == 10_000
    assert run["peaks_mb"]["score process"] > 0


def test_hosts_without_namespaces_are_refused_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(BenchmarkError, match="run this as root on Linux"):
        Hosts(tmp_path, 1)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.server
def test_two_hosts_score_side_by_side_and_leave_nothing(tmp_path):
    choice = ["--rows", "2000", "--rounds", "1", "--chunks", "5", "--model", "v1"]
    benchmark("hosts", *choice, "--json", tmp_path / "hosts.json", "--work", tmp_path)
    figures = json.loads((tmp_path / "hosts.json").read_text())["hosts"]
    assert all(figures[name] > 0 for name in ("one host, s", "two hosts, s", "redis for each chunk", "GET for each chunk"))
    assert [path.name for path in tmp_path.iterdir()] == ["hosts.json"]
    assert not list(Path("/run/netns").glob("scoring-*"))


@pytest.mark.skipif(has_dask(), reason="Dask is installed here")
def test_without_dask_one_sentence_says_how_to_get_it():
    said = benchmark("score", code=2)
    assert said == (
        "Dask is not installed, and it is needed here. "
        "Install what the benchmark compares with: pip install --require-hashes -r requirements-bench.lock\n"
    )


def test_ways_that_do_not_give_the_very_same_rates_are_not_compared(tmp_path):
    one, other = tmp_path / "one.csv.gz", tmp_path / "other.csv.gz"
    one.write_bytes(gzip.compress(b"entity_id,device,cr\n1,0,0.1\n1,1,0.2\n"))
    other.write_bytes(gzip.compress(b"entity_id,device,cr\n1,0,0.1\n1,1,0.20000000000000004\n"))
    check_same([one], [one], "the way 'one'")
    with pytest.raises(BenchmarkError, match="the way 'other' gives another cr than ours in 1 rows, first in row 2"):
        check_same([one], [other], "the way 'other'")


def a_run(way: str, seconds: float, number: int) -> Run:
    return Run(way=way, model="v1", format="csv", rows=10, round=number, seconds=seconds, steps={}, peaks_mb={"score process": 300.0})


def test_a_ratio_is_taken_round_by_round_so_that_a_slow_moment_of_the_machine_does_not_count():
    runs = Runs(
        [a_run(way, seconds, number) for number, pace in enumerate((1, 5, 1)) for way, seconds in (("ours", pace), ("old", 12 * pace))]
    )
    assert runs.ratio(("old", "v1", "csv"), ("ours", "v1", "csv")) == 12


def test_of_several_runs_in_a_round_the_median_counts():
    ours = [a_run("ours", seconds, number) for number in range(3) for seconds in (1, 1, 7)]
    pool = [a_run("pool", seconds, number) for number in range(3) for seconds in (0.9, 0.2, 0.9)]
    assert Runs(ours + pool).ratio(("pool", "v1", "csv"), ("ours", "v1", "csv")) == 0.9
    assert Runs(ours).ratio(("pool", "v1", "csv"), ("ours", "v1", "csv")) is None


def test_in_each_round_another_way_begins_and_those_that_are_close_take_more_turns():
    rounds = [comparison.turns(["ours", "old", "pool"], number) for number in range(3)]
    assert [order[0] for order in rounds] == ["ours", "old", "pool"]
    often = 1 + comparison.MORE_TURNS
    assert all(Counter(order) == {"ours": often, "pool": often, "old": 1} for order in rounds)
    assert comparison.turns(["old"], 1) == ["old"]


def test_a_bar_that_was_not_measured_was_not_reached():
    bars = {bar.what: bar for bar in bars_of_score(Runs([a_run("ours", 1, 0), a_run("old", 12, 0)]), one_row_ms={"v1": 200, "v2": 230})}
    assert bars["v1, csv: as fast as the old service"].ok
    assert not bars["v1, csv: as fast as Dask"].ok
    assert not bars["a job of 1 row, median"].ok
    assert bars["a job of 1 row with v2 beside v1"].ok
    assert not bars["v2, csv: time beside v1"].ok
    assert bars["memory of a worker process"].ok


@pytest.mark.slow
@pytest.mark.server
def test_the_guard_is_measured_in_pairs(tmp_path):
    benchmark("guard", "--rows", "2000", "--pairs", "2", "--no-bars", "--json", tmp_path / "pairs.json", "--work", tmp_path, forked=True)
    pairs = json.loads((tmp_path / "pairs.json").read_text())["pairs"]
    assert len(pairs) == 2
    assert all(seconds > 0 for pair in pairs for seconds in pair)


def test_the_bars_of_the_guard_are_medians_of_pairs():
    bars = bars_of_guard([(1.0, 1.05), (1.0, 1.2), (1.0, 1.08)])
    assert [bar.ok for bar in bars] == [True, True]
    assert [round(bar.reached, 6) for bar in bars] == [1.08, 80]
    assert [bar.ok for bar in bars_of_guard([(1.0, 1.2)])] == [False, False]
