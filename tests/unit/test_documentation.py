"""The pages are whole: generated ones are up to date, links lead somewhere, commands exist, the site builds and needs no other host."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from producers.cli.root import scoring
from producers.stack.launch.output import Output
from shared.settings import SECRETS, Settings
from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.rglob("*.md"))]
NAMES = [str(page.relative_to(REPOSITORY)) for page in PAGES]
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", flags=re.DOTALL | re.MULTILINE)


def fences(page: Path) -> list[str]:
    return [text for _, text in FENCE.findall(page.read_text())]


def test_the_generated_pages_are_up_to_date():
    done = subprocess.run([sys.executable, DOCS / "generate.py", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_setting_is_on_the_page_of_settings_and_has_a_meaning():
    page = (DOCS / "reference/settings.md").read_text()
    for name, field in Settings.model_fields.items():
        variable = field.validation_alias if isinstance(field.validation_alias, str) else f"SCORING_{name.upper()}"
        [row] = re.findall(rf"^\| `{variable}` \|.*\|.*\| (.+) \|$", page, flags=re.MULTILINE)
        assert row.endswith("."), variable
    assert [name for name in SECRETS if f"`{name}_FILE`" not in page] == []


def test_the_readme_is_short():
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial/first-result.md", "docs/how-to/a-held-result.md"])
def test_a_reader_waits_for_the_line_that_the_stack_prints_when_it_is_ready(page, tmp_path, capsys):
    Output(tmp_path / "up.log").say("up", "ready after 3.2 s")
    line = capsys.readouterr().out.partition("3.2")[0].strip()
    assert f"`{line} ... s`" in (REPOSITORY / page).read_text()


@pytest.mark.parametrize("page", [*PAGES, REPOSITORY / "CHANGELOG.md", REPOSITORY / "deploy/README.md"], ids=lambda page: page.name)
def test_lines_are_short_outside_of_tables_and_fences(page):
    prose = FENCE.sub("", page.read_text())
    assert [line for line in prose.splitlines() if len(line) > 140 and " " in line and not line.startswith("|")] == []


def scoring_lines(page: Path) -> list[str]:
    """What is typed after `scoring` on the lines of fences and in code within a sentence."""
    text = page.read_text()
    lines = [line for fence in fences(page) for line in fence.splitlines() if not line.startswith((" ", "#"))]
    spans = re.findall(r"`([^`\n]+)`", FENCE.sub("", text).replace("\\|", "|"))
    found = []
    for line in lines + spans:
        for typed in re.findall(r"(?:^|[|&] *|-- |control |xargs |producer )(?:docker-compose run --rm producer |scoring )(.*)", line):
            found.append(re.split(r" +[#(|]|&&|`|\.\.\.|\[|this row", typed)[0].strip())
    return found


def complaint(words: list[str]) -> str | None:
    """What is wrong with the words after `scoring`: a command or an option that is not there."""
    command, context = scoring, click.Context(scoring, info_name="scoring")
    while words and isinstance(command, click.Group) and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        if found is None:
            return f"{context.info_name} has no command {words[0]}"
        command, context, words = found, click.Context(found, info_name=f"{context.info_name} {words[0]}"), words[1:]
    known = {name for option in command.get_params(context) for name in (*option.opts, *option.secondary_opts)}
    unknown = [word for word in words if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in known]
    arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    if words and not words[0].startswith("-") and not arguments:
        return f"{context.info_name} takes no {words[0]}"
    return f"{context.info_name} has no option {unknown[0]}" if unknown else None


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_on_a_page_is_one_that_there_is(page):
    typed = [line for line in scoring_lines(page) if line]
    assert [(line, said) for line in typed if (said := complaint(shlex.split(line)))] == []


def test_a_command_or_an_option_that_is_not_there_is_noticed():
    assert complaint(["jobs", "cancle", "last"]) == "scoring jobs has no command cancle"
    assert complaint(["score", "x", "--modle", "v2"]) == "scoring score has no option --modle"
    assert complaint(["jobs", "list", "--state", "failed"]) is None
    assert sum(len(scoring_lines(page)) for page in PAGES) > 200


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_and_picture_of_a_page_is_there_on_a_disk_too(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text()))):
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        file = page if not path else (page.parent / path).resolve()
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


ROOMY = ("shared", "producers", "workers", "model_store")
PACKAGES = (*ROOMY, "tests", "benchmarks")
FOLDERS = (*PACKAGES, "analytics", "deploy", "docs")
EXAMPLES = {"model_store/v4", "deploy/scoring-control", "deploy/overlays/NAME"}
"""A definition that the reader makes, a Deployment of Kubernetes, and an overlay of the reader's own."""


def paths_named(text: str) -> set[str]:
    """The paths of the repository in code within a sentence, and the modules that are started or named anywhere."""
    paths, code = rf"(?<![\w./-])((?:{'|'.join(FOLDERS)})/[\w./*-]+)", " ".join(re.findall(r"`([^`\n]+)`", text))
    modules = re.findall(rf"(?<![\w./])((?:{'|'.join(PACKAGES)})(?:\.[a-z_]+)+)\b", text)
    return {path.rstrip("/.") for path in re.findall(paths, code)} | {module.replace(".", "/") for module in modules}


def is_there(path: str) -> bool:
    attribute_of = path.rpartition("/")[0]
    return any(any(REPOSITORY.glob(found)) for found in (path, f"{path}.py", f"{attribute_of}.py"))


@pytest.mark.parametrize("page", [*PAGES, REPOSITORY / "CHANGELOG.md", REPOSITORY / "deploy/README.md"], ids=lambda page: page.name)
def test_every_path_of_the_repository_on_a_page_is_there(page):
    assert [path for path in sorted(paths_named(page.read_text()) - EXAMPLES) if not is_there(path)] == []


def test_a_path_that_is_not_there_is_noticed():
    named = paths_named("`workers/csv_records.py`, `shared/queue`, `python -m benchmarks.nothing.at_all` and docs/nowhere.md")
    assert {path for path in named if not is_there(path)} == {"workers/csv_records.py", "benchmarks/nothing/at_all"}


def test_the_listing_of_the_layout_has_every_room_and_module_that_stands_beside_rooms():
    [listing] = [fence for fence in fences(DOCS / "explanation/design.md") if fence.startswith("shared/")]
    listed, above = set(), {}
    for line in listing.splitlines():
        indent = len(line) - len(line.lstrip())
        for name in re.findall(r"\w+(?:/|\.py)(?= |$)", re.split(r"  +(?![\w]+(?:/|\.py)(?: |$))", line.strip())[0]):
            folder = above[indent - 2] if indent else ""
            listed.add(f"{folder}{name}")
            above[indent] = f"{folder}{name}"
    files = [file.relative_to(REPOSITORY) for package in ROOMY for file in (REPOSITORY / package).rglob("*.py")]
    rooms = {f"{file.parent}/" for file in files}
    modules = {str(file) for file in files if str(file.parent) in ROOMY and file.name != "__init__.py"}
    assert {name for name in listed if name.startswith(ROOMY)} == rooms | modules


def test_every_page_is_in_the_navigation_and_in_the_list_for_programs():
    listed = re.findall(r"\]\((.+)\.html\)", (DOCS / "llms.txt").read_text())
    assert sorted(f"{name}.md" for name in listed) == sorted(str(page.relative_to(DOCS)) for page in PAGES[1:])


def test_the_site_builds_without_a_broken_link_and_asks_no_other_host(tmp_path):
    [command] = [fence.strip() for fence in fences(REPOSITORY / "README.md") if "zensical" in fence]
    config = tomllib.loads((REPOSITORY / "zensical.toml").read_text())
    assert "plugins" not in config["project"]
    (tmp_path / "zensical.toml").write_bytes((REPOSITORY / "zensical.toml").read_bytes())
    shutil.copytree(DOCS, tmp_path / "docs")
    done = subprocess.run(
        [Path(sys.executable).parent / command.split()[0], *command.split()[1:]], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    site = tmp_path / "site"
    assert {str(page.relative_to(DOCS).with_suffix(".html")) for page in PAGES[1:]} <= {
        str(p.relative_to(site)) for p in site.rglob("*.html")
    }
    assert (site / "llms.txt").is_file()
    assert not (site / "generate.py").exists()
    fetched = re.compile(
        r"<(?:script|img|iframe|source)[^>]*\ssrc=[\"']?(?:https?:)?//|<link[^>]*\shref=[\"']?(?:https?:)?//|url\([\"']?(?:https?:)?//"
    )
    for page in (*site.rglob("*.html"), *site.rglob("*.css")):
        assert not fetched.findall(page.read_text()), page
