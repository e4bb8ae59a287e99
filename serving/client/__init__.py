"""Clients of the `recommend` endpoint over gRPC, blocking and asyncio, with one behaviour.

    with RecommendClient("127.0.0.1:8000") as client:
        print(client.recommend(user_id="196", k=10).item_ids)

REST clients post the same tensors as JSON to /v2/models/recommend/infer on the same port
(docs/guides/clients.md). Cannot be imported in a process that imports kserve: both register the
protocol's messages under one name.
"""

from serving.client.answers import Recommendations
from serving.client.asynchronous import AsyncRecommendClient
from serving.client.blocking import RecommendClient
from serving.client.door import Door
from serving.client.errors import RecommendError
from serving.client.retries import RetryPolicy

__all__ = [
    "AsyncRecommendClient",
    "Door",
    "RecommendClient",
    "RecommendError",
    "Recommendations",
    "RetryPolicy",
]
