"""The manifest that seals a model version."""

import json
from pathlib import Path

import pytest
from tiny_version import MAX_LENGTH, K, catalogue, write_tiny_version

from recommender.files import write_json
from serving.version import VersionError, load_version


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
