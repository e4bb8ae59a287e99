"""`training.compile`: the backbone's forward and backward pass as compiled kernels."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch

from recommender.errors import KuberecError
from recommender.model import SequentialRecommender


@contextmanager
def compiled(model: SequentialRecommender, wanted: bool, device: str) -> Iterator[None]:
    """Run the block with `model.encode` compiled, if `wanted`.

    Lengths differ from batch to batch, so shapes are dynamic: compiled once or twice, not for each.

    Raises:
        KuberecError: there is no compiler, or it fails.
    """
    if not wanted:
        yield
        return
    _require_compiler(device)
    from torch._dynamo.exc import TorchDynamoException

    model.encode = torch.compile(model.encode, dynamic=True)  # type: ignore[method-assign]
    try:
        yield
    except TorchDynamoException as error:
        said = str(error).strip().splitlines()[0]
        raise KuberecError(
            f"training.compile: this model could not be compiled on '{device}': {said}; set "
            "training.compile: false"
        ) from error
    finally:
        del model.encode


def _require_compiler(device: str) -> None:
    from torch._inductor import config

    if device == "cuda":
        if find_spec("triton") is None:
            raise KuberecError(
                "training.compile needs the package triton, which torch's CUDA wheels bring: "
                "install it, or set training.compile: false"
            )
        return
    configured = config.cpp.cxx
    names = configured if isinstance(configured, (list, tuple)) else [configured]
    if not any(shutil.which(name) for name in names if name):
        raise KuberecError(
            "training.compile needs a C++ compiler on a CPU, and none of "
            f"{', '.join(str(name) for name in names if name)} is there: install g++, name one in "
            "the variable CXX, or set training.compile: false"
        )
