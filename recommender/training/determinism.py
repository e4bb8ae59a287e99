"""`training.deterministic`: what to do where an operation cannot be."""

from collections.abc import Iterator
from contextlib import contextmanager

from recommender.errors import KuberecError
from recommender.settings import TrainingConfig

_TORCH_SAYS = "does not have a deterministic implementation"


@contextmanager
def explained_determinism(config: TrainingConfig) -> Iterator[None]:
    """Turn torch's refusal in the block into a KuberecError that names the knob."""
    try:
        yield
    except RuntimeError as error:
        if not config.deterministic or _TORCH_SAYS not in str(error):
            raise
        operation = str(error).split(_TORCH_SAYS)[0].strip()
        raise KuberecError(
            f"training.deterministic: {operation} cannot be deterministic on this device: set "
            "training.deterministic: false, or train on a CPU"
        ) from error
