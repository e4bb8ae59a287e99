"""One system of the ingestion benchmark, in a process of its own: `… SYSTEM SOURCE TARGET MEMORY`.

Prints one JSON line: seconds, peak resident memory, and what the system says of its work.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.ingest_events import MAX_EVENTS_A_DAY, REPEAT_WINDOW_S

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when GX is imported


def config(source: Path, memory: str) -> dict[str, Any]:
    """The `source` section for events of benchmarks.ingest_events."""
    return {
        "name": "synthetic shop",
        "events": {
            "path": str(source / "events-*.csv"),
            "format": "csv",
            "columns": {
                "user_id": "user",
                "item_id": "item",
                "timestamp": "ts",
                "event_type": "kind",
                "value": "amount",
            },
            "time_unit": "s",
        },
        "items": {
            "path": str(source / "items.jsonl"),
            "format": "jsonl",
            "columns": {"item_id": "item_id", "title": "title", "categories": "categories"},
            "text": "{description}",
        },
        "engine": {"memory": memory},
        "cleaning": {
            "repeat_window_s": REPEAT_WINDOW_S,
            "bots": {"max_events_per_day": MAX_EVENTS_A_DAY},
        },
    }


def kuberec(source: Path, target: Path, memory: str) -> dict[str, Any]:
    """Ingestion, then validation of what it wrote."""
    from ingestion.ingest import ingest
    from ingestion.sources import SourceConfig
    from ingestion.validation.run import validate
    from ingestion.validation.settings import ValidationConfig

    started = time.perf_counter()
    summary = ingest(SourceConfig.model_validate(config(source, memory)), target / "snapshot")
    ingested = time.perf_counter()
    report = validate(target / "snapshot", ValidationConfig(), target / "validation")
    return {
        "kept": summary["kept"],
        "rejected": summary["rejected"],
        "expectations": len(report["expectations"]),
        "parts": {"ingest": ingested - started, "validate": time.perf_counter() - ingested},
    }


def by_hand(source: Path, target: Path, memory: str) -> dict[str, Any]:
    from benchmarks.ingest_peers import by_hand as run

    return {"kept": run(source, target, memory)}


def gx_on(engine: str, snapshot: Path, memory: str) -> dict[str, Any]:
    from benchmarks import ingest_gx

    return {"ibis": ingest_gx.on_ibis, "pandas": ingest_gx.on_pandas}[engine](snapshot, memory)


def main() -> None:
    system, source, target, memory = sys.argv[1:]
    started = time.perf_counter()
    if system.startswith("gx on "):
        found = gx_on(system.removeprefix("gx on "), Path(source), memory)
    else:
        found = {"kuberec": kuberec, "by hand": by_hand}[system](Path(source), Path(target), memory)
    found["seconds"] = time.perf_counter() - started
    found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(found))


if __name__ == "__main__":
    main()
