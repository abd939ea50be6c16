"""Puts the routes together: FastAPI finds and describes them, each answers with bytes."""

import asyncio
from collections.abc import Callable
from typing import Any, Literal

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from shared.version import code_version
from workers.serving.http import schemas
from workers.serving.http.answers import Answer, HttpError, error_answer, json_answer
from workers.serving.http.docs_page import docs_page, example_rows
from workers.serving.http.front import FAILED, Front, Scope
from workers.serving.http.service import Service
from workers.serving.metrics import Metrics
from workers.serving.routes import health, inference, invocations, rates
from workers.serving.routes.job_requests import DecisionAsked, ScoreAsked, TrainAsked

DESCRIPTION = "Conversion rates of keywords: published ones, and computed ones with the same digits."
NO_PAGES: dict[str, Any] = {"docs_url": None, "redoc_url": None, "openapi_url": None}
"""FastAPI's own pages load their programs from elsewhere."""
TEXT = "text/plain; version=0.0.4; charset=utf-8"


def make_application(service: Service) -> Front:
    """Returns the ASGI application of one process."""
    app = FastAPI(title="Keyword scoring", version=code_version(), description=DESCRIPTION, redirect_slashes=False, **NO_PAGES)
    app.add_exception_handler(HttpError, _refuse)
    app.add_exception_handler(HTTPException, _refuse_unknown)
    app.add_exception_handler(Exception, _fail)
    _add_rates(app, service)
    _add_inference(app, service)
    _add_invocations(app, service)
    _add_jobs(app, service)
    _add_pages(app, service)

    async def post_rates(scope: Scope, body: bytes) -> Answer:
        return await rates.post_rates(service, scope, body)

    return Front(app, service, {("POST", "/v1/rates"): post_rates})


def _response(answer: Answer) -> Response:
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return Response(answer.body, answer.status, headers, media_type=answer.content_type.decode())


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, HttpError)  # noqa: S101 - registered for this class
    return _response(error.answer)


async def _refuse_unknown(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    known = {404: "there is no such route", 405: "this route does not have this method"}
    headers = tuple((name.encode(), value.encode()) for name, value in (error.headers or {}).items())
    return _response(error_answer(error.status_code, known.get(error.status_code, "invalid request"), "See /docs.", headers))


async def _fail(_: Request, _error: Exception) -> Response:
    # raised again after this answer, and logged by the front
    return _response(FAILED)


async def _aside(do: Callable[..., Answer], *arguments: Any) -> Response:  # noqa: ANN401 - whatever JSON may hold
    """Runs a route that waits for the bucket or Redis in a thread."""
    return _response(await asyncio.to_thread(do, *arguments))


def _job_route(name: str) -> Callable[..., Answer]:
    """Returns a route of jobs; imported at its first use, because it needs Celery, which takes a third of a second and 30 MB."""
    from workers.serving.routes import jobs  # noqa: PLC0415 - imported at its first use

    route: Callable[..., Answer] = getattr(jobs, name)
    return route


def _add_rates(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/rates",
        tags=["rates"],
        summary="Rates of up to --max-rows rows",
        responses=schemas.answers(schemas.RATES, has_body=True),
        openapi_extra=schemas.body(schemas.ROWS),
    )
    async def post_rates(request: Request, source: Literal["auto", "published", "computed"] = "auto") -> Response:
        del source  # read from the query string
        return _response(await rates.post_rates(service, request.scope, await request.body()))

    @app.get(
        "/v1/rates/{entity_id}/{device}",
        tags=["rates"],
        summary="The published rate of one row",
        responses=schemas.answers(schemas.RATE, 200, 404, 422) | {304: {"description": "the client has it already"}},
    )
    async def get_rate(request: Request, entity_id: str, device: str) -> Response:
        return _response(await rates.get_rate(service, request.scope["serving"], request.scope, entity_id, device))

    @app.get(
        "/v1/rates/{entity_id}/{device}/why",
        tags=["rates"],
        summary="Where a rate comes from, and why it is another one than before",
        responses=schemas.answers(schemas.OBJECT, errors={404: "no such result", 422: "no explanation, and why"}),
    )
    async def get_why(request: Request, entity_id: str, device: str, against: str | None = None) -> Response:
        del against  # read from the query string
        from workers.serving.routes import why  # noqa: PLC0415 - imported at its first use

        return _response(await why.why(service, request.scope["serving"], request.scope, [entity_id, device]))


def _add_inference(app: FastAPI, service: Service) -> None:
    @app.get("/v2", tags=["inference"], summary="The server", responses=schemas.answers(schemas.OBJECT))
    async def get_server() -> Response:
        return _response(inference.server(code_version()))

    @app.get("/v2/health/live", tags=["health"], summary="Is the process alive?", responses=schemas.answers(schemas.OBJECT, 200, 503))
    async def get_live() -> Response:
        return _response(health.live(service))

    @app.get("/v2/health/ready", tags=["health"], summary="May it get requests?", responses=schemas.answers(schemas.OBJECT, 200, 503))
    async def get_ready() -> Response:
        return _response(health.ready(service))

    errors = {404: "not the release in use"}

    @app.get("/v2/models/{name}", tags=["inference"], summary="A model", responses=schemas.answers(schemas.OBJECT, errors=errors))
    @app.get("/v2/models/{name}/versions/{version}", tags=["inference"], responses=schemas.answers(schemas.OBJECT, errors=errors))
    async def get_model(request: Request, name: str, version: str | None = None) -> Response:
        return _response(inference.model(service, request.scope["serving"], name, version))

    @app.get("/v2/models/{name}/ready", tags=["inference"], responses=schemas.answers(schemas.OBJECT, 200, 503, errors=errors))
    @app.get(
        "/v2/models/{name}/versions/{version}/ready", tags=["inference"], responses=schemas.answers(schemas.OBJECT, 200, 503, errors=errors)
    )
    async def get_model_ready(request: Request, name: str, version: str | None = None) -> Response:
        return _response(inference.model_ready(service, request.scope["serving"], name, version))

    described: dict[str, Any] = {
        "tags": ["inference"],
        "responses": schemas.answers(schemas.INFERRED, has_body=True, errors=errors),
        "openapi_extra": schemas.body(schemas.INFER),
    }

    @app.post("/v2/models/{name}/infer", summary="Rates, by the Open Inference Protocol", **described)
    @app.post("/v2/models/{name}/versions/{version}/infer", **described)
    async def post_infer(request: Request, name: str, version: str | None = None) -> Response:
        return _response(await inference.infer(service, request.scope["serving"], name, version, await request.body()))


def _add_invocations(app: FastAPI, service: Service) -> None:
    @app.post(
        "/invocations",
        tags=["inference"],
        summary="Rates, in the shape of MLflow and SageMaker",
        responses=schemas.answers(schemas.INVOKED, has_body=True),
        openapi_extra=schemas.body(schemas.INVOKE),
    )
    async def post_invocations(request: Request) -> Response:
        return _response(await invocations.invoke(service, request.scope["serving"], await request.body()))

    @app.get("/ping", tags=["health"], summary="SageMaker's probe", responses=schemas.answers(schemas.OBJECT, 200, 503))
    async def get_ping() -> Response:
        return _response(health.ping(service))


def _add_jobs(app: FastAPI, service: Service) -> None:
    unknown = {404: "no such job"}

    @app.post(
        "/v1/jobs",
        tags=["jobs"],
        summary="Enqueue a score or a train job; the same request gets the same job",
        responses=schemas.answers(schemas.JOB, 200, 201, 202, has_body=True),
        openapi_extra=schemas.body(
            {"oneOf": [_schema(ScoreAsked), _schema(TrainAsked)]},
            {"kind": "score", "table": "data/predict/input/2026/11/23", "model": "champion", "channel": "live"},
        ),
    )
    async def post_job(request: Request) -> Response:
        return await _aside(_job_route("create"), service, await request.body())

    @app.get("/v1/jobs/{job_id}", tags=["jobs"], summary="The state of a job", responses=schemas.answers(schemas.OBJECT, errors=unknown))
    async def get_job(job_id: str) -> Response:
        return await _aside(_job_route("show"), service, job_id)

    @app.post(
        "/v1/jobs/{job_id}/cancel",
        tags=["jobs"],
        summary="Cancel a job",
        responses=schemas.answers(schemas.JOB, errors=unknown | {409: "it has ended"}),
    )
    async def post_cancel(job_id: str) -> Response:
        return await _aside(_job_route("cancel"), service, job_id)

    @app.get("/v1/held", tags=["jobs"], summary="The results that the guard holds", responses=schemas.answers(schemas.OBJECT))
    async def get_held() -> Response:
        return await _aside(_job_route("held"), service)

    described: dict[str, Any] = {
        "tags": ["jobs"],
        "openapi_extra": schemas.body(_schema(DecisionAsked), {"reason": "the drop is the sale that ended"}),
        "responses": schemas.answers(schemas.JOB, 200, 202, has_body=True, errors=unknown | {409: "not held, or decided before"}),
    }

    @app.post("/v1/jobs/{job_id}/approve", summary="Publish a held result", **described)
    async def post_approve(request: Request, job_id: str) -> Response:
        return await _aside(_job_route("decide"), service, job_id, "approve", request.scope["headers"], await request.body())

    @app.post("/v1/jobs/{job_id}/refuse", summary="Keep a held result from its channel", **described)
    async def post_refuse(request: Request, job_id: str) -> Response:
        return await _aside(_job_route("decide"), service, job_id, "refuse", request.scope["headers"], await request.body())


def _schema(kind: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever JSON may hold
    found: dict[str, Any] = kind.model_json_schema()
    return found


def _add_pages(app: FastAPI, service: Service) -> None:
    @app.get("/metrics", include_in_schema=False)
    async def get_metrics() -> Response:
        return Response(await asyncio.to_thread(Metrics.page), media_type=TEXT)

    @app.get("/openapi.json", include_in_schema=False)
    async def get_openapi() -> Response:
        return _response(json_answer(_described(app, service)))

    @app.get("/docs", include_in_schema=False)
    async def get_docs() -> Response:
        return docs_page(service)


def _described(app: FastAPI, service: Service) -> dict[str, Any]:
    """Returns the description of the routes, with an example of real ids, and that a bearer token is needed, if one is."""
    described = app.openapi()
    described["paths"]["/v1/rates"]["post"]["requestBody"]["content"]["application/json"]["example"] = {"rows": example_rows(service)}
    if service.tokens.are_set:
        described.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"token": []}]
    return described
