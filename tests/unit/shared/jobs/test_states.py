import ast
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from producers.schedule.run_states import RunPhase
from shared.catalog.manifests import CandidateState
from shared.errors import MessageError
from shared.jobs.folder import Outcome
from shared.jobs.states import FINAL_STATES, OPEN_STATES, JobState
from shared.records import decode_long

REPOSITORY = Path(__file__).resolve().parents[4]
AT = datetime(2026, 11, 30, tzinfo=UTC)


def test_the_words_for_states_are_part_of_the_format():
    assert list(map(str, JobState)) == ["queued", "running", "finishing", "done", "failed", "cancelled", "held", "unreadable"]
    assert list(map(str, RunPhase)) == ["not started", "waits for its table or model", "did not start", "done before"]
    assert list(map(str, CandidateState)) == ["chosen", "tried", "stopped", "failed"]


def test_a_job_is_open_or_has_ended_unless_it_is_unreadable():
    assert set(JobState) == {*OPEN_STATES, *FINAL_STATES, JobState.UNREADABLE}


@pytest.mark.parametrize("state", FINAL_STATES)
def test_an_outcome_holds_the_word_and_gives_the_state(state):
    text = Outcome(state=state, at=AT).to_json()
    assert json.loads(text)["state"] == state.value
    assert decode_long(Outcome, text).state is state


def test_the_message_about_a_wrong_state_lists_the_words():
    text = Outcome(state=JobState.DONE, at=AT).to_json().replace(b'"done"', b'"queued"')
    with pytest.raises(MessageError, match=r"wrong state: Input should be 'done', 'failed', 'cancelled' or 'held' \(got 'queued'\)"):
        decode_long(Outcome, text)


def test_no_state_is_compared_with_a_string():
    compared = {str(path.relative_to(REPOSITORY)) for path in _modules() if set(_compared_strings(path.read_text())) & _words()}
    assert not compared, "compare with JobState, RunPhase or CandidateState"


@pytest.mark.parametrize(
    "code", ['outcome.state == "done"', 'state in ("failed", "cancelled")', 'x != "did not start"', '{"done"} >= states']
)
def test_a_comparison_with_a_string_is_found(code):
    assert set(_compared_strings(code)) & _words()


def _words():
    return {str(state) for states in (JobState, RunPhase, CandidateState) for state in states}


def _modules():
    return [path for package in ("shared", "producers", "workers") for path in sorted((REPOSITORY / package).rglob("*.py"))]


def _compared_strings(code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Compare):
            for side in (node.left, *node.comparators):
                items = side.elts if isinstance(side, ast.Tuple | ast.List | ast.Set) else [side]
                yield from (item.value for item in items if isinstance(item, ast.Constant) and isinstance(item.value, str))
