"""Near-duplicate item texts: found, verified by the true Jaccard similarity, first one stays."""

import random
from collections.abc import Iterator

import ibis
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.cleaning import near_duplicates
from ingestion.cleaning.near_duplicates import lsh, merged, ngrams, similarity
from ingestion.cleaning.settings import NearDuplicatesConfig
from ingestion.engines.base import Engine
from ingestion.engines.open import open_engine
from recommender.engines.settings import EngineConfig

CONFIG = NearDuplicatesConfig(action="merge", threshold=0.8)
WORDS = [f"word{n}" for n in range(500)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = open_engine(EngineConfig(), tmp_path_factory.mktemp("engine"))
    yield engine
    engine.close()


def found(
    engine: Engine, texts: list[str | None], config: NearDuplicatesConfig = CONFIG
) -> dict[int, int]:
    """Of items named by their place in `texts`: near duplicate: first one."""
    count = len(texts)
    table = pa.table(
        {
            "item_id": [str(n) for n in range(count)],
            "text": pa.array(texts, pa.string()),
            "position": [10 * n for n in range(count)],
        }
    ).take(random.Random(3).sample(range(count), count))  # in no order
    items = engine.keep("texts", ibis.memtable(table))
    rows = merged(items, config, engine.keep).to_pyarrow().to_pylist()
    assert len({row["item_id"] for row in rows}) == len(rows)
    return {int(row["item_id"]): int(row["first_item_id"]) for row in rows}


def changed(words: list[str], count: int) -> str:
    """The text with its last `count` words replaced: that many n-grams of 3 are others."""
    return " ".join(words[: len(words) - count] + [f"other{n}" for n in range(count)])


def test_what_differs_in_case_and_punctuation_is_a_duplicate(engine: Engine) -> None:
    texts = ["A red case, for phones (new)", "no such thing", None, "a RED case for phones, new!"]
    assert found(engine, texts) == {3: 0}


def test_only_what_is_similar_enough_by_the_true_similarity(engine: Engine) -> None:
    words = WORDS[:102]  # 100 n-grams
    near, far = changed(words, 8), changed(words, 14)  # 92/108 and 86/114
    assert similarity(ngrams(" ".join(words), 3), ngrams(near, 3)) == pytest.approx(92 / 108)
    assert found(engine, [" ".join(words), near, far]) == {1: 0}


def test_candidates_are_verified(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that finds everything makes nothing a duplicate that is none."""
    from datasketch import MinHashLSH

    loose = MinHashLSH(num_perm=CONFIG.permutations, params=(CONFIG.permutations, 1))
    assert (loose.b, loose.r) == (CONFIG.permutations, 1)
    monkeypatch.setattr(near_duplicates, "lsh", lambda config: loose)
    words = WORDS[:102]
    assert found(engine, [" ".join(words), changed(words, 30), changed(words, 4)]) == {2: 0}


def test_an_item_is_merged_into_one_that_it_resembles_itself(engine: Engine) -> None:
    words = WORDS[:102]
    # 1 resembles 0, and 2 resembles 1, but not 0.
    texts = [" ".join(words), changed(words, 8), changed(words, 15)]
    one, two = ngrams(texts[1], 3), ngrams(texts[2], 3)
    assert similarity(one, two) >= CONFIG.threshold
    assert found(engine, texts) == {1: 0}


def test_short_texts_are_compared_whole(engine: Engine) -> None:
    assert found(engine, ["Hamlet", "Hamlet II", "hamlet", "...", "!", ""]) == {2: 0}


def test_most_of_many_are_found_in_every_batch_and_every_run_alike(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_duplicates, "_BATCH", 700)
    draw = random.Random(5)
    originals = [draw.sample(WORDS, 60) for _ in range(150)]
    texts = [" ".join(words) for words in originals]
    texts += [changed(words, 2) for words in originals]  # 56/60
    first = found(engine, texts)
    # What an index of this threshold may miss of so similar pairs is less than one in a hundred.
    assert len(first) >= 147
    assert all(first[n] == n - 150 for n in first)
    assert found(engine, texts) == first


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9, 0.95])
def test_pairs_at_the_threshold_are_found_by_nine_in_ten(threshold: float) -> None:
    index = lsh(NearDuplicatesConfig(threshold=threshold))
    assert 1 - (1 - threshold**index.r) ** index.b > 0.9


@given(st.lists(st.sampled_from("abcd")), st.lists(st.sampled_from("abcd")), st.integers(1, 3))
def test_similarity_is_jaccards(one: list[str], other: list[str], length: int) -> None:
    def grams(words: list[str]) -> set[tuple[str, ...]]:
        whole = [tuple(words)] if len(words) < length else []
        starts = range(len(words) - length + 1)
        return {gram for gram in [*whole, *(tuple(words[n : n + length]) for n in starts)] if gram}

    a, b = grams(one), grams(other)
    expected = len(a & b) / len(a | b) if a and b else 0
    assert similarity(ngrams(" ".join(one), length), ngrams(" ".join(other), length)) == (
        pytest.approx(expected)
    )


def test_what_shares_no_bucket_is_not_indexed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index holds first ones of candidates alone, so that a catalogue of any size fits."""
    index = lsh(CONFIG)
    monkeypatch.setattr(near_duplicates, "lsh", lambda config: index)
    draw = random.Random(7)
    texts = [" ".join(draw.sample(WORDS, 40)) for _ in range(200)]
    assert found(engine, [*texts, texts[4]]) == {200: 4}
    assert len(index.keys) == 1


def test_no_items_no_duplicates(engine: Engine) -> None:
    assert found(engine, [None, None]) == {}
