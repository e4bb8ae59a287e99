"""A version that reads times, served for real: Triton, transformer, a feature store.

The stored times of a history are read online and are what the answer is made from.
"""

import json
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import torch
from feature_stores import sqlite_store
from recommender_data import vocabulary
from timed_version import ITEMS, NOW, TIMES, K, timed_model, write_timed_version
from tiny_transformer import Parts, transformer

from recommender.sequences import Vocabulary
from serving.client import RecommendClient
from serving.parity import parity, triton_answers
from serving.rollout.side_door import check_golden
from serving.settings import ServingConfig
from serving.triton.repository import STAGES
from serving.triton.server import temporary_triton
from serving.version import load_version

VERSION = "v1"  # whose FeatureService the store has
EXACT = 1e-4


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    folder = tmp_path_factory.mktemp("timed")
    version = write_timed_version(folder / VERSION, VERSION)
    store = sqlite_store(folder / "store", {"ann": (ITEMS, datetime.fromtimestamp(NOW, UTC))})
    with temporary_triton(version, folder / "t") as triton:
        yield Parts(version, store, triton, folder)


def expected(times: list[int]) -> list[float]:
    """torch's scores of ITEMS with times of those that it knows."""
    items = torch.from_numpy(Vocabulary(vocabulary()).encode(ITEMS))[None]
    known = torch.tensor([times[0], *times[2:]])[None]
    scores = timed_model()(items, known)[0].detach()
    scores[[0, *items[0].tolist()]] = -torch.inf
    return [float(each) for each in scores.topk(K).values]


def _call(address: str, method: str, path: str, body: Any) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://{address}{path}", data, {"content-type": "application/json"}, method=method
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        return json.load(response)


def test_both_forms_of_triton_answer_the_golden_requests(parts: Parts) -> None:
    golden = load_version(parts.version).golden()
    requests = [each.asked() for each in golden]
    with temporary_triton(parts.version, parts.folder / "stages", None, STAGES) as stages:
        for url, protocol in (
            (parts.triton.grpc_url, "grpc"),
            (stages.grpc_url, "grpc"),
            (stages.http_url, "http"),
        ):
            found = parity(golden, triton_answers(url, requests, protocol))
            assert found["min_overlap"] == 1.0
            assert found["max_abs_score_diff"] < EXACT


def test_times_reach_the_model_by_client_and_by_store(parts: Parts) -> None:
    with (
        transformer(parts) as server,
        RecommendClient(server.grpc_url, timeout_s=20) as client,
    ):
        close = client.recommend(ITEMS, history_times=TIMES["close"])
        unknown = client.recommend(ITEMS)
        stored = client.recommend(user_id="ann")
        both = client.recommend_batch(
            [ITEMS, ITEMS[:1]], history_times=[TIMES["close"], TIMES["close"][:1]]
        )
        check_golden(
            "side door",
            lambda method, path, body: _call(server.side_url, method, path, body),
            load_version(parts.version).golden(),
            ServingConfig(),
        )
    assert close.scores == pytest.approx(expected(TIMES["close"]), abs=EXACT)
    assert both[0].scores == pytest.approx(close.scores, abs=EXACT)
    assert unknown.scores == pytest.approx(expected([0] * 4), abs=EXACT)
    assert close.scores != pytest.approx(unknown.scores, abs=10 * EXACT)
    # The store's events are a second apart (tests/feature_stores.py).
    seconds = [NOW - back for back in (3, 2, 1, 0)]
    assert stored.scores == pytest.approx(expected(seconds), abs=EXACT)
    assert stored.scores != pytest.approx(unknown.scores, abs=10 * EXACT)
    assert stored.scores != pytest.approx(close.scores, abs=10 * EXACT)
