"""Jobs whose request a process of the product cannot finish reading until the test lets it: work in hand for as long as a test wants."""

import os
from pathlib import Path

HOLDING = Path(__file__).parent / "holding"


class HeldJobs:
    """The marks of held jobs; processes that get ``environment`` wait for them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.environment = {"HOLD_FOLDER": str(folder), "PYTHONPATH": f"{HOLDING}{os.pathsep}{HOLDING.parents[1]}"}

    def hold(self, job_id: str) -> None:
        (self._folder / job_id).touch()

    def is_begun(self, job_id: str) -> bool:
        return (self._folder / job_id).with_suffix(".begun").exists()

    def let_go(self, job_id: str) -> None:
        (self._folder / job_id).unlink(missing_ok=True)
