"""What a person reads about a rate."""

import io
from datetime import UTC, datetime

from producers.display.consoles import PlainConsole
from producers.display.why import print_explanation
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
