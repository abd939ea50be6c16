"""``POST /invocations``: the shape of MLflow's and SageMaker's scoring servers."""

from typing import Any

from workers.serving.http.answers import Answer, HttpError, read_object
from workers.serving.http.service import Service
from workers.serving.rates.answering import Answers, RateAnswer, Source
from workers.serving.rates.digits import rate_text
from workers.serving.rates.serving import Serving
from workers.serving.routes.predicting import answer, check_row_count, check_rows_given
from workers.tables.json_rows import JsonRow

SHAPES = ("dataframe_split", "dataframe_records", "instances")


async def invoke(service: Service, serving: Serving, body: bytes) -> Answer:
    """Answers ``{"predictions": [...]}``, one rate for each row; refuses the request if a row has none."""
    rows = check_rows_given(service, _rows_of(service, read_object(body)))
    rates = rates_or_error(await answer(service, serving, rows, Source.COMPUTED))
    return Answer(b'{"predictions":[%b]}' % ",".join(rate_text(rate) for rate in rates).encode())


def _rows_of(service: Service, fields: dict[str, Any]) -> list[JsonRow]:
    given = [shape for shape in SHAPES if shape in fields]
    if len(given) != 1:
        raise HttpError(422, f"the body must have one of {', '.join(SHAPES)}")
    [shape] = given
    value = fields[shape]
    if shape != "dataframe_split":
        return value
    if not isinstance(value, dict) or not isinstance(value.get("columns"), list) or not isinstance(value.get("data"), list):
        raise HttpError(422, 'dataframe_split must be {"columns": [...], "data": [[...]]}')
    check_row_count(service, len(value["data"]))
    columns = value["columns"]
    if not all(isinstance(name, str) for name in columns) or len({*columns}) < len(columns):
        raise HttpError(422, "the columns of dataframe_split must be different texts")
    for place, cells in enumerate(value["data"]):
        if not isinstance(cells, list) or len(cells) != len(columns):
            raise HttpError(422, f"row {place} of dataframe_split does not have one value for each column")
    return [dict(zip(columns, cells, strict=True)) for cells in value["data"]]


def rates_or_error(given: Answers) -> list[float]:
    """Returns the rate of each row; raises HttpError (422) if one has none: these protocols have no status for a row."""
    without = [(place, found) for place, found in enumerate(given.answers) if found.cr is None]
    if without:
        place, found = without[0]
        raise HttpError(
            422,
            f"{len(without)} of {len(given.answers)} rows have no rate; row {place}: {reason_of(found)}",
            next_step="Leave these rows out, or ask with POST /v1/rates, which answers the others.",
        )
    return [found.cr for found in given.answers if found.cr is not None]


def reason_of(found: RateAnswer) -> str:
    """Returns why a row has no rate."""
    reject = found.reject
    if reject is None:
        return found.status.value
    return f"column {reject.column}: {reject.value!r} is {reject.reason}" if reject.column else reject.reason
