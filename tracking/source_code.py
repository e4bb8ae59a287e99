"""Which code made a run: git's commit and whether there were changes beside it."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REVISION_VARIABLE = "KUBEREC_REVISION"  # in an image, which has no checkout; `-dirty` at its end


def code_tags() -> dict[str, str]:
    """Tags `git.sha` and `git.dirty`, of the checkout, or else of the image.

    "unknown" where git reads none and nothing says of what commit the image is.
    """
    # A checkout that is mounted into a container is not what its image was made of.
    revision = _revision() or os.environ.get(REVISION_VARIABLE) or "unknown"
    sha = revision.removesuffix("-dirty")
    dirty = str(revision.endswith("-dirty")).lower() if sha != "unknown" else sha
    tags = {"git.sha": sha, "git.dirty": dirty}
    # Where MLflow's own pages look for it.
    return tags if sha == "unknown" else tags | {"mlflow.source.git.commit": sha}


def _revision() -> str:
    if not (ROOT / ".git").exists():
        return ""  # a repository around an installed package is not its own
    try:
        return _git("rev-parse", "HEAD") + ("-dirty" if _git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout.strip()
