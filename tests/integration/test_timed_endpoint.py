"""A version that reads times, served for real: Triton, transformer, a feature store.

The stored times of a history are read online and are what the answer is made from.
"""

import json
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from feature_stores import sqlite_store
from recommender_data import TINY, vocabulary, write_vectors, write_windows
from timed_version import ITEMS, MAX_SEEN, NOW, TIMES, K, timed_model, write_timed_version
from tiny_transformer import Parts, transformer

from recommender.compression.compress import compress
from recommender.errors import KuberecError
from recommender.sequences import Vocabulary
from recommender.settings import CompressionConfig, ExportConfig, TrainingConfig
from recommender.training.fit import fit
from serving.client import RecommendClient
from serving.export import write_version
from serving.parity import golden_answers, parity, triton_answers
from serving.rollout.expected import on_cpu
from serving.rollout.side_door import check_golden
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
            on_cpu(load_version(parts.version)),
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


def test_what_is_trained_with_times_is_compressed_and_exported_with_them(tmp_path: Path) -> None:
    windows = write_windows(tmp_path / "windows", with_times=True)
    vectors = write_vectors(tmp_path / "vectors")
    shape = TINY.model_copy(update={"time": "gaps"})
    training = TrainingConfig(epochs=1, batch_size=16, warmup_epochs=0, reversed_share=0.5)
    fit(windows, vectors, shape, training, tmp_path / "model")
    loose: dict[str, Any] = {"max_quality_loss": 1.0, "min_size_ratio": 0.01, "min_speedup": 0.01}
    distil = {"step": "distil", "dim": shape.dim, "layers": 1, "epochs": 1}
    loose["steps"] = [distil, {"step": "quantise"}]
    any_ranking = {"served": {"min_overlap": 0, "min_top_10_overlap": 0}}
    export = ExportConfig.model_validate(
        {"k": 10, "max_seen": MAX_SEEN, "golden_requests": 8, "parity": any_ranking}
    )
    compress(
        tmp_path / "model",
        windows,
        CompressionConfig.model_validate(loose),
        export,
        tmp_path / "compressed",
    )
    version = write_version(
        tmp_path / "version", tmp_path / "compressed", windows, vectors, export, {}
    )
    golden = version.golden()
    assert version.times
    assert golden[-1].history_times[0] > 1_700_000_000  # seconds
    assert len(golden[-1].history_times) == len(golden[-1].history)
    without = golden_answers(tmp_path / "version", [{"history": golden[-1].history}])
    assert without[0].scores != golden[-1].scores
    table = pq.read_table(windows / "windows.parquet").drop_columns(["history_times"])
    pq.write_table(table, windows / "windows.parquet")
    with pytest.raises(KuberecError, match="no column 'history_times'"):
        fit(windows, vectors, shape, training, tmp_path / "again")
