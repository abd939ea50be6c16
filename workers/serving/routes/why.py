"""``GET /v1/rates/{entity_id}/{device}/why``: what ``scoring why`` prints, answered in a process of its own, without Redis."""

import asyncio
from urllib.parse import parse_qs

from producers.explaining.compared import choose_results
from shared.errors import ScoringError
from shared.guard.explanation import MAX_KEYS, Question
from workers.explaining.isolated import answer_isolated
from workers.serving.http.answers import Answer, HttpError
from workers.serving.http.front import RETRY_AFTER, Scope
from workers.serving.http.service import Service
from workers.serving.rates.serving import Serving
from workers.serving.routes.predicting import check_result_open

SECONDS = 30.0
LONGEST_KEY = 1000
_one_at_a_time = asyncio.Semaphore(1)


async def why(service: Service, serving: Serving, scope: Scope, keys: list[str]) -> Answer:
    """Answers where a published rate comes from, and why it is another one than before."""
    if len(keys) > MAX_KEYS or max(map(len, keys)) > LONGEST_KEY:
        raise HttpError(422, "the keys are too long")
    check_result_open(serving)
    if serving.published is None:
        raise HttpError(404, "no result is published")
    against = parse_qs(scope["query_string"].decode("ascii", errors="replace")).get("against", [None])[-1]
    if _one_at_a_time.locked():
        raise HttpError(503, "this process explains another rate", headers=(RETRY_AFTER,))
    async with _one_at_a_time:
        return await asyncio.to_thread(_explain, service, serving.published.manifest.job_id, against, keys)


def _explain(service: Service, job_id: str, against: str | None, keys: list[str]) -> Answer:
    """Explains a rate of the result of a job, which the channel may have ceased to show in this second."""
    bucket = service.swapper.watched.bucket
    try:
        compared = choose_results(bucket, service.swapper.watched.channel, against)
        if compared.job_id != job_id:
            compared = choose_results(bucket, job_id, against)
    except ScoringError as error:
        raise HttpError(404, error.message, next_step=error.next_step) from error
    found, _ = answer_isolated(service.settings, Question(job_id=compared.job_id, against=compared.against, keys=keys), SECONDS)
    if found.explanation is None:
        raise HttpError(503 if found.exit_code == 6 else 422, found.error, next_step=found.next_step)
    explanation = found.explanation.model_copy(update={"notes": [*found.explanation.notes, *compared.notes]})
    return Answer(explanation.to_json())
