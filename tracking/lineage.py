"""The way from a served version to its data: registry, run, fingerprints, snapshot."""

from dataclasses import dataclass
from typing import Any

from tracking.registry import Registered
from tracking.store import Store, TrackingError, explained
from tracking.versions import CONFIG, SNAPSHOT, document


@dataclass(frozen=True)
class Lineage:
    """The way back, as far as it is written down.

    Attributes:
        version: the registered one.
        run: MLflow's record of the training: {"status", "started", "seconds", "git.sha", ..}.
        fingerprints: sha256 of "data", "windows", "vectors" and "model".
        config: the sections that the version depends on; empty where they are lost.
        snapshot: {"fingerprint", "files", "tables": {table: path}, "read", "kept", "rejected"}.
        lost: what could not be had, and why.
    """

    version: Registered
    run: dict[str, Any]
    fingerprints: dict[str, str]
    config: dict[str, Any]
    snapshot: dict[str, Any]
    lost: list[str]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "model": self.version.model,
            "registered": self.version.number,
            "version": self.version.version,
            "aliases": list(self.version.aliases),
            "created": self.version.created.isoformat(),
            "where": self.version.tags.get("where", ""),
            "run": self.run,
            "fingerprints": self.fingerprints,
            "config": self.config,
            "snapshot": self.snapshot,
            "lost": self.lost,
        }


def trace(store: Store, found: Registered) -> Lineage:
    """Follow a registered version back; what was deleted is said and leaves the rest."""
    lost: list[str] = []

    def read(name: str) -> dict[str, Any]:
        try:
            return dict(document(store, found, name))
        except TrackingError as error:
            lost.append(str(error))
            return {}

    suffix = "_fingerprint"
    fingerprints = {
        name.removesuffix(suffix): value
        for name, value in found.tags.items()
        if name.endswith(suffix)
    }
    return Lineage(
        found,
        _run(store, found.run, lost),
        fingerprints,
        read(CONFIG),
        _snapshot(read(SNAPSHOT)),
        lost,
    )


def _run(store: Store, run: str, lost: list[str]) -> dict[str, Any]:
    try:
        with explained(store):
            found = store.client.get_run(run)
    except TrackingError as error:
        lost.append(str(error))
        return {"id": run}
    tags = found.data.tags
    return {
        "id": run,
        "name": found.info.run_name,
        "status": found.info.status,
        "started_ms": found.info.start_time,
        "git.sha": tags.get("git.sha", "unknown"),
        "git.dirty": tags.get("git.dirty", "unknown"),
        "best_epoch": found.data.metrics.get("best/epoch"),
        "seconds": found.data.metrics.get("training/seconds"),
    }


def _snapshot(content: dict[str, Any]) -> dict[str, Any]:
    """Of snapshot.json what tells where the rows came from and how many there are."""
    if not content:
        return {}
    source = content.get("source", {})
    tables = {
        table: source[table].get("path") or (source[table].get("sql") or {}).get("table") or "SQL"
        for table in ("events", "items", "users")
        if isinstance(source.get(table), dict)
    }
    return {
        "fingerprint": content.get("fingerprint", ""),
        "files": source.get("files", ""),
        "engine": content.get("engine", ""),
        "tables": tables,
        "download": (source.get("download") or {}).get("url", ""),
        "read": content.get("read", {}),
        "kept": content.get("kept", {}),
        "rejected": {
            table: sum(reasons.values()) for table, reasons in content.get("rejected", {}).items()
        },
    }
