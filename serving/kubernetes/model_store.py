"""Publishing: a model version into the store that a cluster's pods load it from.

A version lies at <store>/<version>, with the feature registry beside its files, so that a pod
needs this folder and the online store, nothing else. Published is published: a version that is
there whole is left alone, since pods may be reading it.
"""

import contextlib
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from feature_repo.store import service_name
from recommender.errors import KuberecError
from recommender.files import ensure_writable
from serving.triton.engine.record import ENGINES, bring, brought_anew, install, read_engines
from serving.version import MANIFEST, REGISTRY, ModelVersion, VersionError, load_version

Say = Callable[[str], None]
_ALLOWED = "pvc://CLAIM[/PATH], s3://BUCKET[/PATH], gs://, abfs:// or hdfs://"
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "abfs": "adlfs", "hdfs": "pyarrow"}
_LEFT_BEHIND_S = 3600.0  # a draft that nobody has touched for so long is a killed copy's
_CHUNK = 1 << 20


class StoreError(KuberecError):
    """A model store that cannot be written, or that holds something else."""


def publish(
    version_dir: Path,
    registry: Path | None,
    store: str,
    mount: Path | None = None,
    say: Say | None = None,
) -> str:
    """Put a model version where a cluster can load it; once, however often this is run.

    A kill leaves nothing that could be taken for a version: a folder gets its name, and an object
    store its kuberec.json, when all else is there and has been read back.

    Args:
        version_dir: a sealed version.
        registry: a snapshot of the Feast registry; None only if the version is published already.
        store: pvc://claim/path, or an address for fsspec such as s3://bucket/path. Credentials
            come from the environment (for S3 AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for
            another host than Amazon's, AWS_ENDPOINT_URL).
        mount: where a pvc:// store's claim is mounted here.

    Returns:
        The version's storageUri.

    Raises:
        VersionError: the version is not as it was sealed, or the store has another one of its id.
        StoreError: no registry, a wrong address, or the store refuses.
    """
    say = say or (lambda message: None)
    scheme, base = _parse(store)
    version = load_version(version_dir)
    uri = f"{store.rstrip('/')}/{version.version}"
    if scheme == "pvc":
        claim, _, path = base.partition("/")
        place = _mounted(claim, mount) / path
        _publish_to_folder(version, registry, place / version.version, uri, say)
    else:
        with _errors_of(uri):
            _publish_to_objects(version, registry, scheme, uri, say)
    return uri


def fetch_published(uri: str, mount: Path | None, folder: Path) -> Path:
    """A published version as a folder here, verified: of a pvc:// store the mounted one itself.

    Args:
        uri: as `publish` returned it.
        mount: where a pvc:// store's claim is mounted here.
        folder: an existing, empty folder for what has to be copied.

    Raises:
        VersionError: it is not as it was sealed. StoreError: it cannot be read.
    """
    scheme, base = _parse(uri)
    if scheme == "pvc":
        claim, _, path = base.partition("/")
        return _load_published(_mounted(claim, mount) / path, uri).directory
    with _errors_of(uri):
        files = _file_system(scheme, uri)
        root = uri.partition("://")[2]
        for name in [*_read_remote(files, root, uri).files, MANIFEST]:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            files.get_file(f"{root}/{name}", str(target))
    return _load_published(folder, uri).directory


def _parse(store: str) -> tuple[str, str]:
    """Scheme and the rest of a store's address."""
    scheme, separator, base = store.partition("://")
    path = PurePosixPath(base)
    if not separator or not base.strip("/") or base.startswith("/") or ".." in path.parts:
        raise StoreError(f"model store '{store}': not an address; allowed: {_ALLOWED}")
    if scheme != "pvc" and scheme not in _PACKAGES:
        raise StoreError(f"model store '{store}': '{scheme}' is not known; allowed: {_ALLOWED}")
    return scheme, base.rstrip("/")


def _mounted(claim: str, mount: Path | None) -> Path:
    if mount is None or not Path(mount).is_dir():
        raise StoreError(
            f"the claim '{claim}' of the model store is not mounted at '{mount}': mount it there, "
            "name the folder where it is (serving.kubernetes.model_store_mount, or `kuberec "
            "deploy --mount`), or use an s3:// store"
        )
    return Path(mount)


def _publish_to_folder(
    version: ModelVersion, registry: Path | None, target: Path, uri: str, say: Say
) -> None:
    if target.exists():
        _check_same(version, _load_published(target, uri), uri)
        if not (target / REGISTRY).is_file():
            _need_registry(registry, uri)
            _copy(Path(str(registry)), target, REGISTRY)
        say(f"{uri} is published already")
        _bring_engines(version.directory, target, uri, say)
        return
    _need_registry(registry, uri)
    ensure_writable(target.parent)
    _sweep(target)
    draft = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.partial"
    say(f"publishing to {uri}")
    try:
        draft.mkdir()
        for name in [*version.files, MANIFEST]:
            _copy(version.directory / name, draft, name)
        _copy(Path(str(registry)), draft, REGISTRY)
        for folder in [draft, *(path for path in draft.rglob("*") if path.is_dir())]:
            folder.chmod(0o755)  # pods of another user read it
            _flush(folder)
        load_version(draft)  # every file read back
        with contextlib.suppress(OSError):  # somebody else's copy of it came first
            draft.rename(target)
        _flush(target.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    _check_same(version, _load_published(target, uri), uri)
    _bring_engines(version.directory, target, uri, say)


def _bring_engines(local: Path, target: Path, uri: str, say: Say) -> None:
    """TensorRT engines that were built here since, into a published version's folder."""
    missing = brought_anew(local, read_engines(target))
    if not missing:
        return
    scratch = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        for name, entry in missing.items():
            say(f"publishing to {uri}: {name}")
            _copy(local / name, scratch, "engine.plan")
            install(target, scratch, scratch / "engine.plan", name, entry)
        (target / ENGINES).chmod(0o644)
        _flush(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _load_published(target, uri)


def _load_published(target: Path, uri: str) -> ModelVersion:
    try:
        return load_version(target)
    except VersionError as error:
        raise VersionError(
            f"{uri} is damaged: {error}\nIf no pod uses it, delete the folder and publish again."
        ) from error


def _copy(source: Path, folder: Path, name: str) -> None:
    """A file under `folder`, by a temporary name, on the disk before it has its own."""
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        shutil.copyfile(source, draft)
        draft.chmod(0o644)
        _flush(draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(target: Path) -> None:
    """Drop what killed copies of this version left; a claim is shared by pods of many names."""
    for left in target.parent.glob(f".{target.name}.*.partial"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _LEFT_BEHIND_S:
                shutil.rmtree(left)


def _publish_to_objects(
    version: ModelVersion, registry: Path | None, scheme: str, uri: str, say: Say
) -> None:
    files = _file_system(scheme, uri)
    root = uri.partition("://")[2]
    if files.exists(f"{root}/{MANIFEST}"):
        _check_same(version, _read_remote(files, root, uri), uri)
        _verify_remote(files, root, uri)
        say(f"{uri} is published already")
        _upload_engines(version.directory, files, root, uri, say)
        return
    _need_registry(registry, uri)
    sources = {name: version.directory / name for name in version.files}
    sources[REGISTRY] = Path(str(registry))
    for done, (name, source) in enumerate(sources.items()):
        say(f"publishing to {uri}: file {done + 1} of {len(sources)}, {name}")
        _upload(files, source, root, name, uri)
    _upload_engines(version.directory, files, root, uri, say)
    # Last: whoever sees it, finds all the rest.
    files.put_file(str(version.directory / MANIFEST), f"{root}/{MANIFEST}")


def _upload(files: Any, source: Path, root: str, name: str, uri: str) -> None:
    files.put_file(str(source), f"{root}/{name}")
    if not _same_content(files, f"{root}/{name}", source):
        raise StoreError(f"{uri}/{name} does not read back as it was written: try again")


def _upload_engines(local: Path, files: Any, root: str, uri: str, say: Say) -> None:
    """TensorRT engines that were built here since, beside a published version's objects."""
    record = f"{root}/{ENGINES}"
    there = json.loads(files.cat_file(record))["engines"] if files.exists(record) else {}
    for name, entry in brought_anew(local, there).items():
        say(f"publishing to {uri}: {name}")
        there = bring(
            there,
            name,
            entry,
            lambda entries: files.pipe_file(record, json.dumps({"engines": entries}).encode()),
            partial(_upload, files, local / name, root, name, uri),
        )


def _verify_remote(files: Any, root: str, uri: str) -> None:
    """Every object that pods would load, read here: what a store has may have been changed."""
    with tempfile.TemporaryDirectory(prefix="kuberec-published-") as folder:
        for path in files.find(root):
            target = Path(folder) / path.removeprefix(f"{root}/")
            target.parent.mkdir(parents=True, exist_ok=True)
            files.get_file(path, str(target))
        _load_published(Path(folder), uri)


def _file_system(scheme: str, uri: str) -> Any:
    import fsspec

    try:
        # Without the listings of a while ago: whether a version is there is asked, not remembered.
        return fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True)
    except ImportError as error:
        raise StoreError(
            f"model store '{uri}': the package '{_PACKAGES[scheme]}' is not installed; add it to "
            "the image, or use an s3:// or pvc:// store"
        ) from error


def _read_remote(files: Any, root: str, uri: str) -> ModelVersion:
    try:
        return ModelVersion.model_validate(json.loads(files.cat_file(f"{root}/{MANIFEST}")))
    except ValueError as error:
        raise VersionError(
            f"{uri}/{MANIFEST} is no model version's manifest: delete the prefix and publish again"
        ) from error


def _same_content(files: Any, remote: str, local: Path) -> bool:
    """Read both; both in pieces, since a model may be large."""
    with files.open(remote, "rb", block_size=8 * _CHUNK) as there, local.open("rb") as here:
        while True:
            one, other = there.read(8 * _CHUNK), here.read(8 * _CHUNK)
            if one != other:
                return False
            if not one:
                return True


def _check_same(version: ModelVersion, published: ModelVersion, uri: str) -> None:
    if published.files != version.files:
        raise VersionError(
            f"{uri} has other files than '{version.directory}': an id must belong to one content; "
            "publish to another store (serving.kubernetes.model_store)"
        )


def _need_registry(registry: Path | None, uri: str) -> None:
    """The registry is there, and knows the version: its pods could not read features else."""
    service = service_name(uri.rpartition("/")[2])
    if registry is not None and Path(registry).is_file():
        if service.encode() in Path(registry).read_bytes():
            return
        raise StoreError(
            f"the feature registry '{registry}' has no FeatureService '{service}': materialise the "
            "features for this version first"
        )
    raise StoreError(
        f"no feature registry to publish with {uri} (looked for '{registry}'): materialise "
        "the features first, or name a registry (`kuberec deploy --registry`)"
    )


@contextlib.contextmanager
def _errors_of(uri: str) -> Iterator[None]:
    """What the libraries of object stores raise, as one message."""
    try:
        yield
    except KuberecError:
        raise
    except FileNotFoundError as error:
        bucket = "/".join(uri.split("/")[:3])
        raise StoreError(f"no bucket {bucket} ({error}): create it, or correct the address") from (
            error
        )
    except Exception as error:  # each library has its own
        raise StoreError(
            f"model store {uri} refuses ({type(error).__name__}: {error}): for S3 check "
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL"
        ) from error
