"""``POST /v1/rates`` and ``GET /v1/rates/{entity_id}/{device}``."""

from urllib.parse import parse_qs

from shared.catalog.manifests import KEYS
from workers.serving.http.answers import Answer, HttpError, read_object
from workers.serving.http.front import Scope
from workers.serving.http.service import Service
from workers.serving.rates.answering import Source, Status, answer_text, row_text
from workers.serving.rates.serving import Serving
from workers.serving.routes.predicting import answer, check_result_open, check_rows_given

CODES = {Status.PRESENT: 200, Status.OUTSIDE_MAX_AGE: 200, Status.NOT_FOUND: 404, Status.REJECTED: 422}
"""The status code of a request for one row."""
FRESH_SECONDS = 5
"""Seconds for which a client may keep a published rate without asking again."""


async def post_rates(service: Service, scope: Scope, body: bytes) -> Answer:
    """Answers many rows."""
    source = source_of(scope["query_string"])
    fields = read_object(body)
    if "rows" not in fields:
        raise HttpError(422, 'the body must be {"rows": [...]}')
    rows = check_rows_given(service, fields["rows"])
    given = await answer(service, scope["serving"], rows, source)
    return Answer(answer_text(rows, given))


async def get_rate(service: Service, serving: Serving, scope: Scope, entity_id: str, device: str) -> Answer:
    """Answers one published row."""
    check_result_open(serving)
    keys = () if serving.published is None else serving.published.keys
    if len(keys) != 2:
        raise HttpError(404, "no result with two key columns is published", next_step="Ask with: POST /v1/rates")
    row = dict(zip(keys, map(_key_value, keys, (entity_id, device)), strict=True))
    given = await answer(service, serving, [row], Source.PUBLISHED)
    [found] = given.answers
    text = row_text(row, found, given).encode()
    if found.source is None or serving.published is None:
        return Answer(text, CODES[found.status])
    tag = f'W/"{serving.published.manifest.job_id}-{found.status.value}"'.encode()
    headers = ((b"etag", tag), (b"cache-control", b"private, max-age=%d" % FRESH_SECONDS))
    if is_known(tag, scope):
        return Answer(b"", 304, headers)
    return Answer(text, CODES[found.status], headers)


def is_known(tag: bytes, scope: Scope) -> bool:
    """Returns True if the client has the answer with this tag, by its header If-None-Match."""
    known = b",".join(value for name, value in scope["headers"] if name == b"if-none-match")
    return any(other.strip() in (tag, b"*") for other in known.split(b","))


def source_of(query: bytes) -> Source:
    """Returns the source in a query string; raises HttpError (422) for an unknown one."""
    if not query:
        return Source.AUTO
    value = parse_qs(query.decode("ascii", errors="replace"), keep_blank_values=True).get("source", ["auto"])[-1]
    try:
        return Source(value)
    except ValueError:
        raise HttpError(422, "source must be auto, published or computed") from None


def _key_value(name: str, text: str) -> int | str:
    """Returns a number for the entity id and the device; every other key is a text, which may have leading zeros."""
    return int(text) if name in KEYS and text.isascii() and text.isdigit() and len(text) <= 19 else text
