"""Turns a question into an answer; every error becomes a sentence for the person who asked."""

from collections.abc import Callable

import structlog

from model_store.foreign_code import DefinitionHungError, SoftTimeLimitExceeded
from model_store.library import ModelLibrary
from shared.bucket.interface import Bucket
from shared.errors import RequestError, ScoringError
from shared.guard.explanation import MAX_SENTENCE, Answer, Question
from workers.explaining.explaining import explain

log = structlog.get_logger()


def answer(bucket: Bucket, library: ModelLibrary, question: Question, *, enter: Callable[[str], None]) -> Answer:
    """Returns the answer to a question; the arguments are those of ``explain``."""
    try:
        return Answer(explanation=explain(bucket, library, question, enter=enter))
    except ScoringError as error:
        return refusal(error)
    except DefinitionHungError as error:
        return refusal(error.failure)
    except SoftTimeLimitExceeded:
        raise
    except Exception as error:
        log.exception("question failed", job=question.job_id)
        return Answer(error=f"the worker failed: {error!r}"[:MAX_SENTENCE], next_step="Its log has the place.", exit_code=1)


def refusal(error: ScoringError) -> Answer:
    """Returns the answer that there is no explanation because of an error."""
    next_step = error.next_step or "Score its table again with --again."
    code = error.exit_code if error.exit_code > ScoringError.exit_code else RequestError.exit_code
    return Answer(error=error.message[:MAX_SENTENCE], next_step=next_step[:MAX_SENTENCE], exit_code=code)
