"""``/docs``: every route with an example that can be tried. It loads nothing from elsewhere."""

import html
from pathlib import Path
from typing import Any

import orjson
from fastapi import Response

from shared.index_format import DEVICE_BITS
from workers.serving.http.service import Service

PAGE = Path(__file__).with_name("docs.html")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'"
EXAMPLES = 2
EXAMPLE_ID = 20458


def example_rows(service: Service) -> list[dict[str, int]]:
    """Returns the keys of some published rows, or made-up ones."""
    published = service.serving.published
    if published is not None and published.index.has_whole_keys and published.slices and service.tokens.is_open("rates"):
        keys = [int(key) for key in published.slices[0].keys[:EXAMPLES]]
        return [{"entity_id": key >> DEVICE_BITS, "device": key & 3} for key in keys]
    return [{"entity_id": EXAMPLE_ID, "device": 1}]


def docs_page(service: Service) -> Response:
    """Returns the page."""
    rows = example_rows(service)
    first = rows[0]
    loaded = service.serving.loaded
    examples: list[dict[str, Any]] = [
        {"method": "POST", "path": "/v1/rates", "title": "Rates of some rows", "body": {"rows": rows}},
        {"method": "GET", "path": f"/v1/rates/{first['entity_id']}/{first['device']}", "title": "The published rate of one row"},
        {"method": "GET", "path": f"/v1/rates/{first['entity_id']}/{first['device']}/why", "title": "Where it comes from"},
    ]
    if loaded is not None:
        row = {name: 7 if name == "entity_id" else 1 if name == "device" else "a" for name in loaded.release.manifest.keys}
        features = [column for column in loaded.release.manifest.columns if column.name not in ("computer", "smartphone")]
        row |= {column.name: "a" if column.type == "text" else 0 for column in features}
        inputs = [
            {"name": name, "shape": [1], "datatype": "BYTES" if isinstance(value, str) else "INT64", "data": [value]}
            for name, value in row.items()
        ]
        name = loaded.release.manifest.definition
        examples += [
            {"method": "POST", "path": "/v1/rates?source=computed", "title": "A computed rate", "body": {"rows": [row]}},
            {
                "method": "POST",
                "path": f"/v2/models/{name}/infer",
                "title": "Open Inference Protocol",
                "body": {"id": "1", "inputs": inputs},
            },
            {"method": "POST", "path": "/invocations", "title": "MLflow and SageMaker", "body": {"dataframe_records": [row]}},
        ]
    examples += [{"method": "GET", "path": path, "title": title} for path, title in PLAIN]
    data = orjson.dumps(examples).decode().replace("<", "\\u003c")
    text = PAGE.read_text().replace("EXAMPLES_AS_JSON", data).replace("NEEDS_TOKEN", html.escape(str(service.tokens.are_set).lower()))
    return Response(
        text, media_type="text/html; charset=utf-8", headers={"content-security-policy": POLICY, "x-content-type-options": "nosniff"}
    )


PLAIN = (
    ("/v2/health/ready", "What is served"),
    ("/metrics", "Metrics"),
    ("/openapi.json", "All routes for programs"),
)
