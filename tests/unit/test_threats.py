"""Every test that the threat table names is there."""

import ast
import re

import pytest

from tests.conftest import REPOSITORY

PAGE = REPOSITORY / "docs" / "explanation" / "security.md"
NAMED = re.findall(r"`(tests/[\w/]+\.py)((?:::\w+)*)`", PAGE.read_text())


def names_in(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    return {node.name: node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


@pytest.mark.parametrize(("file", "name"), NAMED, ids=lambda part: part.rpartition(":")[2])
def test_a_test_that_is_named_exists(file, name):
    assert (REPOSITORY / file).is_file()
    found = names_in(ast.parse((REPOSITORY / file).read_text()).body)
    for part in name.split("::")[1:]:
        assert part in found, f"{file} has no {part}"
        node = found[part]
        found = names_in(node.body) if isinstance(node, ast.ClassDef) else {}


def test_every_row_of_a_table_names_a_test():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and "|---" not in line]
    heads = [line for line in rows if line.rstrip(" |").endswith("test")]
    assert len(heads) >= 6
    assert [line for line in rows if line not in heads and "`tests/" not in line] == []
