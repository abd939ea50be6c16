"""A table with bad rows, from its early failure to a result that has all of them, on a real stack."""

import csv
import io
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Place, wait_until
from tests.integration.test_main_job import result_text

pytestmark = [pytest.mark.slow, pytest.mark.server]

ROWS = 3000
SPOILED = (10, 500, 501, 2999)
"""Lines of the table, from 1."""


@pytest.fixture(scope="module")
def right(trained: Place, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], bytes]:
    """The lines of a table, and the text of its result."""
    table = tmp_path_factory.mktemp("right") / "right.csv"
    pd.read_csv(trained.sample_table).head(ROWS).to_csv(table, index=False)
    return table.read_text().splitlines(), result_text(trained, trained.scoring_json("score", table, "--model", "v2"))


def spoil(lines: list[str], numbers: tuple[int, ...]) -> str:
    spoiled = [line.rpartition(",")[0] + ",Watch" if number in numbers else line for number, line in enumerate(lines, 1)]
    return "\n".join([*spoiled, ""])


def failed_job(place: Place, *arguments: str | Path) -> str:
    failed = place.scoring("score", *arguments, code=3)
    return re.search(r"Job (\S+)", failed.stderr)[1]


def correct(path: Path, lines: list[str]) -> None:
    """Puts the right rows into a file of rejected ones."""
    header, *rows = csv.reader(io.StringIO(path.read_text(), newline=""))
    with path.open("w", newline="") as out:
        csv.writer(out).writerows([header, *([*row[:5], *lines[int(row[1]) - 1].split(",")] for row in rows)])


def test_a_failed_job_is_fixed_into_the_result_of_the_right_table(trained: Place, right: tuple[list[str], bytes], tmp_path: Path) -> None:
    lines, expected = right
    table, corrected = tmp_path / "spoiled.csv", tmp_path / "corrected.csv"
    table.write_text(spoil(lines, SPOILED))
    job_id = failed_job(trained, table, "--model", "v2", "--chunk-rows", "200", "--max-rejects", "3")
    trained.scoring("results", "rejects", job_id, "--rows", corrected)
    assert [int(row[1]) for row in list(csv.reader(corrected.open()))[1:]] == list(SPOILED)
    correct(corrected, lines)
    outcome = trained.scoring_json("score", corrected, "--fix", job_id)
    assert result_text(trained, outcome) == expected
    assert (outcome["facts"]["rejected"], outcome["facts"]["fixes"]) == ("0", job_id)
    assert f"fix {job_id} with" in trained.scoring("jobs", "list").stdout
    shown = trained.scoring_json("results", "show", outcome["job_id"])
    assert (shown["fixes"], shown["rows_in"], shown["rows_scored"]) == (job_id, ROWS, ROWS)


def test_a_job_fails_early_keeps_its_parts_and_goes_on_once_its_rejects_are_accepted(
    trained: Place, right: tuple[list[str], bytes], tmp_path: Path
) -> None:
    lines, expected = right
    table = tmp_path / "early.csv"
    bad = tuple(range(2, 202))
    table.write_text(spoil(lines, bad))
    job_id = failed_job(trained, table, "--model", "v2", "--chunk-rows", "20", "--max-reject-share", "0.02")
    folder = trained.bucket / "jobs" / job_id
    outcome = json.loads((folder / "outcome.json").read_text())
    assert "and not all have been looked at (allowed are 2.0%); the first: " in outcome["reason"]
    parts = len(list((folder / "parts").glob("*.json")))
    assert 4 <= parts < ROWS / 20, "it did not fail early"
    [notice] = trained.webhook.sent_about(job_id)
    assert f"jobs resume {job_id} --accept-rejects" in json.dumps(notice)
    done = trained.scoring_json("jobs", "resume", job_id, "--accept-rejects")
    assert done["facts"]["rejected"] == "200, accepted by a person"
    assert result_text(trained, done).splitlines() == [line for number, line in enumerate(expected.splitlines(), 1) if number not in bad]
    wait_until(lambda: len(trained.webhook.about(job_id)) == 2, what="the notice of the new end")


def test_a_fix_that_cannot_be_is_refused_with_the_next_step(trained: Place, right: tuple[list[str], bytes], tmp_path: Path) -> None:
    lines, _ = right
    table = tmp_path / "for_the_last.csv"
    table.write_text(spoil(lines[:50], (7,)))
    outcome = trained.scoring_json("score", table, "--model", "v1", "--max-reject-share", "0.5")
    job_id = outcome["job_id"]
    refused = trained.scoring("score", table, "--fix", job_id, "--model", "v2", code=2)
    assert "Leave out --model" in refused.stderr
    refused = trained.scoring("score", table, "--fix", job_id, code=3)
    assert re.search(r"lacks the column reject_line", refused.stderr)
    assert f"scoring results rejects {job_id} --rows FILE" in refused.stderr
    assert "there is no job" in trained.scoring("score", table, "--fix", "20200101t000000z-score-x", code=2).stderr
