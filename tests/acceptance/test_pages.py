"""Every command in an `sh` block of the README and of every page is run, on one stack that all pages share."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Place, make_place, stop

pytestmark = pytest.mark.slow

FIRST = "README.md"
"""Its quickstart makes the tables and the release that the other pages begin with."""
GUIDE = "docs/how-to/add-a-model.md"
PAGES = [FIRST, *sorted(str(page.relative_to(REPOSITORY)) for page in (REPOSITORY / "docs").rglob("*.md"))]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (REPOSITORY / page).read_text(), flags=re.DOTALL | re.MULTILINE)


WITH_COMMANDS = [page for page in PAGES if blocks(page, "sh")]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A stack of its own, since the pages leave releases, aliases and a schedule in its bucket; the first page has been run on it."""
    place = make_place(tmp_path_factory.mktemp("pages"))
    stack = place.start()
    run_all(place, FIRST)
    yield place
    assert stop(stack) == 0
    place.webhook.close()


def run_all(place: Place, page: str) -> dict[str, str]:
    """Run the commands of each `sh` block of a page as a script, in an empty folder that the page shares; returns what each printed."""
    folder = place.root / "pages" / page.replace("/", "-")
    folder.mkdir(parents=True)
    path = f"{Path(sys.executable).parent}:{place.environment['PATH']}"
    printed = {}
    for block in blocks(page, "sh"):
        done = subprocess.run(
            ["bash", "-exuo", "pipefail", "-c", block],
            cwd=folder,
            env=place.environment | {"PATH": path},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"{page}:\n{block}\n{done.stdout}\n{done.stderr}"
        printed[block] = done.stdout
    return printed


@pytest.mark.parametrize("page", [page for page in WITH_COMMANDS if page not in (FIRST, GUIDE)])
def test_every_command_of_a_page_works(running: Place, page: str) -> None:
    run_all(running, page)


def test_every_command_of_the_guide_to_models_works_with_the_definition_that_it_shows(running: Place) -> None:
    [model] = blocks(GUIDE, "python")
    definition = running.root / "definitions" / model.splitlines()[0].removeprefix("# ")
    definition.parent.mkdir()
    definition.write_text(model)
    (definition.parent / "install_dependencies.sh").write_bytes((REPOSITORY / "model_store/v1/install_dependencies.sh").read_bytes())
    printed = run_all(running, GUIDE)
    [shown] = blocks(GUIDE, "csv")
    lines = [line.removesuffix("...") for line in shown.splitlines()]
    [head] = [out.splitlines()[-3:] for command, out in printed.items() if "--interval" in command]
    assert head[0] == "keyword,match_type,cr,cr_low,cr_high"
    assert [row.startswith(line) for row, line in zip(head[1:], lines[1:], strict=True)] == [True, True], head
    assert any(release["definition"] == "v4" for release in running.scoring_json("models", "list"))


def test_the_schedule_that_the_guide_shows_is_right(running: Place) -> None:
    [schedule] = blocks("docs/how-to/schedule.md", "yaml")
    (running.bucket / "config").mkdir(exist_ok=True)
    file = running.bucket / "config/schedule.yaml"
    file.write_text(schedule)
    try:
        assert running.scoring_json("schedule", "check") == []
    finally:
        file.unlink()
