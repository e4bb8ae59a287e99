"""The image string of a step: what the pipeline's cache takes for the step's code."""

import functools
import hashlib
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMAGE_VARIABLE = "KUBEREC_IMAGE"


@functools.cache
def source_hash(*rooms: str) -> str:
    """16 hex digits of the files of the named packages and of the locked dependencies."""
    digest = hashlib.sha256()
    files = [path for room in sorted(rooms) for path in sorted((ROOT / room).rglob("*"))]
    locks = ["main", *(["triton"] if "serving" in rooms else [])]
    for path in [*files, *(ROOT / "requirements" / f"{lock}.txt" for lock in locks)]:
        if path.is_file() and path.suffix != ".pyc":
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def image(*rooms: str) -> str:
    """The base image of a step that uses the named packages.

    In a cluster it is the pipeline's image, by digest, from the environment variable KUBEREC_IMAGE.
    Without one (a local run uses no image) the string carries a hash of the packages' sources, so
    that a cached result is reused until a package behind it changes.
    """
    return os.environ.get(IMAGE_VARIABLE) or f"kuberec/pipeline-python:{source_hash(*rooms)}"
