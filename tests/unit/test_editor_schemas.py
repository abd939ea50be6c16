"""The JSON schemas for editors take what the readers of the YAML files take, and refuse unknown fields and wrong values."""

import json
import re

import jsonschema
import pytest

from producers.schedule.entries import Entry
from producers.schedule.schedule_file import read_schedule
from shared.exports.roles.roles_file import parse_roles
from shared.guard.config import parse_guard_config
from shared.jobs.search_config import SearchConfig, read_config
from shared.retention.config import parse_retention
from shared.text.yaml_files import read_yaml
from tests.conftest import REPOSITORY
from tests.unit.producers.schedule.test_schedule_file import EXAMPLE, written
from tests.unit.shared.guard.test_guard_config import WHOLE as GUARD_OF_THE_DEFAULTS

REFERENCE = REPOSITORY / "docs/reference"
HOW_TO = REPOSITORY / "docs/how-to"


def errors(file: str, text: str | bytes) -> list[str]:
    schema = json.loads((REFERENCE / f"{file}.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    data = read_yaml(text.encode() if isinstance(text, str) else text)
    return [error.message for error in validator.iter_errors(data)]


def shown_on(page: str) -> str:
    [block] = re.findall(r"^```yaml\n(.*?)^```$", (HOW_TO / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    return block


VALID = [
    EXAMPLE.decode(),
    shown_on("schedule.md"),
    "[]",
    written(),
    written(wait_for="90 min", late_after="1d", catch_up="none", interval="true"),
    written(score=None, model=None, train="v2", promote="auto"),
    written(score=None, model=None, train="v2", table="x", eval="y", promote="auto", force="true"),
    written(model="v1@20261123T101500Z-9bfad3", enabled="false"),
    '- {name: f, cron: "30 5 * * *", time_zone: UTC, score: "data/{date:%Y%%/%-d/%j}", model: v1}',
]


@pytest.mark.parametrize("text", VALID)
def test_a_valid_schedule_is_valid_by_the_schema(text):
    assert read_schedule(text.encode())[1] == []
    assert errors("schedule", text) == []


@pytest.mark.parametrize(
    "text",
    [
        written(timezone="UTC"),
        written(name="Daily"),
        written(cron=None),
        written(model=None),
        written(score=None),
        written(train="v2"),
        written(table="x"),
        written(score=None, train="v2"),
        written(score=None, model=None, train="v2", eval="x"),
        written(score=None, model=None, train="v2", table="x", promote="auto"),
        written(catch_up="some"),
        written(interval="1"),
        written(wait_for="2"),
        written(late_after="2 hours"),
        "daily: 5",
        "- 5",
    ],
)
def test_a_wrong_schedule_is_wrong_by_the_schema(text):
    assert read_schedule(text.encode())[1]
    assert errors("schedule", text)


def test_the_schema_knows_every_field_with_a_description_and_defaults_as_they_are_written():
    entry = json.loads((REFERENCE / "schedule.schema.json").read_text())["$defs"]["Entry"]
    assert list(entry["properties"]) == list(Entry.model_fields)
    assert all(field["description"].endswith(".") for field in entry["properties"].values())
    assert entry["properties"]["wait_for"]["default"] == "2h"
    assert entry["properties"]["catch_up"]["enum"] == ["none", "last", "all"]
    assert not entry["additionalProperties"]


def test_the_retention_on_the_page_is_valid_by_its_schema_and_an_unknown_key_is_not():
    text = shown_on("retention.md")
    assert parse_retention(text.encode()).is_set
    assert errors("retention", text) == []
    for wrong in ("note: 1d", "jobs: {parts: 1}", "jobs: {part: 1d}", "revisions: {keep_last: -1}", "is_set: true", "records: 1d"):
        assert errors("retention", wrong), wrong


def test_the_search_on_the_page_is_valid_by_its_schema_and_an_unknown_entry_is_not():
    text = shown_on("tune.md")
    assert isinstance(read_config(text.encode(), "params.yaml", 100), SearchConfig)
    assert errors("params", text) == []
    assert errors("params", "search: random\ncandidates: 4\nparameters: {rate: {low: 0.01, high: 0.3, log: true}}") == []
    for wrong in ("fold: 3", "folds: 1", "search: bayes", "parameters: {}", "parameters: {rate: {low: 1}}"):
        assert errors("params", f"parameters: {{a: [1]}}\n{wrong}" if "parameters" not in wrong else wrong), wrong


def test_a_valid_guard_is_valid_by_its_schema_and_a_wrong_one_is_not():
    for valid in (GUARD_OF_THE_DEFAULTS.decode(), "{}", "live: {mode: off}", "live: {checks: {rows: {warn: off}, constant: {block: off}}}"):
        assert parse_guard_config(valid.encode())
        assert errors("guard", valid) == []
    for wrong in (
        "live: {modes: warn}",
        "live: {mode: some}",
        "a/b: {mode: warn}",
        "live: {checks: {rws: {warn: 5%}}}",
        "live: {checks: {rows: {warn: 5}}}",
        "live: {checks: {rows: {weight: clicks}}}",
        "live: {checks: {psi_cr: {warn: 5%}}}",
        "live: {checks: {same_table: {warn: 26}}}",
        "live: {checks: {constant: {block: 1}}}",
    ):
        assert errors("guard", wrong), wrong


def test_the_schema_of_the_guard_states_the_defaults_as_a_file_does():
    checks = json.loads((REFERENCE / "guard.schema.json").read_text())["$defs"]
    assert (checks["KeysLost"]["properties"]["warn"]["default"], checks["SameTable"]["properties"]["block"]["default"]) == ("2%", "50h")
    assert (checks["PsiCr"]["properties"]["block"]["default"], checks["ChannelGuard"]["properties"]["hold_for"]["default"]) == (0.25, "12h")


@pytest.mark.parametrize("page", ["schedule.md", "retention.md", "tune.md"])
def test_the_line_for_editors_names_a_schema_from_the_place_of_the_file(page):
    line = r"`(bucket/config/[\w/.]+)`[^`]*`# yaml-language-server: \$schema=(\S+)`"
    [(file, schema)] = re.findall(line, (HOW_TO / page).read_text())
    assert (REPOSITORY / file).parent.joinpath(schema).resolve().is_file()


def test_the_roles_of_the_page_are_valid_by_the_reader_and_the_schema():
    text = shown_on("exports.md")
    assert parse_roles(text.encode(), "report.roles.yaml").keyword == "Search term"
    assert errors("roles", text) == []


@pytest.mark.parametrize("change", [("clicks:", "click:"), ("Search term: text", "Search term: word"), ('decimal: "."', "decimal: x")])
def test_roles_that_the_reader_refuses_are_invalid_by_the_schema(change):
    assert errors("roles", shown_on("exports.md").replace(*change))
