"""A gate: fails the run, with the message of the step that measured, if its verdict says so.

One small step behind each that measures, and before everything that depends on it.
"""

import copy
from typing import Any

from kfp import dsl

from components.image import image
from components.step import GATE_SUFFIX


@dsl.component(base_image=image("components", "recommender"), install_kfp_package=False)
def gate(name: str, report: dsl.Input[dsl.Artifact]) -> None:
    """Print the checks of a report, and fail unless all passed.

    Args:
        name: the gate's, for its progress lines.
        report: of the step that measured; see components/verdict.py.
    """
    from pathlib import Path

    from components.step import step
    from components.verdict import REPORT, read_verdict
    from recommender.errors import Check, KuberecError, table

    with step(name) as progress:
        found = read_verdict(Path(report.path))
        if found["failed"] is not None:
            raise KuberecError(f"{found['failed']}\n{REPORT}{report.uri}")
        checks = [Check(**row) for row in found["rows"]]
        print("\n".join(table(checks)), flush=True)
        # An operator may promote a canary before all is known of it.
        passed = sum(check.passed for check in checks)
        of = "" if passed == len(checks) else f" of {len(checks)}"
        progress(1, 1, f"{passed}{of} checks passed")


def gate_behind(step: str, report: Any) -> dsl.PipelineTask:
    """The task `<step>-gate`, which reads `report`; never from the cache.

    Kubeflow names tasks after their components, so each gets a component of its own name.
    """
    named = copy.deepcopy(gate)
    named.name = named.component_spec.name = name = f"{step}{GATE_SUFFIX}"
    return named(name=name, report=report).set_caching_options(False)
