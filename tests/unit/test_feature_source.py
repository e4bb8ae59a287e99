"""Feature lookup where the store misbehaves: freshness policies, failures, the deadline.

The readers here are fakes: what real stores do is tested in integration/test_feature_faults.py.
"""

import asyncio
import time
from collections.abc import Sequence

import pytest
from feature_readers import FakeReader, breaks, hangs, run, settings, source_of, stored
from prometheus_client import REGISTRY

from feature_repo.online.opening import StoreUnavailable
from feature_repo.online.reader import StoredFeatures
from serving.settings import TransformerConfig, ViewFreshness
from serving.transformer.features import FeatureSource, FeaturesRejected, FeatureStatus


def limited(policy: str) -> TransformerConfig:
    return settings(freshness={"user_history": {"max_age_s": 1000, "policy": policy}})


def ask(source: FeatureSource, *users: str) -> list[tuple[list[str], float, str]]:
    found = run(source, lambda: source.lookup(users))
    return [(list(row.history), row.age_s, str(row.status)) for row in found]


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_rows_as_they_are_stored() -> None:
    source = source_of(settings(), FakeReader())
    assert ask(source, "fresh", "nobody", "null", "ahead", "old") == [
        (["a", "b"], 10.0, "ok"),
        ([], -1.0, "unknown"),
        ([], 20.0, "ok"),
        (["d"], 0.0, "ok"),
        (["c"], 5000.0, "ok"),
    ]
    assert ask(source_of(settings(), FakeReader())) == []


@pytest.mark.parametrize(
    ("policy", "old"),
    [
        ("serve", (["c"], 5000.0, "ok")),
        ("flag", (["c"], 5000.0, "stale")),
        ("fallback", ([], 5000.0, "fallback_stale")),
    ],
)
def test_a_row_beyond_the_limit(policy: str, old: tuple[list[str], float, str]) -> None:
    name = "kuberec_features_beyond_limit_total"
    before = counted(name, view="user_history", policy=policy)
    found = ask(source_of(limited(policy), FakeReader()), "old", "fresh", "nobody")
    assert found == [old, (["a", "b"], 10.0, "ok"), ([], -1.0, "unknown")]
    assert counted(name, view="user_history", policy=policy) == before + 1


def test_a_row_beyond_the_limit_is_refused() -> None:
    before = counted("kuberec_features_rejected_total", reason="stale")
    with pytest.raises(
        FeaturesRejected, match=r"'old' .*5,000 s old.*1,000 s.*send 'history'"
    ) as e:
        ask(source_of(limited("reject"), FakeReader()), "fresh", "old")
    assert e.value.code == "FAILED_PRECONDITION"
    assert counted("kuberec_features_rejected_total", reason="stale") == before + 1
    assert ask(source_of(limited("reject"), FakeReader()), "fresh", "nobody")


def test_a_limit_of_another_view_does_not_count() -> None:
    config = settings(freshness={"other": ViewFreshness(max_age_s=1, policy="reject")})
    assert ask(source_of(config, FakeReader()), "old") == [(["c"], 5000.0, "ok")]


FAILURES = [
    (FakeReader(hangs), "timeout", "no answer within 50 ms"),
    (FakeReader(breaks), "error", "disk I/O error"),
    (StoreUnavailable("no such folder"), "unavailable", "no such folder"),
    (RuntimeError("registry is away"), "unavailable", "registry is away"),
]


@pytest.mark.parametrize(("reader", "reason", "cause"), FAILURES)
def test_a_store_that_fails(reader: FakeReader | Exception, reason: str, cause: str) -> None:
    names = ["kuberec_feature_fallbacks_total", "kuberec_features_rejected_total"]
    lookups = counted("kuberec_feature_lookups_total", status=f"fallback_{reason}")
    before = [counted(name, reason=reason) for name in names]
    empty = ([], -1.0, f"fallback_{reason}")
    assert ask(source_of(settings(), reader, reopen_s=9), "fresh", "nobody") == [empty, empty]
    with pytest.raises(FeaturesRejected, match=f"{cause}.*send 'history'") as e:
        ask(source_of(settings(store_failure="reject"), reader, reopen_s=9), "fresh", "nobody")
    assert e.value.code == "UNAVAILABLE"
    after = [counted(name, reason=reason) for name in names]
    assert after == [before[0] + 2, before[1] + 1]
    assert counted("kuberec_feature_lookups_total", status=f"fallback_{reason}") == lookups + 2


def test_who_no_longer_waits_stops_the_read() -> None:
    source = source_of(settings(lookup_timeout_s=5), FakeReader(hangs))

    async def live() -> None:
        asked = asyncio.create_task(source.lookup(["fresh"]))
        await asyncio.sleep(0.01)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        await asyncio.sleep(0)
        assert asyncio.current_task() in asyncio.all_tasks()
        assert not [task for task in asyncio.all_tasks() if "hangs" in repr(task)]

    run(source, live)


def test_an_answer_that_comes_while_the_process_is_busy_counts() -> None:
    async def prompt(user_ids: Sequence[str]) -> list[StoredFeatures]:
        asyncio.get_running_loop().call_soon(time.sleep, 0.1)  # past the deadline
        return await stored(user_ids)

    assert ask(source_of(settings(), FakeReader(prompt)), "fresh")[0][2] == "ok"


def test_a_hanging_store_is_left_in_peace_and_found_again() -> None:
    reader = FakeReader(hangs)
    source = source_of(settings(), reader)

    async def live() -> None:
        started = time.monotonic()
        for _ in range(60):
            (row,) = await source.lookup(["fresh"])
            assert row.status is FeatureStatus.FALLBACK_TIMEOUT
        assert reader.reads < 30
        assert time.monotonic() - started < 60 * 0.05 / 2
        reader.answer = stored
        end = time.monotonic() + 3
        while (await source.lookup(["fresh"]))[0].status is not FeatureStatus.OK:
            assert time.monotonic() < end
            await asyncio.sleep(0.01)
        for _ in range(20):
            assert (await source.lookup(["fresh"]))[0].status is FeatureStatus.OK

    run(source, live)


def test_a_store_that_fails_now_and_then_does_not_fill_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "kuberec.features")
    monkeypatch.setattr("serving.transformer.features._SILENCE_S", 0.2)
    reader = FakeReader()
    source = source_of(settings(), reader)

    async def live() -> None:
        caplog.clear()
        for answer in [breaks, stored] * 10 + [breaks]:
            reader.answer = answer
            await source.lookup(["fresh"])
        said = [line for line in caplog.messages if "feature store open" not in line]
        assert said == [
            "the feature store fails: OSError: disk I/O error",
            "the feature store answers again, after 1 failed lookups",
        ]
        await asyncio.sleep(0.2)
        await source.lookup(["fresh"])  # it still fails, which is said by now
        assert sum("fails" in line for line in caplog.messages) == 2

    run(source, live)


def test_hanging_reads_do_not_pile_up() -> None:
    reader = FakeReader(hangs)
    source = source_of(settings(), reader)

    async def live() -> int:
        found = await asyncio.gather(*(source.lookup(["fresh"]) for _ in range(5000)))
        assert {row.status for (row,) in found} == {FeatureStatus.FALLBACK_TIMEOUT}
        await asyncio.sleep(0)
        return len(asyncio.all_tasks())

    assert run(source, live) < 10
