"""Marks a release while a process opens it, so that a later process knows that the one before died of it."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.processes import has_ended, make_private_folder, process_token


@dataclass(frozen=True)
class Attempts:
    """The marks of all server processes of this machine: files in a folder, each named after its process, with the name of the release."""

    folder: Path

    @contextlib.contextmanager
    def opening(self, release: str) -> Iterator[None]:
        """Marks a release for the time of the block; the mark stays if the process dies in it."""
        make_private_folder(self.folder)
        mark = self.folder / process_token()
        mark.write_text(release)
        try:
            yield
        finally:
            mark.unlink(missing_ok=True)

    def has_killed(self, release: str) -> bool:
        """Returns True if a process died while it opened the release."""
        return any(self._marks_of(release))

    def forget(self, release: str) -> None:
        """Removes the marks of dead processes, once the release was opened."""
        for mark in self._marks_of(release):
            mark.unlink(missing_ok=True)

    def _marks_of(self, release: str) -> Iterator[Path]:
        for mark in self.folder.iterdir() if self.folder.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):
                if has_ended(mark.name) and mark.read_text() == release:
                    yield mark
