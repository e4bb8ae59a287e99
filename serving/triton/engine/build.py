"""An engine for this machine's GPU, built, proved, and put beside the sealed version."""

import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recommender.agreement import Answers
from recommender.errors import KuberecError
from recommender.products import has_half_products
from serving.handover import answers, looked_up
from serving.links import FP32, SERVED, link_row, require_links, sealed_limits
from serving.triton.engine.builder import (
    SERVER_TENSORRT,
    Device,
    build,
    engine_answers,
    find_device,
)
from serving.triton.engine.graph import write_typed
from serving.triton.engine.plan import EnginePlan, Precision, plan_engine
from serving.triton.engine.record import EngineError, Entry, install, plan_name, read_engines
from serving.triton.repository import graph_path
from serving.version import ModelVersion, load_version

GATE = "engine"
Say = Callable[[str], None]


def build_engine(
    version_dir: Path,
    precision: Precision | None = None,
    workspace_mib: int | None = None,
    timing_cache: Path | None = None,
    say: Say = lambda message: None,
) -> Entry:
    """Build the engine of a version's ranker for this machine's GPU; done once.

    The version's golden requests are asked of it before it comes to the version, which is as it was
    whenever this fails or is killed.

    Args:
        version_dir: a sealed version, in a folder that can be written to, as its parent can.
        precision, workspace_mib: by default what the version's settings say (serving.triton.gpu).
        timing_cache: kept for the next build on the same kind of GPU.

    Returns:
        its entry in engines.json (`finish`).

    Raises:
        VersionError: the version is not as it was sealed. EngineError: no engine can be built here,
            or of this version. GateFailed: it answers too differently (export.parity.tensorrt).
    """
    say("verifying the model version's files")
    version = load_version(version_dir)
    plan = plan_engine(version, precision, workspace_mib, timing_cache)
    with tempfile.TemporaryDirectory(dir=version.directory.parent, prefix=".engine-") as folder:
        scratch = Path(folder)
        typed = scratch / "typed.onnx"
        sparse = write_typed(plan, typed)
        device = find_device()
        if device.capability not in plan.capabilities:
            raise EngineError(
                f"{device.name} has compute capability {device.capability}; the version's config "
                f"names engines for {', '.join(plan.capabilities)}: add it to COMPUTE_CAPABILITIES "
                "(serving/triton/configs.py) and export again, or serve it with "
                "--model-config-name=gpu"
            )
        name = plan_name(device.capability)
        about = _about(plan, device, sparse)
        there = read_engines(version.directory).get(name, {})
        done = "sha256" in there and "next" not in there  # else a build was killed
        if done and all(there.get(key) == value for key, value in about.items()):
            say(f"{name} is built already")
            return there
        if not device.tensorrt.startswith(f"{SERVER_TENSORRT}."):
            say(
                f"this is TensorRT {device.tensorrt}; Triton's image as pinned has "
                f"{SERVER_TENSORRT}, which loads engines of its own release alone"
            )
        say(f"building {name} in {plan.precision} for {device.name}: minutes")
        engine = build(plan, typed, sparse=bool(sparse))
        say("asking the golden requests of it")
        ids = golden_inputs(version)
        names = [each.tensor for each in plan.inputs]
        found = engine_answers(engine, plan, dict(zip(names, ids, strict=True)))
        return finish(version, plan, engine, found, name, about, scratch)


def golden_inputs(version: ModelVersion) -> tuple[Any, ...]:
    """The ranker's inputs for the version's golden requests, int64 [n, width] each."""
    asked = [each.asked() for each in version.golden()]
    return looked_up(graph_path(version.directory, "lookup"), asked)


def finish(
    version: ModelVersion,
    plan: EnginePlan,
    engine: bytes,
    found: Answers,
    name: str,
    about: Entry,
    scratch: Path,
) -> Entry:
    """Judge an engine by its answers to the golden requests, and put it into the version's folder.

    Args:
        found: what it answers to `golden_inputs`.
        name: its path in the version's folder.
        about: what engines.json says of it beside parity, checks, date and sha256.

    Raises:
        GateFailed: the link is off its limits; nothing was changed.
    """
    expected = answers(plan.exact, *golden_inputs(version))
    one = SERVED if has_half_products(plan.exact) else FP32
    row = link_row("tensorrt", one, f"TensorRT {plan.precision}", expected, found)
    checks = require_links(GATE, [row], sealed_limits(version))
    entry = about | {
        "parity": row,
        "checks": [check.as_dict() for check in checks],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    draft = scratch / "engine.plan"
    draft.write_bytes(engine)
    try:
        install(version.directory, scratch, draft, name, entry)
    except OSError as error:
        raise KuberecError(
            f"cannot write into '{version.directory}' ({error.strerror}): the version and its "
            "parent folder must be on one disk, and writable for this user"
        ) from error
    return read_engines(version.directory)[name]


def _about(plan: EnginePlan, device: Device, sparse: list[str]) -> Entry:
    """JSON-ready: what makes one engine another."""
    return {
        "version": plan.version,
        "gpu": device.name,
        "compute_capability": device.capability,
        "tensorrt": device.tensorrt,
        "precision": plan.precision,
        "graph_sha256": plan.graph_sha256,
        "workspace_bytes": plan.workspace_bytes,
        "sparse_weights": sparse,
        "profile": {
            each.tensor: [list(each.minimum), list(each.optimum), list(each.maximum)]
            for each in plan.inputs
        },
    }
