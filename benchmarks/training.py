"""`make bench-training`: how soon a model is good, beside RecBole's SASRec.

    python -m benchmarks.training DATA [--target 0.1] [--seconds 600] [--seed 42 1 2]

DATA is MovieLens-1M in SASRec's layout (benchmarks.sequence_data); nothing of it is copied. Both
sides have the same sequences and split (leave-one-out), width, layers, heads, inner width, length,
dropout, full softmax over all items, ids alone, and threads; each has an optimiser, a batch size
and a way of making samples of its own: that is what is compared. RecBole 1.2.1 is in an
environment of its own, on the same version of torch.

Both are judged by one code: full ranking over all items, history masked, ties against the item.
They train in turns, a stretch each, and never both at once; ours with several seeds, one after
the other. Clocks: seconds of training, without set-up; processor_s, what the process used in that
time, which depends less on what else runs, with ours also what its set-up used. Ours run on during
its own validation after each epoch, RecBole's stand still while it is measured.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.machine import RESULTS, keep
from benchmarks.sequence_data import read_sequences
from benchmarks.training_figures import finding, reached, samples_per_s, to_quality
from benchmarks.training_sides import Judge, Side, write_data
from recommender.settings import ModelConfig, TrainingConfig

ROOT = Path(__file__).parents[1]
TARGETS = (0.02, 0.04, 0.06, 0.08, 0.1, 0.12)
PACKAGES = ("torch", "numpy", "lightning")


def recbole_settings(model: ModelConfig, batch_size: int, learning_rate: float) -> dict[str, Any]:
    """RecBole's names for the same model and protocol."""
    return {
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "TIME_FIELD": "timestamp",
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": model.max_length,
        "hidden_size": model.dim,
        "inner_size": model.feedforward * model.dim,
        "n_layers": model.layers,
        "n_heads": model.heads,
        "hidden_dropout_prob": model.dropout,
        "attn_dropout_prob": model.dropout,
        "loss_type": "CE",
        "train_neg_sample_args": None,
        "train_batch_size": batch_size,
        "learning_rate": learning_rate,
        "eval_args": {
            "split": {"LS": "valid_and_test"},
            "group_by": "user",
            "order": "TO",
            "mode": "full",
        },
        "metrics": ["NDCG", "Hit"],
        "topk": [10],
        "valid_metric": "NDCG@10",
        "seed": 42,
        "use_gpu": False,
        "show_progress": False,
        "state": "ERROR",
    }


def samples_an_epoch(lengths: list[int], length: int) -> int:
    """Next items that an epoch of ours learns from: recommender.sequences.epoch_windows, counted.

    Args:
        lengths: of the training histories.
        length: `model.max_length`.
    """
    return sum(
        n - 1 if n <= length + 1 else -(-n // (length + 1)) * length for n in lengths if n > 1
    )


def turns(peer: Side, starts: list[Any], target: float, seconds: float) -> list[Side]:
    """Train until both have reached `target`, or have had `seconds`; ours, a side a seed."""
    done: list[Side] = []
    own: Side | None = None
    peer_goes_on = True
    while peer_goes_on or own or starts:
        if own is None and starts:
            own = starts.pop(0)()
        clock = own.rows[-1]["seconds"] if own and own.rows else 0.0
        spent = clock + sum(side.rows[-1]["seconds"] for side in done)
        peer_spent = peer.rows[-1]["seconds"] if peer.rows else 0.0
        # Whose turn it is: who has trained less so far.
        if peer_goes_on and (own is None or peer_spent <= spent):
            row = peer.advance()
            tell(peer.name, row)
            peer_goes_on = row["ndcg@10"] < target and row["seconds"] < seconds
        elif own:
            row = own.advance()
            tell(own.name, row)
            if row["ndcg@10"] >= target or row["seconds"] >= seconds:
                own.stop()
                done.append(own)
                own = None
    return done


def tell(name: str, row: dict[str, Any]) -> None:
    print(
        f"{name}: {row['seconds']:.0f} s, {row['samples']:,} samples, valid NDCG@10 "
        f"{row['ndcg@10']:.4f} (load {os.getloadavg()[0]:.1f})",
        flush=True,
    )


def as_table(ours: list[Side], peer: Side) -> Table:
    table = Table(title="To the same validation NDCG@10, MovieLens-1M")
    for name in ("system", "samples/s", "per processor s", "best NDCG@10", "set-up s", "peak MiB"):
        table.add_column(name, justify="left" if name == "system" else "right")
    for side in (*ours, peer):
        rows = side.rows
        setup = rows[-1]["setup_s"] if "setup_s" in rows[-1] else side.ready["setup_s"]
        table.add_row(
            side.name,
            f"{samples_per_s(rows):,.0f}",
            f"{samples_per_s(rows, 'processor_s'):,.0f}",
            f"{max(row['ndcg@10'] for row in rows):.4f}",
            f"{setup:.0f}",
            f"{rows[-1]['peak_mib']:,.0f}",
        )
    return table


def main() -> None:
    """Make the data, train both, compare, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--target", type=float, default=0.1, help="validation NDCG@10")
    parser.add_argument("--seconds", type=float, default=600, help="of training, at most, of each")
    parser.add_argument("--seed", type=int, nargs="+", default=[42, 1, 2], help="of ours")
    parser.add_argument("--threads", type=int, default=1, help="of each")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--max-length", type=int, default=50)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--epochs", type=int, default=4, help="of ours; its learning rate's cosine")
    parser.add_argument("--batch-size", type=int, default=64, help="windows of ours")
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="of ours")
    parser.add_argument("--peer-batch-size", type=int, default=64, help="samples of RecBole's")
    parser.add_argument("--peer-learning-rate", type=float, default=1e-3)
    parser.add_argument("--every-steps", type=int, default=300, help="RecBole is measured")
    parser.add_argument("--recbole", type=Path, default=ROOT / ".venv-recbole" / "bin" / "python")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the figures")
    arguments = parser.parse_args()
    for needed in (arguments.data / "sequences.txt", arguments.recbole):
        if not needed.is_file():
            sys.exit(f"'{needed}' is missing: see `make bench-training` and {Path(__file__).name}")
    model = ModelConfig(
        dim=arguments.dim,
        layers=arguments.layers,
        heads=2,
        feedforward=4,
        max_length=arguments.max_length,
        dropout=arguments.dropout,
    )
    training = TrainingConfig(
        epochs=arguments.epochs,
        patience=arguments.epochs,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        warmup_epochs=0.3,
        threads=arguments.threads,
    )
    peer_settings = recbole_settings(model, arguments.peer_batch_size, arguments.peer_learning_rate)
    load_before = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_data(arguments.data, work)
        lengths = [len(own) - 2 for own in read_sequences(arguments.data).values()]
        with (work / "log").open("wb") as log:

            def ours(seed: int) -> Side:
                settings = {
                    "model": model.model_dump(),
                    "training": training.model_dump() | {"seed": seed},
                    "name": f"model-{seed}",
                    "samples_an_epoch": samples_an_epoch(lengths, model.max_length),
                }
                command = [sys.executable, "-m", "benchmarks.training_worker", str(work)]
                return Side(f"kuberec, seed {seed}", [*command, json.dumps(settings)], work, log)

            settings = {"threads": arguments.threads, "every_steps": arguments.every_steps}
            command = [str(arguments.recbole), str(ROOT / "benchmarks" / "training_recbole.py")]
            command += [str(work), json.dumps(settings | {"recbole": peer_settings})]
            judge = Judge(work / "windows")
            peer = Side("RecBole SASRec", command, work, log, judge)
            starts = [lambda seed=seed: ours(seed) for seed in arguments.seed]
            done = turns(peer, starts, arguments.target, arguments.seconds)
            last = peer.stop() or {}
    curves = [side.rows for side in done]
    targets = sorted({*TARGETS, arguments.target})
    reachable = [each for each in targets if each <= arguments.target]
    reachable = [each for each in reachable if all(reached(rows, each) for rows in curves)]
    compared = [to_quality(curves, peer.rows, each) for each in reachable]
    Console().print(as_table(done, peer))
    for found in compared:
        for clock in ("seconds", "processor_s"):
            print(finding(found, clock))
    kept = {
        "protocol": __doc__.split("\n\n", 2)[2].strip() if __doc__ else "",
        "model": model.model_dump(),
        "training": training.model_dump(),
        "recbole": {
            "settings": peer_settings,
            "ready": peer.ready,
            "rows": peer.rows,
            # RecBole's own figure of the weights that ours gave rows[-1]["unmasked_ndcg@10"].
            "own_metric": last.get("own_metric"),
        },
        "kuberec": [{"name": side.name, "ready": side.ready, "rows": side.rows} for side in done],
        "to_quality": compared,
        "load": {"before": load_before, "after": os.getloadavg()},
    }
    print(f"kept in {keep('training', PACKAGES, kept, arguments.results)}")


if __name__ == "__main__":
    main()
