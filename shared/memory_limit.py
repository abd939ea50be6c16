"""The memory that this process may use: the limit of its container or of the process, else the memory of the machine."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
GIGABYTE, MEGABYTE = 10**9, 10**6


def describe_memory() -> str:
    """The memory that this process may use, for people: ``2.1 GB, the limit of its container``."""
    limits = [(size, "the limit of its container") for size in _cgroup_limits()]
    limits += [(size, "the limit of the process") for size in _process_limits()]
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    size, whose = min([*limits, (machine, "all of its machine")], key=lambda limit: limit[0])
    shown = f"{size / GIGABYTE:,.1f} GB" if size >= GIGABYTE else f"{size / MEGABYTE:,.0f} MB"
    return f"{shown}, {whose}"


def _cgroup_limits() -> Iterator[int]:
    """The limits in bytes of this process's control groups and their parents, for versions 2 and 1."""
    for folder, name in _limit_files():
        for place in (folder, *folder.parents):
            size = _read_size(place / name)
            if size is not None:
                yield size
            if place == CGROUPS:
                break


def _limit_files() -> Iterator[tuple[Path, str]]:
    try:
        lines = OWN_CGROUPS.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        # in a container the path may be that of the host and not exist: then the container's own group is the top
        inside = PurePosixPath(path).relative_to("/")
        if not controllers:
            yield CGROUPS / inside, "memory.max"
            yield CGROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            yield CGROUPS / "memory" / inside, "memory.limit_in_bytes"
            yield CGROUPS / "memory", "memory.limit_in_bytes"


def _read_size(file: Path) -> int | None:
    """A limit in bytes; None when there is none."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # no such file, or the word "max"
        return None


def _process_limits() -> Iterator[int]:
    for what in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        size = resource.getrlimit(what)[0]
        if size != resource.RLIM_INFINITY:
            yield size
