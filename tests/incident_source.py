"""A shop's exports as they come every day: events with a rhythm, items with texts; and broken ones.

Files are written from plain rows, so that a test breaks them as an export would.
"""

import csv
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ingestion.sources import SourceConfig

FIRST_DAY = datetime(2024, 3, 1, tzinfo=UTC)
DAYS, USERS, ITEMS, A_DAY = 30, 300, 120, 200
# Share of a day's events by the hour: night, morning, lunch, evening.
_RHYTHM = [1] * 6 + [2, 4, 6, 6, 6, 8, 10, 8, 6, 6, 8, 12, 16, 20, 20, 14, 6, 2]
_TITLES = ("Blue café table", "Wool scarf", "Crème brûlée dish", "Oak shelf", "Señor mug")
_GENRES = ("kitchen", "living", "clothes", "garden")


def _events() -> list[dict[str, str]]:
    """More people and more of the same items than chance: a long tail, seeded."""
    chance = random.Random(7)
    popular = [1 / (rank + 3) for rank in range(ITEMS)]
    active = [1 / (rank + 5) for rank in range(USERS)]
    rows = []
    for day in range(DAYS):
        for _ in range(A_DAY + chance.randrange(-20, 21)):
            hour = chance.choices(range(24), _RHYTHM)[0]
            at = FIRST_DAY + timedelta(days=day, hours=hour, seconds=chance.randrange(3600))
            rows.append(
                {
                    "user": str(1000 + chance.choices(range(USERS), active)[0]),
                    "item": str(500 + chance.choices(range(ITEMS), popular)[0]),
                    "at": at.isoformat(),
                    "kind": chance.choices(("view", "buy"), (9, 1))[0],
                    "rating": str(chance.choices((1, 2, 3, 4, 5), (1, 1, 3, 5, 4))[0]),
                    "page": f"/p/{chance.randrange(40)}",
                }
            )
    return sorted(rows, key=lambda row: row["at"])


def _items() -> list[dict[str, str]]:
    return [
        {
            "id": str(500 + item),
            "title": f"{_TITLES[item % len(_TITLES)]} no {item}",
            "genre": _GENRES[item % len(_GENRES)],
            "maker": f"maker {item % 9}",
        }
        for item in range(ITEMS)
    ]


@dataclass
class Export:
    """Rows of both files; `write` puts them where `config` reads them."""

    events: list[dict[str, str]] = field(default_factory=_events)
    items: list[dict[str, str]] = field(default_factory=_items)

    def write(self, folder: Path, **changes: Any) -> SourceConfig:
        folder.mkdir()
        for name, rows in (("events", self.events), ("items", self.items)):
            with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        return config(folder, **changes)


def config(folder: Path, quarantine: Any = None, **items: Any) -> SourceConfig:
    """The source of an export; `items` changes what is said of the items' file."""
    events = {
        "path": str(folder / "events.csv"),
        "format": "csv",
        "time_unit": "iso",
        "columns": {
            **{"user_id": "user", "item_id": "item", "timestamp": "at"},
            **{"event_type": "kind", "value": "rating"},
        },
    }
    catalogue = {
        "path": str(folder / "items.csv"),
        "format": "csv",
        "columns": {"item_id": "id", "title": "title", "categories": "genre"},
    }
    return SourceConfig.model_validate(
        {
            **{"name": "shop", "events": events, "items": catalogue | items},
            "quarantine": quarantine or {},
        }
    )
