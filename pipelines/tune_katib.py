"""The search as a manifest for a cluster: its pods get what the run's train step gets."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from pipelines.cluster.placement import nodes_plan
from pipelines.cluster_settings import ClusterConfig
from pipelines.options import console
from recommender.files import atomic_file
from tuning.base import Base
from tuning.katib import TrialPod, experiment
from tuning.settings import TuningConfig
from tuning.space import Parameter


def write_experiment(
    target: Path,
    cluster: ClusterConfig,
    name: str,
    tuning: TuningConfig,
    space: Sequence[Parameter],
    base: Base,
    windows: Path | None,
    vectors: Path | None,
    *,
    parallel: int,
) -> None:
    """Write the Experiment to `target`; `-`: print it.

    Args:
        windows, vectors: in the pods; by default tuning/ of the workspace, the claim that the
            pipeline's steps share.
    """
    plan = nodes_plan(cluster).model_dump()
    pod = TrialPod.model_validate({field: plan[field] for field in TrialPod.model_fields})
    inputs = Path(cluster.workspace.path) / "tuning"
    windows, vectors = windows or inputs / "windows", vectors or inputs / "item_vectors"
    content = experiment(
        name,
        tuning,
        space,
        base,
        pod,
        windows.as_posix(),
        vectors.as_posix(),
        parallel=parallel,
        namespace=cluster.namespace,
    )
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
    if str(target) == "-":
        print(text, end="")
        return
    with atomic_file(target) as draft:
        draft.write_text(text, encoding="utf-8")
    console.print(
        f"written: {target}\n"
        f"its trials read {windows} and {vectors} on the claim '{pod.claim}'\n"
        f"start it: kubectl create -f {target}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
