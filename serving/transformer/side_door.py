"""The side door: a port of its own for a rollout, never behind a gateway.

What is asked here is answered as clients are, but is no client's request: it is neither counted
among theirs nor sampled.
"""

from typing import Any

from fastapi import FastAPI
from kserve.protocol.dataplane import DataPlane

from serving.transformer.answer import Answerer
from serving.transformer.rest import create_app


def create_side_door(dataplane: DataPlane, answerer: Answerer, max_bytes: int) -> FastAPI:
    """The application of the side door."""
    app: Any = create_app(dataplane, answerer, max_bytes)
    return app
