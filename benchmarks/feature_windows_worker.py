"""One system of the windows benchmark, in a process of its own: `… SYSTEM SNAPSHOT OUT CONFIG`.

Prints one JSON line: seconds, processor time, peak resident memory.
"""

import json
import resource
import sys
import time
from pathlib import Path

from feature_repo.config import FeatureConfig


def kuberec(snapshot: Path, out: Path, config: FeatureConfig) -> None:
    """What the step build-features does of users and events."""
    from feature_repo.offline.write import write_windows
    from recommender.engines.duckdb import DuckDBTables

    work = out / "work"
    work.mkdir(parents=True)
    engine = DuckDBTables(config.engine, work)
    write_windows(engine, snapshot, config, out)
    engine.close()


def by_hand(snapshot: Path, out: Path, config: FeatureConfig) -> None:
    from benchmarks.feature_windows_peer import by_hand as run

    run(snapshot, out, config)


def main() -> None:
    system, snapshot, out, content = sys.argv[1:]
    config = FeatureConfig.model_validate_json(content)
    started = time.perf_counter()
    {"kuberec": kuberec, "by hand": by_hand}[system](Path(snapshot), Path(out), config)
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {
        "seconds": seconds,
        "processor_s": used.ru_utime + used.ru_stime,
        "peak_mib": used.ru_maxrss / 1024,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
