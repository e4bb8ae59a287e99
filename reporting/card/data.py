"""The card's part on data: where it comes from, how much, what was dropped, whose it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recommender import schema


def period_of(snapshot: Path) -> tuple[str, str] | None:
    """Days (ISO, UTC) of the first and the last event of a snapshot; None without events.

    From the statistics that the parquet file carries; the column is read where it has none.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    path = schema.table_path(snapshot, "events")
    file = pq.ParquetFile(path)
    column = file.schema_arrow.names.index(schema.TIMESTAMP)
    groups = [file.metadata.row_group(index) for index in range(file.num_row_groups)]
    found = [group.column(column).statistics for group in groups if group.num_rows]
    if not found:
        return None
    if all(each is not None and each.has_min_max for each in found):
        first, last = min(each.min for each in found), max(each.max for each in found)
    else:
        both = pc.min_max(pq.read_table(path, columns=[schema.TIMESTAMP])[schema.TIMESTAMP])
        first, last = both["min"].as_py(), both["max"].as_py()
    return f"{first:%Y-%m-%d}", f"{last:%Y-%m-%d}"


def data_of(
    snapshot: Mapping[str, Any], features: Mapping[str, Any], period: tuple[str, str] | None
) -> dict[str, Any]:
    """Source, terms, counts, what was dropped and why, and privacy.

    Args:
        snapshot, features: contents of snapshot.json and features.json.
    """
    source, counts = snapshot["source"], features["counts"]
    return {
        "name": source["name"],
        "license": source.get("license"),
        "acknowledgement": source.get("acknowledgement"),
        "fingerprint": snapshot["fingerprint"],
        "period": list(period) if period else None,
        "tables": [
            {
                "table": table,
                "read": read,
                "kept": snapshot["kept"][table],
                "dropped": {
                    **snapshot["rejected"].get(table, {}),
                    **snapshot.get("filtered", {}).get(table, {}),
                },
            }
            for table, read in snapshot["read"].items()
        ],
        "changed": dict(snapshot.get("changed") or {}),
        "k_core": features["k_core"],
        "core": {name: counts[name] for name in ("users", "items", "events")},
        "all": {
            "users": counts["all_users"],
            "items": snapshot["kept"].get("items"),
            "events": counts["all_events"],
        },
        "history_length": features["history_length"],
        "privacy": _privacy(source.get("privacy") or {}),
    }


def _privacy(settings: Mapping[str, Any]) -> list[str]:
    """What was done for the people in the data, from source.privacy."""
    said = [
        "User ids are pseudonyms: HMAC-SHA256 with a secret key."
        if settings.get("user_key_env")
        else "User ids are those of the source; source.privacy.user_key_env makes pseudonyms."
    ]
    if days := settings.get("retention_days"):
        said.append(f"Events more than {days:g} days older than the newest one are dropped.")
    for table, columns in (settings.get("drop_columns") or {}).items():
        said.append(f"Columns of {table} that went no further: {', '.join(columns)}.")
    said += [
        "The model reads a user's items, in order, and no attribute of the user. A version's files "
        "hold no user ids; its golden requests are histories of a few users, without their ids.",
        "kuberec erase-user takes a person's rows out of data and stores; the weights forget them "
        "with the next training.",
    ]
    return said
