"""The digest of a definition's code: workers bind a release to it, and commands say when the code of a release was changed since."""

import hashlib
from pathlib import Path

TEMPLATE = "model_template.py"
"""What older definitions load from the folder above theirs."""


def digest_source(folder: Path, package: Path) -> str:
    """The sha256 over the paths and contents of a definition's Python files; a template of its own above it is a part of its code.

    ``package`` is the folder of this product's own definitions: the template in it belongs to the code of none.
    """
    files = [(file.relative_to(folder).as_posix(), file) for file in sorted(folder.rglob("*.py"))]
    template = template_of(folder, package)
    if template is not None:
        files.append((f"../{TEMPLATE}", template))
    whole = hashlib.sha256()
    for name, file in files:
        whole.update(name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()


def template_of(folder: Path, package: Path) -> Path | None:
    """The template of its own that lies above a definition."""
    template = folder.parent / TEMPLATE
    return template if folder.parent != package and template.is_file() else None
