"""Steps are counted and leased under names that workers of other versions use as well."""

import pytest

from shared.jobs.messages import CandidateMessage, ChunkMessage, StepMessage
from shared.queue import routes
from workers.recovery.attempts import step_name
from workers.recovery.sweep import lease_name


@pytest.mark.parametrize(
    ("task", "message", "counted", "leased", "piece"),
    [
        (routes.SCORE_PLAN, StepMessage(job_id="job-1"), "score.plan", "score.plan:job-1", {}),
        (routes.SCORE_CHUNK, ChunkMessage(job_id="job-1", index=0, of=9), "0", "score.chunk:job-1:0", {"chunk": 0}),
        (
            routes.TRAIN_CANDIDATE,
            CandidateMessage(job_id="job-1", candidate=3, fold=2),
            "3.2",
            "train.candidate:job-1:3.2",
            {"candidate": 3, "fold": 2},
        ),
    ],
    ids=["a whole job", "a chunk", "a candidate"],
)
def test_each_kind_of_step_keeps_its_names(task, message, counted, leased, piece):
    assert step_name(task, message) == counted
    assert lease_name(task, message) == leased
    assert message.piece == piece
