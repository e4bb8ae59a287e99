"""Publishing versions: into a folder that stands for a mounted claim, and into a real S3 server."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from damage import DAMAGES
from s3_server import s3_server
from tiny_version import catalogue, write_tiny_version

from feature_repo.store import service_name
from recommender.files import sha256_tree
from serving.kubernetes.model_store import StoreError, fetch_published, publish
from serving.triton.engine.record import install, plan_name
from serving.version import MANIFEST, REGISTRY, VersionError, load_version

pytestmark = pytest.mark.timeout(180)
BUCKET = "kuberec-models"
PUBLISH = (
    "import sys; from pathlib import Path; from serving.kubernetes.model_store import publish; "
    "publish(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), "
    "lambda m: print(m, flush=True))"
)


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_version(tmp_path_factory.mktemp("version") / "v1", catalogue(), "v1")


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    path = tmp_path / "registry.db"
    path.write_bytes(b"...recommend_v1...")
    return path


def test_a_claim_gets_the_whole_version_once(version: Path, registry: Path, tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    told: list[str] = []
    uri = publish(version, registry, "pvc://models/some/path", mount, told.append)
    assert uri == "pvc://models/some/path/v1"
    place = mount / "some" / "path" / "v1"
    expected = sha256_tree(version) | {REGISTRY: sha256_tree(registry.parent)["registry.db"]}
    assert sha256_tree(place) == expected
    assert load_version(place).version == "v1"
    modes = {path.stat().st_mode & 0o777 for path in place.rglob("*")}
    assert modes == {0o644, 0o755}
    before = place.stat().st_mtime_ns
    assert publish(version, None, "pvc://models/some/path/", mount, told.append) == uri
    assert told == [f"publishing to {uri}", f"{uri} is published already"]
    assert place.stat().st_mtime_ns == before
    assert [path.name for path in place.parent.iterdir()] == ["v1"]
    assert fetch_published(uri, mount, tmp_path) == place  # read where it is


def test_what_is_published_is_not_replaced(version: Path, registry: Path, tmp_path: Path) -> None:
    publish(version, registry, "pvc://models", tmp_path)
    other = write_tiny_version(tmp_path / "other" / "v1", catalogue(), "v1", seed=3)
    with pytest.raises(VersionError, match="pvc://models/v1 has other files than"):
        publish(other, registry, "pvc://models", tmp_path)
    (tmp_path / "v1" / "golden.json").write_text("[]")
    with pytest.raises(VersionError, match="pvc://models/v1 is damaged: ") as damaged:
        publish(version, registry, "pvc://models", tmp_path)
    assert "changed: golden.json" in str(damaged.value)


def test_an_old_draft_is_swept_and_a_young_one_is_somebodys(
    version: Path, registry: Path, tmp_path: Path
) -> None:
    old, young = tmp_path / ".v1.0000.partial", tmp_path / ".v1.1111.partial"
    for draft in (old, young):
        draft.mkdir()
    os.utime(old, (time.time() - 7200,) * 2)
    publish(version, registry, "pvc://models", tmp_path)
    assert (old.exists(), young.exists()) == (False, True)


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ("ftp://host/models", "'ftp' is not known; allowed: pvc://CLAIM"),
        ("/var/models", "not an address; allowed: pvc://CLAIM"),
        ("s3://", "not an address"),
        ("pvc://claim/../other", "not an address"),
        ("pvc://claim", "the claim 'claim' of the model store is not mounted at '/nowhere'"),
        ("gs://bucket/models", "the package 'gcsfs' is not installed"),
    ],
)
def test_wrong_stores(store: str, message: str, version: Path, registry: Path) -> None:
    with pytest.raises(StoreError, match=message):
        publish(version, registry, store, Path("/nowhere"))


def test_a_registry_is_needed_and_must_know_the_version(
    version: Path, registry: Path, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match="no feature registry to publish with pvc://models/v1"):
        publish(version, tmp_path / "none.db", "pvc://models", tmp_path)
    registry.write_bytes(b"recommend_v0")
    with pytest.raises(StoreError, match=f"has no FeatureService '{service_name('v1')}'"):
        publish(version, registry, "pvc://models", tmp_path)
    assert not (tmp_path / "v1").exists()


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A fsspec file system on moto's server."""
    with s3_server(tmp_path_factory.mktemp("s3")):
        import fsspec

        files = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
        files.mkdir(BUCKET)
        yield files


def test_a_bucket_gets_the_whole_version_once(
    s3: Any, version: Path, registry: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    uri = publish(version, registry, f"s3://{BUCKET}/once", say=told.append)
    assert uri == f"s3://{BUCKET}/once/v1"
    back = tmp_path / "back"
    s3.get(f"{BUCKET}/once/v1", str(back), recursive=True)
    assert sha256_tree(back) == sha256_tree(version) | {
        REGISTRY: sha256_tree(registry.parent)["registry.db"]
    }
    assert load_version(back).version == "v1"
    written = {
        info["name"]: info["LastModified"]
        for info in s3.ls(f"{BUCKET}/once/v1", True)
        if info["type"] == "file"
    }
    assert publish(version, None, f"s3://{BUCKET}/once", say=told.append) == uri
    assert told[-1] == f"{uri} is published already"
    assert written == {
        info["name"]: info["LastModified"]
        for info in s3.ls(f"{BUCKET}/once/v1", True)
        if info["type"] == "file"
    }
    copy = tmp_path / "copy"
    copy.mkdir()
    assert fetch_published(uri, None, copy) == copy
    assert sha256_tree(copy) == sha256_tree(version)
    other = write_tiny_version(tmp_path / "other" / "v1", catalogue(), "v1", seed=3)
    with pytest.raises(VersionError, match="has other files than"):
        publish(other, registry, f"s3://{BUCKET}/once")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bucket_whose_objects_were_changed_is_noticed_before_a_rollout(
    damage: str, s3: Any, version: Path, registry: Path, tmp_path: Path
) -> None:
    store = f"s3://{BUCKET}/changed {damage}"
    publish(version, registry, store)
    bad = shutil.copytree(version, tmp_path / "bad")
    DAMAGES[damage].does(bad)
    s3.rm(f"{store}/v1", recursive=True)
    shutil.copyfile(registry, bad / REGISTRY)
    s3.put(f"{bad}/", f"{store}/v1/", recursive=True)
    with pytest.raises(VersionError, match="is damaged") as damaged:
        publish(version, None, store)
    assert DAMAGES[damage].says in str(damaged.value)


def test_engines_come_to_a_bucket_with_their_version_and_later(
    s3: Any, version: Path, registry: Path, tmp_path: Path
) -> None:
    store, plan = f"s3://{BUCKET}/engines", plan_name("8.9")
    local = shutil.copytree(version, tmp_path / "v1")
    uri = publish(local, registry, store)
    (tmp_path / "engine.plan").write_bytes(b"an engine")
    install(local, tmp_path, tmp_path / "engine.plan", plan, {"version": "v1"})
    publish(local, None, store)
    assert s3.cat(f"{uri}/{plan}") == b"an engine"
    back = tmp_path / "back"
    s3.get(uri, str(back), recursive=True)
    assert load_version(back).version == "v1"
    s3.pipe(f"{uri}/{plan}", b"tampered")
    with pytest.raises(VersionError, match=f"changed: {plan}"):
        publish(local, None, store)


def test_a_killed_upload_is_no_version_and_is_completed(
    s3: Any, version: Path, registry: Path, tmp_path: Path
) -> None:
    store = f"s3://{BUCKET}/killed"
    command = [sys.executable, "-c", PUBLISH, version, registry, store, tmp_path]
    upload = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    assert upload.stdout is not None
    for line in upload.stdout:
        if "file 3 of" in line:  # some are there
            os.kill(upload.pid, signal.SIGKILL)
            break
    upload.wait()
    upload.stdout.close()
    there = s3.find(f"{BUCKET}/killed/v1")
    assert len(there) >= 2
    assert not any(name.endswith(MANIFEST) for name in there)
    publish(version, registry, store)
    back = tmp_path / "back"
    s3.get(f"{BUCKET}/killed/v1", str(back), recursive=True)
    assert load_version(back).version == "v1"


def test_a_bucket_that_is_not_there(s3: Any, version: Path, registry: Path) -> None:
    with pytest.raises(StoreError, match=r"no bucket s3://nobodys|refuses"):
        publish(version, registry, "s3://nobodys-bucket/models")


def test_an_s3_server_that_does_not_answer(
    version: Path, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    with pytest.raises(StoreError, match=r"s3://bucket/models/v1 refuses .*AWS_ENDPOINT_URL"):
        publish(version, registry, "s3://bucket/models")


def test_a_killed_copy_into_a_claim_is_no_version(
    version: Path, registry: Path, tmp_path: Path
) -> None:
    big = tmp_path / "big" / "v1"
    shutil.copytree(version, big)
    mount = tmp_path / "mount"
    mount.mkdir()
    command = [sys.executable, "-c", PUBLISH, big, registry, "pvc://models", mount]
    copy = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    assert copy.stdout is not None
    copy.stdout.readline()
    copy.kill()
    copy.wait()
    copy.stdout.close()
    # Killed before or after the rename: a version is there whole, or not at all.
    if (mount / "v1").exists():
        load_version(mount / "v1")
    publish(version, registry, "pvc://models", mount)
    assert load_version(mount / "v1").version == "v1"
