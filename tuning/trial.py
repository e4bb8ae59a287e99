"""One trial: train with a changed config and print its validation NDCG@10 after each epoch.

    python -m tuning.trial --windows DIR --vectors DIR --base FILE --set model.dim=128 ...

The local search runs this command in processes of its own, and Katib in containers. A line of the
output, as Katib's collectors read it:

    2026-01-31T12:00:00.123Z epoch=3 train_loss=6.041 valid_hr_at_10=0.21 valid_ndcg_at_10=0.1127

Everything else goes to stderr. What follows `=` in such a line must be a number: Katib's collector
dies of any other. The test split is never scored.
"""

import argparse
import math
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recommender.errors import KuberecError
from tuning.base import Base, Refused, read_value

OBJECTIVE = "valid_ndcg_at_10"
# Our names (Katib's have no @) of what is in a row of the curves.
REPORTED = {"train_loss": "train_loss", "hr@10": "valid_hr_at_10", "ndcg@10": OBJECTIVE}
GO_ON, STOP = "go on", "stop"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 also for a config that is refused, which scores 0.

    That a combination is worth nothing is what a search has to learn. To Katib a failure or a
    trial without a number would count towards the end of the experiment instead.
    """
    options = _parser().parse_args(arguments)
    try:
        values = dict(_assignment(text) for text in options.set)
        try:
            config = Base.read(options.base).with_values(values)
        except Refused as refusal:
            print(f"refused: {refusal}", file=sys.stderr)
            tell({"ndcg@10": 0.0})
            return 0
        train(
            config, options.windows, options.vectors, ask_whether_to_stop if options.ask else None
        )
    except KuberecError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def train(
    config: Base,
    windows: Path,
    vectors: Path,
    stop: Callable[[int, Mapping[str, float]], bool] | None = None,
) -> dict[str, Any]:
    """Train and print; the model is thrown away. Returns the content of training.json."""
    from recommender.training.fit import fit

    with tempfile.TemporaryDirectory(prefix="kuberec-trial-") as folder:
        return fit(
            windows,
            vectors,
            config.model,
            config.training,
            Path(folder) / "model",
            progress=_progress,
            log=lambda _, row: tell(row),
            stop=stop,
        )


def tell(row: Mapping[str, float]) -> None:
    """Print a row of the curves for whoever collects it."""
    moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    numbers = [f"epoch={row['epoch']:d}"] if "epoch" in row else []
    for key, name in REPORTED.items():
        if math.isfinite(row.get(key, math.nan)):
            numbers.append(f"{name}={row[key]:.6f}")
    print(moment, *numbers, flush=True)


def ask_whether_to_stop(_: int, __: Mapping[str, float]) -> bool:
    """Wait for the search's word on the epoch that was told; a search that is gone says stop."""
    return sys.stdin.readline().strip() != GO_ON


def _progress(done: int, total: int, message: str = "") -> None:
    print(f"epoch {done}/{total} {message}", file=sys.stderr, flush=True)


def _assignment(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator or "." not in key:
        raise KuberecError(f"--set '{text}': write it as section.key=value")
    return key, read_value(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tuning.trial", description=main.__doc__)
    parser.add_argument("--windows", type=Path, required=True, help="folder of windows.parquet")
    parser.add_argument("--vectors", type=Path, required=True, help="folder of vectors.parquet")
    parser.add_argument(
        "--base", required=True, help="a run's YAML, or JSON text, with the model and training"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="what differs; repeatable"
    )
    parser.add_argument(
        "--ask", action="store_true", help=f"read '{GO_ON}' or '{STOP}' from stdin after each epoch"
    )
    return parser


if __name__ == "__main__":
    # Ended early, by Katib or by us: what is open is closed, and no temporary folder stays.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
