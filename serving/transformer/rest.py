"""REST: the Open Inference Protocol's paths, and /metrics for who scrapes this pod."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from kserve.errors import ModelNotFound, ModelNotReady, ServerNotReady
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.rest.v2_datamodels import (
    ListModelsResponse,
    ModelMetadataResponse,
    ModelReadyResponse,
    ServerLiveResponse,
    ServerMetadataResponse,
    ServerReadyResponse,
)
from kserve.protocol.rest.v2_endpoints import V2Endpoints
from prometheus_client import REGISTRY, exposition
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from serving.transformer.answer import Answerer, failure
from serving.transformer.decode import LENGTH_HEADER, decode_rest
from serving.transformer.errors import RequestFailed, TooLarge


def create_app(dataplane: DataPlane, answerer: Answerer, max_bytes: int) -> FastAPI:
    """The application; kserve's own endpoints but for inference, and no load or unload."""
    app = FastAPI(
        title="Kuberec",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # to whatever host the request names
    )

    app.router.routes += inference(answerer, lambda: answerer.counted("rest"), max_bytes)
    endpoints = V2Endpoints(dataplane)

    async def metadata(model_name: str, version: str = "") -> ModelMetadataResponse:
        answerer.require_version(version)
        return await endpoints.model_metadata(model_name)

    async def ready(model_name: str, version: str = "") -> ModelReadyResponse:
        answerer.require_version(version)
        return await endpoints.model_ready(model_name)

    for path, handler, model in (
        ("/v2", endpoints.metadata, ServerMetadataResponse),
        ("/v2/health/live", endpoints.live, ServerLiveResponse),
        ("/v2/health/ready", endpoints.ready, ServerReadyResponse),
        ("/v2/models", endpoints.models, ListModelsResponse),
        ("/v2/models/{model_name}", metadata, ModelMetadataResponse),
        ("/v2/models/{model_name}/ready", ready, ModelReadyResponse),
        ("/v2/models/{model_name}/versions/{version}", metadata, ModelMetadataResponse),
        ("/v2/models/{model_name}/versions/{version}/ready", ready, ModelReadyResponse),
    ):
        app.add_api_route(path, handler, methods=["GET"], response_model=model)
    app.add_route("/metrics", _metrics)
    app.add_exception_handler(RequestValidationError, _invalid)
    explain_errors(
        app,
        "GET /v2/models lists the models, and inference is POST /v2/models/{name}/infer",
    )
    return app


def inference(
    answerer: Answerer, counted: Callable[[], AbstractContextManager[None]], max_bytes: int
) -> list[Route]:
    """The paths of inference; every request is answered within a block of `counted`."""

    async def infer(request: Request) -> Response:
        name, version = request.path_params["model_name"], request.path_params.get("version", "")
        headers = dict(request.headers)
        with counted():
            body = await _read(request, max_bytes)
            response = await answerer.answer(
                name, version, decode_rest(body, headers, name), headers
            )
            content, json_length = response.to_rest()
            if json_length is None:
                if content["id"] is None:
                    del content["id"]  # it is the client's, and this one gave none
                return Response(orjson.dumps(content), media_type="application/json")
            return Response(
                content,
                media_type="application/octet-stream",
                headers={LENGTH_HEADER: str(json_length)},
            )

    return [
        Route("/v2/models/{model_name}/infer", infer, methods=["POST"]),
        Route("/v2/models/{model_name}/versions/{version}/infer", infer, methods=["POST"]),
    ]


def explain_errors(app: Starlette, what_is_here: str) -> None:
    """Answer every failure as JSON that says what is wrong; of a wrong path, what there is."""

    async def http_error(request: Request, error: Any) -> Response:
        text = error.detail
        if error.status_code == 404:
            text = f"nothing is at {request.url.path}; {what_is_here}"
        elif error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "another method")
            text = f"{request.method} is not for {request.url.path}; allowed: {allowed}"
        return JSONResponse({"error": text}, error.status_code, error.headers)

    for kind in (RequestFailed, ModelNotFound, ModelNotReady, ServerNotReady, Exception):
        app.add_exception_handler(kind, _failed)
    app.add_exception_handler(HTTPException, http_error)


async def _read(request: Request, max_bytes: int) -> bytes:
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > max_bytes:
                raise TooLarge(f"the body has more than {max_bytes} bytes")
            parts.append(part)
    except ClientDisconnect:
        raise RequestFailed("the client went away", "CANCELLED") from None
    return b"".join(parts)


async def _metrics(request: Request) -> Response:
    encoder, kind = exposition.choose_encoder(request.headers.get("accept", ""))
    return Response(encoder(REGISTRY), headers={"content-type": kind})


async def _failed(request: Request, error: Exception) -> Response:
    found = failure(error)
    return JSONResponse({"error": str(found)}, found.http_status)


async def _invalid(request: Request, error: Any) -> Response:
    return JSONResponse({"error": str(error)}, 400)
