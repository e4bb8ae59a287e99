"""The clients against the real thing: Envoy, transformer, feature store, Triton."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from tiny_endpoint import HISTORIES, MAX_BATCH_SIZE, VERSION
from tiny_version import REQUESTS, K

from serving.client import AsyncRecommendClient, Recommendations, RecommendClient, RecommendError
from serving.embedded.endpoint import EmbeddedEndpoint
from serving.parity import golden_answers

pytestmark = pytest.mark.timeout(120)
DAY_S = 86_400


def test_by_user_is_by_his_history(served: EmbeddedEndpoint) -> None:
    with RecommendClient(f"http://{served.url}/") as client:
        for user, (history, _) in HISTORIES.items():
            stored = client.recommend(user_id=user, request_id="r")
            given = client.recommend(history=history)
            assert stored.item_ids == given.item_ids
            assert len(stored.item_ids) == K
            assert (stored.feature_status, given.feature_status) == ("ok", "given")
            assert stored.feature_age_s == pytest.approx(DAY_S, abs=600)
            assert given.feature_age_s is None
            assert (stored.version, stored.request_id, given.request_id) == (VERSION, "r", None)
        nobody = client.recommend(user_id="nobody")
        assert (nobody.feature_status, nobody.feature_age_s) == ("unknown", None)
        assert nobody.item_ids == client.recommend(history=[]).item_ids
        assert client.recommend(user_id="nobody", history=["item-1"]).feature_status == "given"


def test_answers_are_the_golden_ones(served: EmbeddedEndpoint) -> None:
    golden = golden_answers(served.home.versions / VERSION, REQUESTS)
    with RecommendClient(served.url) as client:
        for request, expected in zip(REQUESTS, golden, strict=True):
            found = client.recommend(request["history"], request["exclude"])
            assert found.item_ids == expected.item_ids
            assert found.scores == pytest.approx(expected.scores, abs=1e-4)


def test_k_and_exclude(served: EmbeddedEndpoint) -> None:
    with RecommendClient(served.url) as client:
        everything = client.recommend(user_id="196")
        assert client.recommend(user_id="196", k=2).item_ids == everything.item_ids[:2]
        without = client.recommend(user_id="196", exclude=everything.item_ids[:1], k=K - 1)
        assert without.item_ids == everything.item_ids[1:]
        with pytest.raises(RecommendError, match=rf"refused.*k: {K + 1}; allowed: 1 to {K}") as e:
            client.recommend(user_id="196", k=K + 1)
        assert e.value.code == "INVALID_ARGUMENT"


def test_batches(served: EmbeddedEndpoint) -> None:
    with RecommendClient(served.url) as client:
        users = [*HISTORIES, "nobody"] * 21
        batch = client.recommend_batch(user_ids=users, excludes=[["item-7"]] * len(users), k=3)
        singles = [client.recommend(user_id=user, exclude=["item-7"], k=3) for user in users[:3]]
        for found, single in zip(batch, singles * 21, strict=True):
            assert found.item_ids == single.item_ids
            assert found.feature_status == single.feature_status
        assert client.recommend_batch([]) == client.recommend_batch(user_ids=[]) == []
        histories = [["item-3"], [], ["item-9", "item-4", "item-1"]]
        found = [each.item_ids for each in client.recommend_batch(histories)]
        assert found == [client.recommend(history).item_ids for history in histories]
        too_many = ["196"] * (MAX_BATCH_SIZE + 1)
        with pytest.raises(RecommendError, match=rf"{MAX_BATCH_SIZE + 1} rows; allowed"):
            client.recommend_batch(user_ids=too_many)


def test_threads_share_a_client(served: EmbeddedEndpoint) -> None:
    with RecommendClient(served.url) as client, ThreadPoolExecutor(16) as pool:
        expected = {user: client.recommend(user_id=user).item_ids for user in HISTORIES}
        users = list(HISTORIES) * 100
        found = list(pool.map(lambda user: client.recommend(user_id=user).item_ids, users))
    assert found == [expected[user] for user in users]


def test_tasks_share_a_client(served: EmbeddedEndpoint) -> None:
    users = list(HISTORIES) * 100

    async def ask() -> list[Recommendations]:
        async with AsyncRecommendClient(served.url) as client:
            return await asyncio.gather(*(client.recommend(user_id=user) for user in users))

    found = asyncio.run(ask())
    with RecommendClient(served.url) as client:
        expected = {user: client.recommend(user_id=user).item_ids for user in HISTORIES}
    assert [each.item_ids for each in found] == [expected[user] for user in users]


def test_a_bare_triton_is_asked_by_history(served: EmbeddedEndpoint) -> None:
    triton = served.state().replicas[VERSION].triton
    with RecommendClient(served.url) as door, RecommendClient(triton.grpc_url) as client:
        found = client.recommend(["item-9", "item-4"], ["item-2"])
        assert found.item_ids == door.recommend(["item-9", "item-4"], ["item-2"]).item_ids
        assert (found.version, found.feature_status, found.feature_age_s) == (None, None, None)
        with pytest.raises(RecommendError, match="user_id") as error:
            client.recommend(user_id="196")
        assert error.value.code == "INVALID_ARGUMENT"
