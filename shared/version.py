"""The version of this program, precise enough to detect two processes that run different code."""

import functools
import hashlib
import importlib.metadata
from pathlib import Path

PACKAGES = ("shared", "producers", "workers", "model_store")
ROOT = Path(__file__).resolve().parent.parent


@functools.cache
def code_version() -> str:
    """The release number and a digest of all Python files of the program except definitions: ``0.1.0-3f9a1c02``."""
    whole = hashlib.sha256()
    for file in sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        if (file.parent / "model.py").exists():
            continue  # a definition: its code has its own digest
        whole.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return f"{importlib.metadata.version('keyword-scoring')}-{whole.hexdigest()[:8]}"
