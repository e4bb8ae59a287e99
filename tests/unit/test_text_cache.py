"""Only new and changed texts are encoded, also after a kill and for another encoder."""

import multiprocessing
import os
import signal

import numpy as np
import pyarrow as pa
import pytest
import torch
from text_encoder import write_encoder

from recommender.errors import KuberecError
from recommender.settings import TextConfig
from recommender.text import Encoder, cached_vectors
from recommender.text import cache as cache_module


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = write_encoder(tmp_path_factory.mktemp("encoder"))
    return TextConfig(encoder=str(folder), batch_size=2, max_tokens=32, device="cpu")


@pytest.fixture(scope="module")
def encoder(config):
    return Encoder(config)


class Told:
    """What progress was told."""

    def __init__(self) -> None:
        self.done: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int, message: str) -> None:
        self.done.append((done, total))


def parts(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_only_new_texts_are_encoded(encoder, tmp_path):
    told = Told()
    first, known = cached_vectors(["a", "b", "a"], encoder, tmp_path, told)
    assert (known, told.done[-1]) == (0, (2, 2))
    np.testing.assert_array_equal(first[0], first[2])
    told = Told()
    second, known = cached_vectors(["b", "c"], encoder, tmp_path, told)
    assert (known, told.done) == (1, [(1, 1)])
    np.testing.assert_array_equal(second[0], first[1])
    told = Told()
    cached_vectors(["c", "b", "a"], encoder, tmp_path, told)
    assert not told.done


def test_where_nothing_is_new_no_encoder_is_loaded(config, encoder, tmp_path):
    cached_vectors(["a", "b"], encoder, tmp_path)
    fresh = Encoder(config)
    cached_vectors(["b", "a"], fresh, tmp_path)
    assert "_loaded" not in vars(fresh)


def test_a_chunk_is_a_file_that_is_never_written_again(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "CHUNK", 2)
    cached_vectors(["a", "b", "c"], encoder, tmp_path)
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in parts(tmp_path)}
    assert len(before) == 2
    cached_vectors(["a", "b", "c", "d"], encoder, tmp_path)
    after = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in parts(tmp_path)}
    assert len(after) == 3
    assert before.items() <= after.items()


def test_what_changes_the_vector_is_not_taken_from_the_cache(config, encoder, tmp_path):
    cached_vectors(["some longer text"], encoder, tmp_path)
    for change in ({"max_tokens": 5}, {"precision": "bfloat16"}):
        other = Encoder(config.model_copy(update=change))
        vectors, known = cached_vectors(["some longer text"], other, tmp_path)
        assert known == 0
        np.testing.assert_array_equal(vectors, other.encode(["some longer text"]))
    _, known = cached_vectors(["some longer text"], encoder, tmp_path)
    assert known == 1


def _die_after_one_part(config, cache_dir):
    torch.set_num_threads(1)  # a forked process has none of its parent's other threads
    cache_module.CHUNK = 2

    def progress(done: int, total: int, message: str) -> None:
        if done > 2:  # the second chunk is encoded and not yet written
            os.kill(os.getpid(), signal.SIGKILL)

    cached_vectors(["a", "b", "c", "d", "e"], Encoder(config), cache_dir, progress)


def test_a_killed_run_goes_on_where_it_stopped(config, encoder, tmp_path):
    process = multiprocessing.get_context("fork").Process(
        target=_die_after_one_part, args=(config, tmp_path)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    told = Told()
    vectors, known = cached_vectors(["a", "b", "c", "d", "e"], encoder, tmp_path, told)
    assert (known, told.done[-1]) == (2, (3, 3))
    np.testing.assert_allclose(vectors, encoder.encode(["a", "b", "c", "d", "e"]), atol=1e-5)


def test_a_broken_part_is_named(encoder, tmp_path):
    cached_vectors(["a"], encoder, tmp_path)
    (part,) = parts(tmp_path)
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(KuberecError, match=rf"cannot read '{part}'.*delete the file"):
        cached_vectors(["a"], encoder, tmp_path)


@pytest.mark.parametrize("dim", [0, 3])
def test_vectors_survive_as_lists(dim):
    vectors = np.arange(2 * dim, dtype=np.float32).reshape(2, dim)
    column = cache_module.as_lists(vectors)
    assert column.type.value_type == pa.float32()
    assert column.to_pylist() == vectors.tolist()
