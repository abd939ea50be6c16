"""Holds processes that read the request of a job, for the tests: loaded by every Python that has this folder on its PYTHONPATH.

A process that reads ``jobs/<id>/job.json`` of a local bucket while the file ``<HOLD_FOLDER>/<id>`` is there writes ``<id>.begun``
beside it, and waits until that file is gone.
"""

import importlib.abc
import importlib.util
import os
import sys
import time
from pathlib import Path


class _Finder(importlib.abc.MetaPathFinder):
    """Wraps the bucket's reading as soon as its module is loaded."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "shared.bucket.local":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            _wrap(module.LocalBucket)

        spec.loader.exec_module = exec_module
        return spec


def _wrap(kind):
    real, folder = kind.read, Path(os.environ["HOLD_FOLDER"])

    def read(self, path):
        mark = folder / path.split("/")[-2] if path.endswith("/job.json") else None
        if mark is not None and mark.exists():
            mark.with_suffix(".begun").touch()
            while mark.exists():
                time.sleep(0.02)
        return real(self, path)

    kind.read = read


if "HOLD_FOLDER" in os.environ:
    if "shared.bucket.local" in sys.modules:  # in a fork of a process that has imported it
        _wrap(sys.modules["shared.bucket.local"].LocalBucket)
    else:
        sys.meta_path.insert(0, _Finder())
