"""Answers a question in a process of its own, for workers that never run the code of definitions.

The process is a fresh interpreter. It reads the question from a file, and writes the answer to another one.
"""

import os
import subprocess
import sys
from pathlib import Path

from model_store.isolated_loading import REPOSITORY, end_with_parent
from model_store.library import ModelLibrary
from shared.bucket.opening import open_bucket
from shared.errors import ModelError
from shared.guard.explanation import Answer, Question
from shared.processes import temporary_folder
from shared.records import decode_long
from shared.settings import Settings, read_settings
from workers.explaining.answering import answer, refusal

_QUESTION, _RUNNING, _ANSWER = "question.json", "running", "answer.json"


def answer_isolated(settings: Settings, question: Question, seconds: float) -> tuple[Answer, str]:
    """Returns the answer, and the release that killed or hung the process; empty if none did."""
    with temporary_folder(settings.home / "explaining") as place:
        (place / _QUESTION).write_bytes(question.to_json())
        path = os.pathsep.join(dict.fromkeys([str(REPOSITORY), *(entry or str(Path.cwd()) for entry in sys.path)]))
        command = [sys.executable, "-P", "-m", __name__, str(os.getpid()), str(place)]
        try:
            subprocess.run(
                command,
                env=os.environ | {"PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                timeout=seconds,
                check=False,
            )
            how = "killed the process that explained a rate"
        except subprocess.TimeoutExpired:
            how = f"took longer than {seconds:g} s to explain a rate"
        if (place / _ANSWER).exists():
            return decode_long(Answer, (place / _ANSWER).read_bytes()), ""
        release = (place / _RUNNING).read_text() if (place / _RUNNING).exists() else ""
        return crashed(release, how), release


def crashed(release: str, how: str) -> Answer:
    """Returns the answer for a question whose process was killed or hung while the code of a release ran."""
    definition = release.partition("@")[0]
    if not release:
        return refusal(ModelError(f"the process that read the results {how}", next_step="Ask again, or see: scoring doctor"))
    return refusal(ModelError(f"the release {release} {how}", next_step=f"Try its definition with: scoring models check {definition}"))


def main(parent: int, place: Path) -> None:
    """Answers the question in a folder for the process ``parent``."""
    end_with_parent(parent)
    settings = read_settings()
    bucket = open_bucket(settings.bucket_url, settings.signer)
    library = ModelLibrary(bucket, settings.home / "releases", settings.definitions)
    running = place / _RUNNING
    question = decode_long(Question, (place / _QUESTION).read_bytes())

    def enter(release: str) -> None:
        running.write_text(release)

    found = answer(bucket, library, question, enter=enter)
    (place / f"{_ANSWER}.unfinished").write_bytes(found.to_json())
    (place / f"{_ANSWER}.unfinished").rename(place / _ANSWER)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
