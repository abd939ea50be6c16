"""What a person reads about a rate."""

import io
import json
import re
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from producers.cli import root
from producers.display.consoles import PlainConsole
from producers.display.why import print_explanation
from producers.explaining import asking, compared
from shared.guard.explanation import ColumnChange, ExplainedRow, Explanation, RowState, Split

NOW = ExplainedRow(
    state=RowState.SCORED,
    job_id="20261124t043000z-score-1c2d3e",
    release="v3@20261123T101500Z-9bfad3",
    result="data/predict/output/v3/2026/11/24/revisions/20261124t043000z-score-1c2d3e",
    table="data/predict/input/2026/11/24",
    finished=datetime(2026, 11, 24, 4, 31, tzinfo=UTC),
    is_held=False,
    rate=0.25,
    clicks=17.0,
    file="data/predict/input/2026/11/24/keywords.csv",
    line=18,
    chunk=2,
    rows=1,
)
KEYS = {"entity_id": "20458", "device": "Smartphone"}


def printed(found: Explanation) -> str:
    out = io.StringIO()
    print_explanation(PlainConsole(file=out, width=200), found)
    return out.getvalue()


def test_the_parts_of_a_change_are_a_list():
    before = NOW.model_copy(update={"rate": 0.125, "line": None, "chunk": None})
    columns = [ColumnChange(column="att1", before="0", now="1", change=0.25)]
    reasons = {"history of the row": -0.0625, "history of the keyword": 0.0}
    split = Split(
        model=0.0, history=-0.0625, row=0.1875, columns=columns, rests={"cut to [0, 1]": -0.0625}, reasons=reasons, method="weights"
    )
    text = printed(Explanation(keys=KEYS, now=NOW, before=before, change=0.125, split=split))
    assert "+0.125 (2 times the rate before)" in text
    assert "keywords.csv, line 18, chunk 2" in text
    assert "before: row" in text
    assert "unknown, in data/predict/input/2026/11/24" in text
    assert [line.split()[0] for line in text.splitlines()[-5:-1]] == ["model", "history", "row", "row"]
    assert "history of the keyword" not in text


def test_a_rate_that_did_not_change_has_no_empty_table():
    split = Split(model=0.0, history=0.0, row=0.0, reasons={"history of the keyword": 0.0}, method="weights")
    text = printed(Explanation(keys=KEYS, now=NOW, before=NOW, change=0.0, split=split))
    assert text.splitlines()[-1] == "The rate did not change."
    assert "part" not in text
    assert re.search(r"^change +0$", text, flags=re.MULTILINE)
    unmoved = split.model_copy(update={"columns": [ColumnChange(column="att7", before="0", now="1", change=0.0)]})
    assert "att7" in printed(Explanation(keys=KEYS, now=NOW, before=NOW, change=0.0, split=unmoved))


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("now", "before", "is_nowhere"),
    [
        (RowState.ABSENT, None, True),
        (RowState.ABSENT, RowState.ABSENT, True),
        (RowState.ABSENT, RowState.SCORED, False),
        (RowState.ABSENT, RowState.REJECTED, False),
        (RowState.REJECTED, None, False),
        (RowState.SCORED, RowState.ABSENT, False),
    ],
)
def test_a_row_that_no_result_has_or_rejected_ends_in_an_error_after_the_answer(tmp_path, monkeypatch, now, before, is_nowhere, as_json):
    rows = [None if state is None else NOW.model_copy(update={"state": state}) for state in (now, before)]
    found = Explanation(keys=KEYS, now=rows[0], before=rows[1], why_not="it is not there", notes=["a note"])
    monkeypatch.setattr(asking, "ask", lambda *_: found)
    monkeypatch.setattr(compared, "choose_results", lambda *_: compared.ComparedResults(job_id=NOW.job_id, against=None))
    words = ["why", *KEYS.values(), *(["--json"] if as_json else [])]
    said = CliRunner().invoke(root.scoring, words, env={"BUCKET_URL": str(tmp_path)})
    if as_json:
        assert json.loads(said.stdout) == found.encode()
    else:
        assert "The change is not split: it is not there." in said.stdout
    error = said.exception
    assert (None if error is None else error.exit_code) == (2 if is_nowhere else None)
    if is_nowhere:
        both = f"job {NOW.job_id} nor in that of job {NOW.job_id}" if before else f"job {NOW.job_id}"
        assert error.message == f"there is no row with entity_id 20458, device Smartphone in the table of {both}"


def test_a_row_that_may_be_among_rejected_rows_that_cannot_be_read_is_no_error():
    row = NOW.model_copy(update={"state": RowState.ABSENT, "may_be_rejected": True})
    assert not Explanation(keys=KEYS, now=row).is_nowhere


def test_a_rejected_row_shows_its_reason_and_no_rate():
    row = NOW.model_copy(update={"state": RowState.REJECTED, "rate": None, "clicks": None, "reason": "column att1: '2' is not 0 or 1"})
    text = printed(Explanation(keys=KEYS, now=row, why_not="there is no earlier result"))
    assert "none: rejected, column att1: '2' is not 0 or 1" in text
    assert "The change is not split: there is no earlier result." in text


def test_a_row_in_no_table_names_the_table_and_a_held_result_says_so():
    row = NOW.model_copy(update={"state": RowState.ABSENT, "rate": None, "file": None, "line": None, "chunk": None, "is_held": True})
    text = printed(Explanation(keys=KEYS, now=row, why_not="there is no earlier result"))
    assert "none: not in the table data/predict/input/2026/11/24" in text
    assert "whose result is held" in text
