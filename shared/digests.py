"""The digest of a definition's code: workers bind a release to it, and commands report when the code of a release has changed."""

import hashlib
from pathlib import Path

TEMPLATE = "model_template.py"
"""A module that older definitions load from their parent folder."""


def digest_source(folder: Path, package: Path) -> str:
    """The SHA-256 of the paths and contents of a definition's Python files, including its own template in the parent folder.

    ``package`` is the folder of this product's definitions: the template in it is not part of any definition's code.
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
    """The template in the parent folder of a definition, unless that folder is ``package``."""
    template = folder.parent / TEMPLATE
    return template if folder.parent != package and template.is_file() else None
