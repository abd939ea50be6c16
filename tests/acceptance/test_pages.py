"""Every command in an `sh` block of the README and of every page is run, on one stack that all pages share."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import READY_CLI, REPOSITORY, Place, make_place, stop

pytestmark = pytest.mark.slow

GUIDE = "docs/how-to/add-a-model.md"
WALK = "docs/how-to/a-held-result.md"


def pages_of(content: Any) -> Iterator[str]:
    """The pages of the navigation, in its order: a later one begins with what the earlier ones made."""
    if isinstance(content, str):
        yield f"docs/{content}"
    else:
        for entry in content:
            for inner in entry.values():
                yield from pages_of(inner)


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (REPOSITORY / page).read_text(), flags=re.DOTALL | re.MULTILINE)


NAVIGATION = tomllib.loads((REPOSITORY / "zensical.toml").read_text())["project"]["nav"]
WITH_COMMANDS = [page for page in ("README.md", *pages_of(NAVIGATION)) if blocks(page, "sh")]


@dataclass
class Reader:
    """Types what the pages say, in one terminal and one folder; a command that a page has in common with an earlier one is typed once."""

    place: Place
    folder: Path
    printed: dict[str, str] = field(default_factory=dict)

    def read(self, page: str) -> None:
        for line in "".join(blocks(page, "sh")).splitlines():
            if line and line not in self.printed:
                self.printed[line] = self.type(line, page)

    def type(self, line: str, page: str) -> str:
        if line.startswith("scoring ") and not re.search(r"[$|>&;\\]", line):
            done = READY_CLI.run(shlex.split(line, comments=True)[1:], self.place.environment, 240, self.folder)
        else:
            path = f"{Path(sys.executable).parent}:{self.place.environment['PATH']}"
            environment = self.place.environment | {"PATH": path}
            command = ["bash", "-c", line]
            done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, f"{page}: {line}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader with a stack, who has added the definition that the guide to models shows."""
    place = make_place(tmp_path_factory.mktemp("pages"))
    [model] = blocks(GUIDE, "python")
    definition = place.root / "definitions" / model.splitlines()[0].removeprefix("# ")
    definition.parent.mkdir()
    definition.write_text(model)
    (definition.parent / "install_dependencies.sh").write_bytes((REPOSITORY / "model_store/v1/install_dependencies.sh").read_bytes())
    stack = place.start()
    folder = place.root / "reader"
    folder.mkdir()
    yield Reader(place, folder)
    assert stop(stack) == 0
    place.webhook.close()


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_every_command_of_a_page_works(reader: Reader, page: str) -> None:
    for earlier in WITH_COMMANDS[: WITH_COMMANDS.index(page) + 1]:
        reader.read(earlier)


def test_the_result_of_a_definition_with_keys_of_its_own_is_the_one_that_the_guide_shows(reader: Reader) -> None:
    reader.read("README.md")
    reader.read(GUIDE)
    [shown] = blocks(GUIDE, "csv")
    lines = [line.removesuffix("...") for line in shown.splitlines()]
    output = reader.place.bucket / "data/predict/output"
    [manifest] = output.glob("v5/*/*/*/words/manifest.json")
    head = reader.place.scoring("results", "head", manifest.parent.relative_to(output)).stdout.splitlines()
    assert head[0] == "keyword,match_type,cr,cr_low,cr_high"
    assert [row.startswith(line) for row, line in zip(head[1:], lines[1:], strict=True)] == [True, True], head


def test_the_schedule_that_the_guide_shows_is_right(reader: Reader) -> None:
    for page in WITH_COMMANDS[:2]:
        reader.read(page)
    [schedule] = blocks("docs/how-to/schedule.md", "yaml")
    (reader.place.bucket / "config").mkdir(exist_ok=True)
    file = reader.place.bucket / "config/schedule.yaml"
    file.write_text(schedule)
    try:
        assert reader.place.scoring_json("schedule", "check") == []
    finally:
        file.unlink()


def test_the_correction_that_the_guide_to_rejects_shows_leaves_no_reject(reader: Reader) -> None:
    for page in WITH_COMMANDS[: WITH_COMMANDS.index("docs/how-to/rejects-and-fixes.md") + 1]:
        reader.read(page)
    manifests = (json.loads(found.read_text()) for found in reader.place.bucket.glob("data/predict/output/*/*/*/*/*/manifest.json"))
    [manifest] = (manifest for manifest in manifests if manifest["fixes"])
    assert (manifest["rows_in"], manifest["rows_rejected"]) == (300, 0)


def test_a_new_user_breaks_a_table_finds_why_approves_refuses_and_rolls_back_from_the_page_alone(reader: Reader) -> None:
    reader.read("README.md")
    (reader.folder / "bucket").symlink_to(reader.place.bucket)  # where the bucket of a new user is
    printed, held = {}, ""
    for line in "".join(blocks(WALK, "shell")).splitlines():
        if line in reader.printed:  # the stack has these since the README
            continue
        if "JOB" in line:
            [held] = [result["job_id"] for result in reader.place.scoring_json("results", "held")]
        said = reader.type(re.sub(r"\bJOB\b", held, line), WALK)
        printed[line] = [*printed.get(line, []), said]
    shown = [said.rstrip().splitlines()[1:] for said in printed["scoring results history live"]]
    assert [len(changes) for changes in shown] == [1, 2, 5]
    assert ["passed the guard" in shown[-1][0], "unpinned" in shown[-1][1], "approved" in shown[-1][3]] == [True] * 3
    codes = [said[0].splitlines()[-1] for line, said in printed.items() if "|| echo" in line]
    assert codes == ["exit code 7"] * 3
    assert "guard.html" in printed["scoring jobs show JOB"][0]
    assert "same features: the model changed   0" in printed["scoring results diff JOB --top 3"][0]
    assert "att144" in printed["scoring why 2 Computer --in JOB"][0]
    assert reader.place.scoring_json("results", "held") == []
