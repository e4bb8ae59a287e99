"""A gate's verdict: what a measuring step leaves in its report for the gate behind it.

A step that fails leaves nothing on a cluster but its log: Kubeflow uploads the artifacts of steps
that succeed. So the step that measures succeeds, and the gate after it reads the verdict and fails.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recommender.errors import KuberecError
from recommender.files import read_json

KEY, FILE = "verdict", "verdict.json"  # in a report that is a file, in one that is a folder
REPORT = "report: "  # the last line of a failed gate's message: where the report lies


def verdict(rows: Sequence[dict[str, Any]], failure: KuberecError | None) -> dict[str, Any]:
    """The report's part for the gate.

    Args:
        rows: {name, value, limit, passed}, one a check.
        failure: what the gate is to fail with; None if everything is as it should be.
    """
    return {"failed": str(failure) if failure else None, "rows": list(rows)}


def read_verdict(report: Path) -> dict[str, Any]:
    """The verdict in a report: a JSON file, or a folder with one beside the rest.

    Raises:
        KuberecError: there is none.
    """
    report = Path(report)
    try:
        found = read_json(report / FILE) if report.is_dir() else read_json(report)[KEY]
        return {"failed": found["failed"], "rows": list(found["rows"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KuberecError(
            f"report '{report}' has no verdict ({type(error).__name__}: {error}): without one "
            "nothing goes on; run the pipeline again with --no-cache"
        ) from error
