"""`kuberec features status`: the feature store's state on the screen, as JSON, as metrics."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines.erase.report import counted
from recommender.errors import KuberecError

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def print_status(
    home: Path, console: Console, *, as_json: bool, exact: bool, prometheus: Path | None
) -> None:
    """Read the status of a state home's feature store, and show it.

    Raises:
        KuberecError: no store, or one that does not answer (`prometheus` then says that it is
            down); or a `prometheus` that no collector would read.
    """
    from feature_repo.status.status import read_status

    if prometheus and prometheus.suffix != ".prom":
        raise KuberecError(
            f"--prometheus '{prometheus}': node_exporter reads files that end in .prom alone; "
            "name such a one"
        )
    with Console(stderr=True).status("feature store") as waiting:
        try:
            found = read_status(home, exact, waiting.update)
        except KuberecError:
            if prometheus:
                write_metrics(None, prometheus)
            raise
    if prometheus:
        write_metrics(found, prometheus)
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        show_status(found, console)


def show_status(found: dict[str, Any], console: Console) -> None:
    """One line a view."""
    place = found["environment"]
    online, registry = place["online"], place["registry"]
    console.print(
        f"online {online['type']} at {online['where']}, registry {registry['type']} at "
        f"{registry['where']}, project {place['project']}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False)
    for name in ("view", "rows", "newest event", "behind offline", "materialised", "owner"):
        # On a narrow screen what is a name stays whole, and the rest takes several lines.
        named = name in ("view", "rows", "materialised")
        table.add_column(
            name,
            justify="right" if name == "rows" else "left",
            min_width=len(name) if named else None,
            no_wrap=name in ("view", "rows"),
        )
    table.add_column("read by", overflow="fold")
    for view in found["views"]:
        table.add_row(*(_escape(cell) for cell in _cells(view, found["now"])))
    console.print(table)


def _cells(view: dict[str, Any], now: str) -> list[str]:
    readers = view["versions"][-3:] + [
        name for name in view["services"] if not name.startswith("recommend_")
    ]
    older = len(view["versions"]) - 3
    read_by = ", ".join(readers) + (f" and {older} older" if older > 0 else "")
    if view["kind"] == "on demand":
        return [view["name"], "", "on demand", "", "", view["owner"] or "–", read_by]
    lag = f"{_long(view['lag_s'])} ago" if view["lag_s"] is not None else "–"
    behind = view["behind_s"]
    materialised = "–"
    if view["materialized_at"]:
        ago = datetime.fromisoformat(now) - datetime.fromisoformat(view["materialized_at"])
        materialised = f"{_long(ago.total_seconds())} ago"
        if view["materialized_rows"] is not None:
            materialised += f", {counted(view['materialized_rows'], 'row')}"
    if view["under_way_rows"] is not None:
        materialised += f"; under way or killed, {counted(view['under_way_rows'], 'row')} in"
    return [
        view["name"],
        ("" if view["rows_exact"] else "~") + f"{view['rows']:,}",
        lag if view["rows_exact"] or lag == "–" else f"≤ {lag}",
        "–" if behind is None else "no" if behind <= 0 else _long(behind),
        materialised,
        view["owner"] or "–",
        read_by or "–",
    ]


def _long(seconds: float) -> str:
    seconds = max(0.0, seconds)
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:,.0f} {name}"
    return f"{seconds:.0f} s"


def _escape(text: str) -> str:
    return text.replace("[", "\\[")


def write_metrics(found: dict[str, Any] | None, target: Path) -> None:
    """The numbers as a file for node_exporter's textfile collector; None: the store is down.

    It is replaced whole, so the collector never reads half of one.
    """
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

    registry = CollectorRegistry()

    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"kuberec_feature_{name}", text, labels, registry=registry)

    gauge("store_up", "1 if the feature store answered").set(0 if found is None else 1)
    if found is not None:
        taken = gauge("status_timestamp_seconds", "When these numbers were taken")
        taken.set(datetime.fromisoformat(found["now"]).timestamp())
        info = gauge("view_info", "The views, and who owns them", "view", "owner")
        rows = gauge("view_rows", "Rows online", "view")
        times = {
            "newest_event": gauge(
                "view_newest_event_timestamp_seconds", "Event time of the newest row online", "view"
            ),
            "covered_until": gauge(
                "view_covered_until_timestamp_seconds", "Newest event materialised", "view"
            ),
            "offline_until": gauge(
                "view_offline_until_timestamp_seconds", "Newest event of the offline table", "view"
            ),
            "materialized_at": gauge(
                "view_materialized_timestamp_seconds", "Last materialisation", "view"
            ),
        }
        for view in found["views"]:
            info.labels(view["name"], view["owner"]).set(1)
            if view["rows"] is not None:
                rows.labels(view["name"]).set(view["rows"])
            for key, each in times.items():
                if view[key]:
                    each.labels(view["name"]).set(datetime.fromisoformat(view[key]).timestamp())
    try:
        write_to_textfile(str(target), registry)
    except OSError as error:
        raise KuberecError(f"'{target}' cannot be written: {error.strerror}") from error
