"""The Open Inference Protocol, version 2, for the release in use. Each input is a column of shape [n] or [n, 1]."""

from typing import Any

import orjson

from shared.catalog.manifests import ReleaseManifest
from workers.serving.http.answers import Answer, HttpError, json_answer, read_object
from workers.serving.http.service import Service
from workers.serving.rates.answering import Source
from workers.serving.rates.digits import rate_text
from workers.serving.rates.serving import LoadedRelease, Serving
from workers.serving.routes.invocations import rates_or_error
from workers.serving.routes.predicting import answer, check_row_count, check_rows_given
from workers.tables.json_rows import JsonRow

DATATYPES = ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES")
TYPE_OF = {"binary": "INT64", "number": "FP64", "text": "BYTES"}


def server(version: str) -> Answer:
    """Answers ``GET /v2``."""
    return json_answer({"name": "keyword-scoring", "version": version, "extensions": []})


def named_release(service: Service, serving: Serving, name: str, version: str | None) -> LoadedRelease:
    """Returns the release in use if it is asked for by its definition, its alias or its id; raises HttpError (404) otherwise."""
    loaded = serving.loaded
    if loaded is not None:
        names = (loaded.release.manifest.definition, service.settings.serve_model, loaded.name)
        if name in names and version in (None, loaded.name):
            return loaded
    in_use = "none" if loaded is None else loaded.name
    raise HttpError(404, "this model or version is not the release in use", next_step=f"The release in use is {in_use}.")


def model(service: Service, serving: Serving, name: str, version: str | None) -> Answer:
    """Answers ``GET /v2/models/{name}``."""
    loaded = named_release(service, serving, name, version)
    manifest = loaded.release.manifest
    columns = [{"name": column, "datatype": kind, "shape": [-1]} for column, kind in _columns(manifest)]
    return json_answer(
        {
            "name": name,
            "versions": [loaded.name],
            "platform": "keyword-scoring",
            "inputs": columns,
            "outputs": [{"name": "cr", "datatype": "FP64", "shape": [-1]}],
        }
    )


def _columns(manifest: ReleaseManifest) -> list[tuple[str, str]]:
    keys = [(name, "INT64" if name in ("entity_id", "device") else "BYTES") for name in manifest.keys]
    features = [(column.name, TYPE_OF[column.type]) for column in manifest.columns if column.name not in ("computer", "smartphone")]
    return [*keys, *(feature for feature in features if feature[0] not in manifest.keys)]


def model_ready(service: Service, serving: Serving, name: str, version: str | None) -> Answer:
    """Answers ``GET /v2/models/{name}/ready``."""
    loaded = named_release(service, serving, name, version)
    return json_answer({"name": loaded.name, "ready": service.is_ready}, 200 if service.is_ready else 503)


async def infer(service: Service, serving: Serving, name: str, version: str | None, body: bytes) -> Answer:
    """Answers ``POST /v2/models/{name}/infer`` with one output, ``cr``."""
    loaded = named_release(service, serving, name, version)
    fields = read_object(body)
    request_id = fields.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise HttpError(422, "id must be a text")
    rows = check_rows_given(service, _rows_of(service, fields))
    rates = rates_or_error(await answer(service, serving, rows, Source.COMPUTED))
    head: dict[str, Any] = {"model_name": name, "model_version": loaded.name} | ({} if request_id is None else {"id": request_id})
    data = ",".join(rate_text(rate) for rate in rates)
    output = f'"outputs":[{{"name":"cr","datatype":"FP64","shape":[{len(rates)}],"data":[{data}]}}]'
    return Answer(b"%b,%b}" % (orjson.dumps(head)[:-1], output.encode()))


def _rows_of(service: Service, fields: dict[str, Any]) -> list[JsonRow]:
    inputs = fields.get("inputs")
    if not isinstance(inputs, list) or not inputs or not all(isinstance(column, dict) for column in inputs):
        raise HttpError(422, "inputs must be a list of tensors, one for each column")
    for given in inputs:
        if isinstance(data := given.get("data"), list):
            check_row_count(service, len(data))
    columns = dict(_column(given) for given in inputs)
    if len(columns) < len(inputs):
        raise HttpError(422, "two inputs have the same name")
    lengths = {len(data) for data in columns.values()}
    if len(lengths) > 1:
        raise HttpError(422, "the inputs have different numbers of rows")
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def _column(given: dict[str, Any]) -> tuple[str, list[Any]]:
    name, datatype, shape, data = (given.get(field) for field in ("name", "datatype", "shape", "data"))
    if not isinstance(name, str):
        raise HttpError(422, "an input has no name")
    if datatype not in DATATYPES:
        raise HttpError(422, f"the datatype of the input {name[:100]!r} is none of {', '.join(DATATYPES)}")
    if not isinstance(data, list) or not isinstance(shape, list) or not all(type(length) is int for length in shape):
        raise HttpError(422, f"the input {name[:100]!r} needs a shape and data, both lists")
    if len(shape) == 2 and shape[1] == 1:
        data = [cell[0] if isinstance(cell, list) and len(cell) == 1 else cell for cell in data]
        shape = shape[:1]
    if shape != [len(data)] or any(isinstance(cell, list | dict) for cell in data):
        raise HttpError(422, f"the input {name[:100]!r} must have the shape [n] or [n, 1] and as many values")
    return name, data
