"""The description of requests and answers in OpenAPI."""

from typing import Any

Schema = dict[str, Any]

ERROR: Schema = {
    "type": "object",
    "properties": {"error": {"type": "string"}, "next_step": {"type": "string"}},
    "required": ["error"],
}
ROW: Schema = {
    "type": "object",
    "description": "The key columns, and for a computed rate every column that the release needs.",
    "additionalProperties": True,
}
RATE: Schema = {
    "type": "object",
    "properties": {
        "cr": {"type": "number", "minimum": 0, "maximum": 1},
        "cr_low": {"type": "number"},
        "cr_high": {"type": "number"},
        "status": {"enum": ["PRESENT", "NOT_FOUND", "OUTSIDE_MAX_AGE", "REJECTED"]},
        "source": {"enum": ["published", "computed"]},
        "age_seconds": {"type": "integer", "minimum": 0},
        "column": {"type": "string"},
        "value": {"type": "string"},
        "reason": {"type": "string"},
    },
    "required": ["status"],
}
RATES: Schema = {
    "type": "object",
    "properties": {
        "release": {"type": ["string", "null"]},
        "channel": {"type": ["string", "null"]},
        "job_id": {"type": ["string", "null"]},
        "published_release": {"type": ["string", "null"]},
        "rates": {"type": "array", "items": RATE},
    },
    "required": ["release", "channel", "job_id", "rates"],
}
ROWS: Schema = {"type": "object", "properties": {"rows": {"type": "array", "items": ROW}}, "required": ["rows"]}
OBJECT: Schema = {"type": "object"}
JOB: Schema = {"type": "object", "properties": {"job_id": {"type": "string"}, "state": {"type": "string"}}}
TENSOR: Schema = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"type": "string"},
        "data": {"type": "array"},
    },
    "required": ["name", "shape", "datatype", "data"],
}
INFER: Schema = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "inputs": {"type": "array", "items": TENSOR, "minItems": 1}},
    "required": ["inputs"],
}
INFERRED: Schema = {
    "type": "object",
    "properties": {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "outputs": {"type": "array", "items": TENSOR},
    },
    "required": ["model_name", "outputs"],
}
INVOKE: Schema = {
    "oneOf": [
        {
            "type": "object",
            "properties": {
                "dataframe_split": {
                    "type": "object",
                    "properties": {
                        "columns": {"type": "array", "items": {"type": "string"}},
                        "data": {"type": "array", "items": {"type": "array"}},
                    },
                    "required": ["columns", "data"],
                }
            },
            "required": ["dataframe_split"],
        },
        {"type": "object", "properties": {"dataframe_records": {"type": "array", "items": ROW}}, "required": ["dataframe_records"]},
        {"type": "object", "properties": {"instances": {"type": "array", "items": ROW}}, "required": ["instances"]},
    ]
}
INVOKED: Schema = {
    "type": "object",
    "properties": {"predictions": {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}}},
    "required": ["predictions"],
}

COMMON_ERRORS = {401: "no valid token", 408: "the request came too slowly", 503: "too busy, or not ready", 504: "no answer in time"}
BODY_ERRORS = {400: "no JSON", 413: "too many rows or bytes", 415: "no JSON", 422: "not what the route needs"}


def body(schema: Schema, example: Any = None) -> Schema:  # noqa: ANN401 - whatever JSON may hold
    """Returns ``openapi_extra`` for a route with this body."""
    content: Schema = {"schema": schema} if example is None else {"schema": schema, "example": example}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def answers(schema: Schema, *codes: int, has_body: bool = False, errors: dict[int, str] | None = None) -> dict[int | str, Schema]:
    """Returns ``responses`` for a route that answers with this schema under these codes (200 if none is given)."""
    failed = COMMON_ERRORS | (BODY_ERRORS if has_body else {}) | (errors or {})
    found: dict[int | str, Schema] = {code: _content(ERROR, description) for code, description in failed.items()}
    return found | {code: _content(schema, "the answer") for code in codes or (200,)}


def _content(schema: Schema, description: str) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
