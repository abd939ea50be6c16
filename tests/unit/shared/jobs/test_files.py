import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.jobs import files
from shared.jobs.files import JobFile, PartFile, Subfolder

REPOSITORY = Path(__file__).resolve().parents[4]
PACKAGES = ("shared", "producers", "workers", "model_store", "benchmarks", "analytics")
OWNER = REPOSITORY / "shared" / "jobs" / "files.py"

NAMES = [*JobFile, files.NOTICE]
SPELLED = re.compile(
    rf"(?:^|/)(?:{'|'.join(map(re.escape, NAMES))})$"  # a file
    rf"|^(?:{'|'.join(Subfolder)})/"  # a path in a folder
    rf"|(?:^|\.){re.escape(PartFile.REJECTED)}$"
)
"""A string that is the name of a file of a job, or a path that ends with one or begins with one of its folders."""

ALLOWED = {
    ("shared/catalog/manifests.py", "rejects.csv.gz"),  # the rejects of a result, at the place of the result
    ("workers/scoring/chunks/isolation.py", "cleared"),  # a field of a record
    ("shared/bucket/local.py", "cleared"),  # a verb of an error
}
"""Other things of the same name."""


def test_the_names_of_the_files_are_part_of_the_format():
    assert {name: str(file) for name, file in JobFile.__members__.items()} == {
        "REQUEST": "job.json",
        "VERSIONS": "versions.json",
        "PARAMS": "params.yaml",
        "STAGE": "stage.json",
        "PINNED": "begun.json",
        "PLAN": "plan.json",
        "SEARCH": "search.json",
        "MANIFEST": "manifest.json",
        "GUARD": "guard.json",
        "DECISION": "decision.json",
        "SENT_AGAIN": "sent-again",
        "REJECTS_ACCEPTED": "rejects-accepted",
        "OUTCOME": "outcome.json",
        "PUBLISHED": "published.json",
        "HELD": "held.json",
        "DELIVERY_ATTEMPT": "telling.json",
        "NOTIFIED": "notified.json",
        "CLEARED": "cleared",
    }
    assert files.NOTICE == "notice.json"


def test_the_names_of_the_folders_are_part_of_the_format():
    assert {name: str(folder) for name, folder in Subfolder.__members__.items()} == {
        "INPUT": "input",
        "SLICES": "slices",
        "PARTS": "parts",
        "WAVES": "waves",
        "CANDIDATES": "candidates",
        "SUSPECTS": "suspects",
        "CRASHES": "deaths",
        "FIXES": "fixes",
        "ENDED": "ended",
    }


def test_the_names_of_the_files_of_a_part_are_part_of_the_format():
    endings = {"PREDICTED": "csv.gz", "REJECTED": "rejects.csv.gz", "INDEX": "index.arrow", "COMPLETE": "json"}
    assert {name: str(file) for name, file in PartFile.__members__.items()} == endings


@pytest.mark.parametrize("kind", [JobFile, Subfolder, PartFile])
def test_each_name_says_what_it_holds(kind):
    [found] = [node for node in ast.parse(OWNER.read_text()).body if isinstance(node, ast.ClassDef) and node.name == kind.__name__]
    described = [
        node.targets[0].id
        for node, after in zip(found.body, found.body[1:], strict=False)
        if isinstance(node, ast.Assign) and isinstance(after, ast.Expr)
    ]
    assert described == list(kind.__members__)


def test_no_other_module_spells_the_name_of_a_job_file():
    modules = [path for package in PACKAGES for path in sorted((REPOSITORY / package).rglob("*.py")) if path != OWNER]
    assert len(modules) > 200
    spelled = {(str(path.relative_to(REPOSITORY)), text) for path in modules for text in _spelled(path.read_text())}
    assert spelled - ALLOWED == set(), "name it by shared.jobs.files"


@pytest.mark.parametrize(
    "code",
    [
        'folder.has("plan.json")',
        "folder.has('plan.json')",
        'f"{JOBS}/{job_id}/job.json"',
        'folder.file("sent-again")',
        'folder.file(f"fixes/{index:07d}.csv")',
        'f"{JOBS}/x/" + "parts/"',
        'SEARCH = "search.json"',
        'job.part_file(index, "rejects.csv.gz")',
        'f"{index:07d}.rejects.csv.gz"',
        'folder.file("parts")',
        'folder.file(f"other/{index}.json")',
    ],
)
def test_a_spelled_name_is_found(code):
    assert _spelled(code)


def test_prose_that_mentions_a_file_is_no_name():
    assert not _spelled(
        '"""Read ``plan.json``."""\nf(text="it lacks plan.json and parts")\nfolder.file(f"{Subfolder.FIXES}/{index:07d}.csv")'
    )


def _spelled(code: str) -> list[str]:
    nodes = list(ast.walk(ast.parse(code)))
    return [text for text in _literals(nodes) if SPELLED.search(text)] + list(_asked_for(nodes))


def _asked_for(nodes: list[ast.AST]) -> Iterator[str]:
    """The strings with which a folder is asked for a file: a name is a member of an enum."""
    for node in nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("file", "has") and node.args:
            first = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
            if isinstance(first, ast.Constant):
                yield first.value


def _literals(nodes: list[ast.AST]) -> Iterator[str]:
    """The strings of a module, and the pieces of its f-strings, but for docstrings."""
    prose = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value
