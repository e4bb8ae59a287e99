"""Object stores and the like, by fsspec: opening one, and what lies in it."""

from collections.abc import Callable
from glob import has_magic
from typing import Any

from ingestion.errors import IngestError
from ingestion.reading.settings import StorageConfig
from ingestion.reading.table import is_url


def filesystem(url: str, storage: StorageConfig) -> Any:
    """The fsspec file system of a URL.

    Raises:
        IngestError: fsspec has none for it, or its package is not installed.
    """
    import fsspec

    protocol = url.partition("://")[0]
    options: dict[str, Any] = {"use_listings_cache": False}
    if protocol in ("s3", "s3a"):
        options["anon"] = storage.anon
        client = {"endpoint_url": storage.endpoint(), "region_name": storage.region}
        if given := {name: value for name, value in client.items() if value is not None}:
            options["client_kwargs"] = given
    try:
        return fsspec.filesystem(protocol, **options)
    except ImportError as error:
        raise IngestError(f"'{url}' cannot be opened: {error}") from error
    except ValueError as error:
        known = ", ".join(f"{name}://" for name in ("s3", "gs", "az", "https", "hdfs"))
        raise IngestError(
            f"'{url}': there is no file system '{protocol}'; some that there are: {known}"
        ) from error


def list_store(
    url: str, storage: StorageConfig, wanted: Callable[[list[str]], list[str]]
) -> dict[str, list[str]]:
    """URLs of the files that `url`, a file, folder or pattern, means: what changes when they do.

    Args:
        wanted: those of a folder's files, by their paths in it, that are meant.

    Raises:
        IngestError: as `filesystem`.
        Exception: whatever the store's client raises.
    """
    return {name: _version(info) for name, info in _listed(url, storage, wanted).items()}


def _listed(
    url: str, storage: StorageConfig, wanted: Callable[[list[str]], list[str]]
) -> dict[str, dict[str, Any]]:
    """URL: what the store knows of it."""
    files = filesystem(url, storage)
    protocol, _, rest = url.partition("://")

    def full(name: str) -> str:
        return name if is_url(name) else f"{protocol}://{name.lstrip('/')}"

    if has_magic(rest):
        return {
            full(name): info
            for name, info in files.glob(url, detail=True).items()
            if info["type"] == "file"
        }
    try:
        info = files.info(url)
    except FileNotFoundError as error:
        if isinstance(error.__cause__, OSError):  # a web server that did not answer at all
            raise error.__cause__ from None
        return {}
    if info["type"] != "directory":
        return {url: info}
    base = str(files._strip_protocol(url)).rstrip("/") + "/"
    below = {
        str(name).removeprefix(base): info
        for name, info in files.find(url, detail=True).items()
        if info.get("type", "file") == "file"
    }
    return {full(base + name): below[name] for name in wanted(list(below))}


def _version(info: dict[str, Any]) -> list[str]:
    """What changes when a remote file does."""
    size = str(info.get("size"))
    for key in ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "mtime", "updated"):
        if info.get(key) is not None:
            return [size, str(info[key])]
    return [size]
