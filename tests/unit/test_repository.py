"""The model repository's files and the manifest that seals them."""

import json
from pathlib import Path

import onnx
import pytest
from tiny_version import (
    MAX_LENGTH,
    MAX_SEEN,
    K,
    build_tiny_ranker,
    catalogue,
    write_tiny_repository,
    write_tiny_version,
)

from recommender.files import write_json
from recommender.string_graphs import build_decode, build_lookup
from serving.settings import TritonConfig
from serving.triton.repository import write_repository
from serving.version import VersionError, load_version


def test_layout_and_configs(tmp_path: Path) -> None:
    repository = write_tiny_repository(
        tmp_path / "repository", catalogue(), config=TritonConfig(max_batch_size=32)
    )
    files = sorted(p.relative_to(repository).as_posix() for p in repository.rglob("*.*"))
    assert files == [
        "decode/1/model.onnx",
        "decode/config.pbtxt",
        "lookup/1/model.onnx",
        "lookup/config.pbtxt",
        "ranker/1/model.onnx",
        "ranker/config.pbtxt",
        "recommend/1/.keep",
        "recommend/config.pbtxt",
    ]
    lookup = (repository / "lookup/config.pbtxt").read_text()
    # The C++ backend refuses an optional input in a batching model.
    assert "max_batch_size: 0\n" in lookup
    assert 'name: "exclude" data_type: TYPE_STRING dims: [ -1, -1 ] optional: true' in lookup
    ranker = (repository / "ranker/config.pbtxt").read_text()
    assert "max_batch_size: 32\n" in ranker
    assert "dynamic_batching" in ranker
    assert "batch_size: 32\n" in ranker
    assert f'name: "history_ids" data_type: TYPE_INT64 dims: [ {MAX_LENGTH} ]' in ranker
    assert f'name: "seen_ids" data_type: TYPE_INT64 dims: [ {MAX_SEEN} ]' in ranker
    ensemble = (repository / "recommend/config.pbtxt").read_text()
    assert f'name: "scores" data_type: TYPE_FP32 dims: [ {K} ]' in ensemble


def test_gpu_ranker_keeps_string_models_on_the_cpu(tmp_path: Path) -> None:
    repository = write_tiny_repository(
        tmp_path / "repository", catalogue(), config=TritonConfig(ranker_kind="gpu")
    )
    assert "KIND_GPU" in (repository / "ranker/config.pbtxt").read_text()
    assert "KIND_CPU" in (repository / "lookup/config.pbtxt").read_text()


def test_graphs_that_do_not_fit_are_named(tmp_path: Path) -> None:
    onnx.save(build_lookup(catalogue(), MAX_LENGTH, MAX_SEEN + 1), tmp_path / "lookup.onnx")
    onnx.save(build_tiny_ranker(40), tmp_path / "ranker.onnx")
    onnx.save(build_decode(catalogue(), K), tmp_path / "decode.onnx")
    with pytest.raises(ValueError, match="ranker: 'seen_ids' is 24 wide, its neighbour 25"):
        write_repository(
            tmp_path / "out", *(tmp_path / f"{n}.onnx" for n in ("lookup", "ranker", "decode"))
        )
    assert not (tmp_path / "out").exists()


def test_a_sealed_version_verifies(tmp_path: Path) -> None:
    directory = write_tiny_version(tmp_path / "v", catalogue(), version="0123456789ab")
    version = load_version(directory)
    assert (version.version, version.k, version.max_length) == ("0123456789ab", K, MAX_LENGTH)
    assert "golden.json" in version.files
    assert "kuberec.json" not in version.files
    assert version.golden()[0].item_ids


def test_changed_missing_and_added_files_are_named(tmp_path: Path) -> None:
    directory = write_tiny_version(tmp_path / "v", catalogue(), version="0123456789ab")
    with (directory / "ranker/1/model.onnx").open("ab") as stream:
        stream.write(b"x")
    (directory / "golden.json").unlink()
    (directory / "stray").mkdir()
    (directory / "stray/config.pbtxt").touch()
    with pytest.raises(VersionError) as error:
        load_version(directory)
    assert "changed: ranker/1/model.onnx" in str(error.value)
    assert "missing: golden.json" in str(error.value)
    assert "not part of it: stray/config.pbtxt" in str(error.value)


def test_not_a_version(tmp_path: Path) -> None:
    with pytest.raises(VersionError, match=r"has no kuberec\.json"):
        load_version(tmp_path)
    (tmp_path / "kuberec.json").write_text("{")
    with pytest.raises(VersionError, match="is not readable"):
        load_version(tmp_path)
    write_json(tmp_path / "kuberec.json", {"version": "0123456789ab"})
    with pytest.raises(VersionError, match="k: Field required"):
        load_version(tmp_path)


def test_version_id_is_checked(tmp_path: Path) -> None:
    directory = write_tiny_version(tmp_path / "v", catalogue(), version="0123456789ab")
    manifest = json.loads((directory / "kuberec.json").read_text())
    write_json(directory / "kuberec.json", manifest | {"version": "../../etc"})
    with pytest.raises(VersionError, match="version"):
        load_version(directory)
