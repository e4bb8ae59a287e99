"""A folder in which the command line runs on a slice of MovieLens-100K.

The slice is cut from the data wheel: the 150 users with the shortest histories, the 250 most
popular items.
"""

import collections
import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from quick_rollouts import quick_rollout

from recommender.files import read_json
from serving.ports import free_ports

KUBEREC = Path(sys.executable).parent / "kuberec"
USERS, ITEMS, RUN_TIMEOUT_S = 150, 250, 280


def steps_from_cache(screen: str) -> set[str]:
    """Names of the steps that a run took from its cache, by what it printed."""
    return set(re.findall(r"^ +([\w-]+) .*taken from the cache", screen, re.MULTILINE))


@dataclass
class Workplace:
    """A folder with a slice, a config, and the command line in it."""

    folder: Path
    port: int

    def kuberec(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(KUBEREC), *arguments],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT_S,
        )

    def environment(self) -> dict[str, str]:
        return {k: v for k, v in os.environ.items() if not k.startswith("KUBEREC_")}

    def runs(self) -> list[Path]:
        return sorted(path for path in (self.folder / "runs").iterdir() if path.is_dir())

    def summary(self) -> dict:
        """Of the latest run that has one."""
        return read_json(sorted(self.folder.glob("runs/*/summary.json"))[-1])


@contextmanager
def workplace(folder: Path) -> Iterator[Workplace]:
    """With its slice and config; at the end what serves is stopped, and nothing is left of it."""
    port, admin_port = free_ports(2)
    write_slice(folder)
    write_config(folder, port, admin_port)
    place = Workplace(folder, port)
    yield place
    stopped = place.kuberec("stop")
    assert stopped.returncode == 0, stopped.stderr
    left = subprocess.run(["pgrep", "-af", str(folder)], capture_output=True, text=True).stdout
    assert left == ""


def write_slice(folder: Path) -> None:
    """events.tsv, items.tsv and users.tsv from the wheel's files, which keep their headers."""
    recbole = importlib.metadata.distribution("recbole")

    def read(name: str) -> tuple[str, list[list[str]]]:
        path = Path(str(recbole.locate_file(f"recbole/dataset_example/ml-100k/ml-100k.{name}")))
        header, *rows = path.read_text(encoding="utf-8").splitlines()
        return header, [row.split("\t") for row in rows]

    header, events = read("inter")
    popular = {item for item, _ in collections.Counter(e[1] for e in events).most_common(ITEMS)}
    events = [event for event in events if event[1] in popular]
    counts = collections.Counter(event[0] for event in events)
    users = {user for user, count in sorted(counts.items(), key=lambda e: e[1]) if count >= 12}
    users = set(sorted(users, key=lambda user: (counts[user], user))[:USERS])
    for name, head, rows in (
        ("events", header, [event for event in events if event[0] in users]),
        ("items", *_those(read("item"), popular)),
        ("users", *_those(read("user"), users)),
    ):
        lines = [head, *("\t".join(row) for row in rows)]
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _those(table: tuple[str, list[list[str]]], ids: set[str]) -> tuple[str, list[list[str]]]:
    return table[0], [row for row in table[1] if row[0] in ids]


def write_config(folder: Path, port: int, admin_port: int) -> None:
    root = Path(__file__).resolve().parents[1]
    config = yaml.safe_load((root / "pipelines/configs/movielens-100k.yaml").read_text())
    config["name"] = "slice"
    for table in ("events", "items", "users"):
        del config["source"][table]["package"]
        config["source"][table]["path"] = str(folder / f"{table}.tsv")
    config |= {
        "validation": {},
        # float32 everywhere: processors that know bfloat16 would use it, and others not.
        "training": {
            "epochs": 16,
            "patience": 16,
            "seed": 7,
            "average_decay": 0.9,
            "precision": "float32",
        },
        "model": {"dim": 32, "layers": 1, "max_length": 50},
        # On so little data nothing is expected to beat a baseline or to keep its quality.
        "evaluation": {"min_ndcg_margin": -1, "min_ndcg": 0.0, "min_hr": 0.0},
        "compression": {
            "max_quality_loss": 1.0,
            "min_speedup": 0.01,
            "min_size_ratio": 1.0,
            "steps": [
                {"step": "distil", "epochs": 2, "dim": 16, "heads": 1},
                {"step": "quantise"},
            ],
        },
        "export": {
            "k": 20,
            "max_seen": 200,
            "parity": {"served": {"min_overlap": 0.2, "min_top_10_overlap": 0.2}},
        },
        "serving": {
            "port": port,
            "admin_port": admin_port,
            "rollout": quick_rollout(25, 100, bake_s=2).model_dump(mode="json"),
        },
    }
    (folder / "slice.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
