"""The side door: a port of its own for a rollout, never behind a gateway.

`POST /v2/models/{name}/infer` answers as clients are answered, by the same features and the same
Triton, but is no client's request: it is neither counted nor sampled. `GET /requests?limit=N` gives
a sample of what clients asked, user ids included; sample.py says what is kept of them.
"""

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.transformer.answer import Answerer
from serving.transformer.errors import BadRequest
from serving.transformer.rest import explain_errors, inference
from serving.transformer.sample import RequestSample

_HERE = (
    "the side door has GET /requests, and inference at POST /v2/models/{name}/infer; health and "
    "metrics are at the REST port"
)


def create_side_door(answerer: Answerer, sample: RequestSample, max_bytes: int) -> Any:
    """The application of the side door."""

    async def requests(request: Request) -> Response:
        rows = sample.draw(_limit(request.query_params.get("limit")))
        return Response(
            b'{"requests":[' + b",".join(rows) + b"]}",
            media_type="application/json",
            headers={"cache-control": "no-store"},
        )

    app = Starlette(
        routes=[
            Route("/requests", requests, methods=["GET"]),
            *inference(answerer, answerer.uncounted, max_bytes),
        ]
    )
    app.router.redirect_slashes = False  # to whatever host the request names
    explain_errors(app, _HERE)
    return app


def _limit(text: str | None) -> int:
    if text is None:
        return 1000
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise BadRequest(f"limit: {text!r:.60}; allowed: a whole number from 1 to 999999999")
    return int(text)
