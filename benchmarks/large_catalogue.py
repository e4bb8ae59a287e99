"""Scoring graphs for large catalogues: two stages beside every item, on made-up clustered items.

    python -m benchmarks.large_catalogue [--items 1000000 5000000] [--folder SCRATCH]

Items lie around topics, topics around themes, with norms of their own; a user's state is near the
last item read (the model's blocks add little), as trained models' are. Each graph is opened and
asked in a process of its own, one thread, one request at a time. Writes
results/large_catalogue.json.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import keep

K, SEEN, LENGTH, DIM, REQUESTS = 100, 128, 50, 64, 100
PROBES = (16, 64, 256)
CELL = 256


def clustered_rows(items: int, seed: int = 0) -> np.ndarray:
    """float32 [items + 1, DIM]: 100 themes, a topic for every 200 items, and what is an item's."""
    rng = np.random.default_rng(seed)
    themes = rng.standard_normal((100, DIM), np.float32)
    topics = 0.8 * rng.standard_normal((items // 200, DIM), np.float32)
    topics += themes[rng.integers(0, len(themes), len(topics))]
    rows = rng.standard_normal((items + 1, DIM), np.float32)
    rows += topics[rng.integers(0, len(topics), items + 1)]
    rows *= np.exp(0.15 * rng.standard_normal((items + 1, 1), np.float32)) / DIM**0.5
    return rows


def requests(items: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    history = rng.integers(1, items + 1, (REQUESTS, LENGTH))
    for row, length in enumerate(rng.integers(2, LENGTH + 1, REQUESTS)):
        history[row, :-length] = 0
    return history, np.pad(history, ((0, 0), (SEEN - LENGTH, 0)))


def write(items: int, folder: Path) -> dict[str, dict[str, Any]]:
    """The graphs of one catalogue, by name, with what making them took."""
    import torch

    from recommender.export import Ranker, write_ranker
    from recommender.graph_trim import trim_file
    from recommender.large_catalogue import TwoStageRanker
    from recommender.model import SequentialRecommender
    from recommender.opsets import OPSET
    from recommender.settings import ModelConfig
    from recommender.settings.export import TwoStageConfig

    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = ModelConfig(dim=DIM, layers=2, heads=2, max_length=LENGTH)
    popularity = -torch.arange(items + 1.0).log1p()
    model = SequentialRecommender(config, torch.zeros(items + 1, 0), popularity).eval()
    for weight in model.backbone.parameters():
        torch.nn.init.normal_(weight, std=0.02)
    model.id_embedding.weight.data = torch.from_numpy(clustered_rows(items))
    made: dict[str, dict[str, Any]] = {}

    def put(name: str, ranker: torch.nn.Module, at_most: bool, **about: Any) -> None:
        path, begin = folder / name, time.process_time()
        write_ranker(ranker.eval(), model, path, SEEN, OPSET, at_most=at_most)
        if path.is_file():
            trim_file(path, seen=at_most)  # as compression does with two stages
        files = [path] if path.is_file() else list(path.iterdir())
        size = sum(file.stat().st_size for file in files)
        made[name] = about | {"bytes": size, "export_cpu_s": round(time.process_time() - begin, 1)}

    put("exact", Ranker(model, K), False)
    for int8 in (True, False) if items <= 1_000_000 else (True,):
        begin = time.process_time()
        settings = TwoStageConfig(cell_items=CELL, probes=max(PROBES), int8=int8)
        ranker = TwoStageRanker(model, K, SEEN, settings)
        seconds = round(time.process_time() - begin, 1)
        for probes in PROBES if int8 else (64,):
            ranker.probes = probes
            about = {
                "probes": probes,
                "int8": int8,
                "cells": len(ranker.size),
                "cells_cpu_s": seconds,
            }
            put(f"two-stage {probes}{'' if int8 else ' float32'}", ranker, True, **about)
    return made


def ask(graph: Path, items: int, answers: Path) -> None:
    """Print what one graph costs; its answers go to a file."""
    from recommender.onnx_session import open_session  # without torch, whose memory is not theirs

    begin = time.perf_counter()
    session = open_session(graph)
    opened = time.perf_counter() - begin
    history, seen = requests(items)
    asked = [
        {"history_ids": history[row : row + 1], "seen_ids": seen[row : row + 1]}
        for row in range(REQUESTS)
    ]
    session.run(None, asked[0])
    found, seconds, busy = [], [], []
    for each in asked:
        begin, cpu = time.perf_counter(), time.thread_time()
        found.append(session.run(["item_indices"], each)[0])
        seconds.append(time.perf_counter() - begin)
        busy.append(time.thread_time() - cpu)  # what it costs where others want the core too
    np.save(answers, np.concatenate(found))
    p50, p99 = np.percentile(seconds, [50, 99]) * 1000
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {"p50_ms": p50, "p99_ms": p99, "cpu_p50_ms": float(np.median(busy)) * 1000}
    print(json.dumps(figures | {"peak_mib": peak, "open_s": opened}))


def measure(items: int, folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    # Made in a process that is gone when they are asked: its memory is not theirs.
    made = json.loads(_own("--write", str(items), "--folder", str(folder)))
    for name, about in made.items():
        answers = folder / f"{name}.npy"
        figures = json.loads(_own("--ask", str(folder / name), str(items), str(answers)))
        rows.append({"items": items, "graph": name} | about | figures)
        exact, found = np.load(folder / "exact.npy"), np.load(answers)
        common = [len(set(a) & set(b)) / K for a, b in zip(exact, found, strict=True)]
        rows[-1]["recall_at_100"] = float(np.mean(common))
        rows[-1]["recall_at_10_of_exact"] = float(
            np.mean([len(set(a[:10]) & set(b)) / 10 for a, b in zip(exact, found, strict=True)])
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def _own(*arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks.large_catalogue", *arguments]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return out.strip().splitlines()[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[1_000_000, 5_000_000])
    parser.add_argument("--folder", type=Path, help="for the graphs, which are removed")
    parser.add_argument("--write", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--ask", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        print(json.dumps(write(options.write, options.folder)))
        return
    if options.ask:
        ask(Path(options.ask[0]), int(options.ask[1]), Path(options.ask[2]))
        return
    rows: list[dict[str, Any]] = []
    for items in options.items:
        with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
            rows += measure(items, Path(scratch))
    shape = {"dim": DIM, "length": LENGTH, "k": K, "seen": SEEN, "requests": REQUESTS, "cell": CELL}
    print(
        keep("large_catalogue", ("onnxruntime", "torch", "numpy"), {"shape": shape, "rows": rows})
    )


if __name__ == "__main__":
    main()
