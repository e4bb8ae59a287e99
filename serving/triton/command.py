"""The command line of an embedded tritonserver."""

import uuid
from pathlib import Path
from typing import NamedTuple

from serving.ports import LOCAL
from serving.triton.environment import TritonEnvironment
from serving.triton.repository import ENSEMBLE, config_path

SHM_PREFIX = "shm-region-prefix-name="
# Triton waits this long for open client connections; requests under way are answered first.
EXIT_TIMEOUT_S = 3
_CACHE_BYTES = 64 * 2**20  # of all answers together, for a version that wants a response cache


class Ports(NamedTuple):
    """Where a server listens, on this machine only."""

    http: int
    grpc: int
    metrics: int


def server_command(
    environment: TritonEnvironment,
    models: Path,
    backends: Path,
    variant: str,
    ports: Ports,
    shm_prefix: str,
) -> list[str]:
    """What starts a server of `recommend` as the repository's config `variant` has it.

    Args:
        models, backends: the model repository and the backend folder, by names that a shell takes
            as they are (plain_paths.py).
        shm_prefix: names its shared memory, which is found by it also after a kill.
    """
    key = f"kuberec={uuid.uuid4().hex}"
    command = [
        str(environment.server),
        f"--model-repository={models}",
        f"--backend-directory={backends}",
        f"--model-config-name={variant}",
        # Only what serves is loaded: an ensemble brings its models, nothing else needs them.
        "--model-control-mode=explicit",
        f"--load-model={ENSEMBLE}",
        # That mode lets whoever reaches a port load models, with files of their own, and a page in
        # a browser may post to this machine's ports: hence a key, which nobody is told.
        f"--http-restricted-api=model-repository:{key}",
        f"--grpc-restricted-protocol=model-repository:{key}",
        "--disable-auto-complete-config",
        "--strict-readiness=true",
        f"--exit-timeout-secs={EXIT_TIMEOUT_S}",
        f"--http-address={LOCAL}",
        f"--http-port={ports.http}",
        f"--grpc-address={LOCAL}",
        f"--grpc-port={ports.grpc}",
        f"--metrics-address={LOCAL}",
        f"--metrics-port={ports.metrics}",
        "--allow-gpu-metrics=false",
        "--pinned-memory-pool-byte-size=0",
        f"--backend-config=python,{SHM_PREFIX}{shm_prefix}",
    ]
    if _wants_cache(models, variant):
        command += [
            f"--cache-directory={environment.caches}",
            f"--cache-config=local,size={_CACHE_BYTES}",
        ]
    return command


def _wants_cache(models: Path, variant: str) -> bool:
    from serving.triton.configs import read_config

    path = config_path(models, ENSEMBLE, variant)
    return path.is_file() and read_config(path).response_cache.enable
