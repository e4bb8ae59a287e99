"""One materialisation of benchmarks.feature_materialize, in a process of its own.

    python -m benchmarks.materialize_worker SYSTEM MODE TABLES HOME

With FEAST_FS_YAML_FILE_PATH set the rows go into the Redis that it names, else into SQLite in HOME.
"""

import contextlib
import io
import json
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.materialize_tables import LAST_US
from feature_repo.materialize.home import materialize
from feature_repo.store import import_feast, open_store, store_folder
from feature_repo.stores.layout import from_us

VIEW = "user_history"


def main() -> None:
    """Print {"seconds", "processor_s", "peak_mib", "written"}."""
    system, mode, tables, home = sys.argv[1:]
    import_feast()  # of both, before the clock
    run = ours if system == "kuberec" else stock
    prepared = run(Path(tables), Path(home), mode == "increment")
    started, processor = time.perf_counter(), time.process_time()
    written = prepared()
    seconds, processor_s = time.perf_counter() - started, time.process_time() - processor
    found = {"seconds": seconds, "processor_s": processor_s, "written": written}
    print(json.dumps(found | {"peak_mib": peak_mib()}))


def peak_mib() -> int:
    """Of this program; getrusage would tell its parent's, if that had more before the fork."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) // 1024


def ours(tables: Path, home: Path, increment: bool) -> Any:
    """All of it: the copy of the tables, what changed, rows, state, registry."""

    def run() -> int:
        result = materialize(tables, home, "v2" if increment else "v1")
        return int(result["views"][VIEW]["written"])

    return run


def stock(tables: Path, home: Path, increment: bool) -> Any:
    """FeatureStore.materialize of the one view; from the last event on, for an increment."""
    from feature_repo.entities import user
    from feature_repo.views import user_history

    folder = store_folder(home)
    folder.mkdir(parents=True, exist_ok=True)
    store = open_store(folder)
    store.apply([user, user_history(tables / "offline")])
    start = from_us(LAST_US) + timedelta(seconds=1) if increment else from_us(0)

    def run() -> None:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            store.materialize(start, from_us(LAST_US) + timedelta(days=30), feature_views=[VIEW])

    return run


if __name__ == "__main__":
    main()
