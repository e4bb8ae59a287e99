"""`kuberec events push` and `kuberec events follow`: live events into the online store."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.events.options import (
    Config,
    EventTypes,
    MaxAhead,
    RejectsPath,
    TimeUnit,
    TimeZone,
    UserIds,
)
from pipelines.options import Overrides, console
from recommender.errors import KuberecError

app = typer.Typer(
    name="events",
    help="Live events: into the histories that the endpoint reads, without a run of the pipeline.",
    no_args_is_help=True,
)

_FORMAT = (
    'One JSON object a line: {"user_id": "u1", "item_id": "i9", "timestamp": '
    '"2026-11-27T10:00:00Z"}, and event_type or other columns that the source filters by.'
)


class Refused(KuberecError):
    """Events that could not be used."""


@app.command()
def push(
    file: Annotated[
        Path | None, typer.Argument(help="Events, one JSON object a line; - is standard input.")
    ] = None,
    user: Annotated[str | None, typer.Option("--user", "-u", help="Of one event.")] = None,
    item: Annotated[str | None, typer.Option("--item", "-i", help="Of one event.")] = None,
    at: Annotated[
        str | None, typer.Option("--time", "-t", help="Of one event; now, if not given.")
    ] = None,
    config: Config = None,
    overrides: Overrides = None,
    user_ids: UserIds = "source",
    event_types: EventTypes = None,
    time_unit: TimeUnit = "s",
    timezone: TimeZone = None,
    max_ahead_s: MaxAhead = 300.0,
    rejects: RejectsPath = None,
) -> None:
    """Put events into the online store: a file, standard input, or one event.

    kuberec events push events.jsonl

    kuberec events push --user u1 --item i9

    In any order, and as often as you like: the latest events count, each once, and an older one
    never takes the place of a newer one. Exit status 1 says that events were refused; the others
    are in.
    """
    from components.step import state_home
    from pipelines.events.opening import live_folder, open_intake, source_rules, time_rule
    from pipelines.events.push import push_lines, read_lines

    one = user is not None or item is not None or at is not None
    if one == (file is not None):
        raise KuberecError(
            "give a file of events (- for standard input), or one event by --user and --item. "
            + _FORMAT
        )
    home = state_home()
    times = time_rule(time_unit, timezone)
    rules = source_rules(home, _source(config, overrides), user_ids, tuple(event_types or ()))
    place = None if one else rejects or live_folder(home) / "rejects.jsonl"
    histories, intake = open_intake(home, rules, times, max_ahead_s, place)
    with histories:
        histories.open()  # before anything is read from a pipe
        if one:
            tally = intake.take([_one_line(user, item, at, event_types)])
        else:
            assert file is not None
            with _progress(file) as tell:
                tally = push_lines(intake, read_lines(file), tell)
    _show(tally)
    refused = tally.outcomes["refused"]
    if refused:
        where = f": they are in '{place}'" if place else ""
        raise Refused(f"{refused:,} of {tally.total:,} events were refused{where}")


@app.command()
def follow(
    file: Annotated[
        Path | None, typer.Argument(help="A file that something appends events to.")
    ] = None,
    topic: Annotated[str | None, typer.Option("--topic", help="A Kafka topic instead.")] = None,
    brokers: Annotated[
        str,
        typer.Option("--brokers", envvar="KUBEREC_KAFKA_BROKERS", help="host:port,… of Kafka."),
    ] = "localhost:9092",
    group: Annotated[
        str, typer.Option("--group", help="Consumers of one group share a topic's partitions.")
    ] = "kuberec-live",
    properties: Annotated[
        Path | None,
        typer.Option(
            "--kafka-properties",
            envvar="KUBEREC_KAFKA_PROPERTIES",
            help="File of name=value lines for the Kafka client: security.protocol, sasl.…",
        ),
    ] = None,
    from_end: Annotated[
        bool,
        typer.Option("--from-end", help="At the very first start, pass over what is there."),
    ] = False,
    state: Annotated[
        Path | None,
        typer.Option("--state", help="Where it is kept how far a file was read."),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option("--metrics-port", min=1, max=65535, help="Serve Prometheus metrics there."),
    ] = None,
    config: Config = None,
    overrides: Overrides = None,
    user_ids: UserIds = "source",
    event_types: EventTypes = None,
    time_unit: TimeUnit = "s",
    timezone: TimeZone = None,
    max_ahead_s: MaxAhead = 300.0,
    rejects: RejectsPath = None,
) -> None:
    """Follow a file or a Kafka topic, and put what comes into the online store within a second.

    kuberec events follow /var/log/shop/events.jsonl

    kuberec events follow --topic clicks --brokers kafka:9092 --metrics-port 9109

    It goes on where it was after any end, kill -9 included. While the store is down it waits and
    says so; nothing is dropped. Ctrl-C or SIGTERM ends it after the events at hand.
    """
    from components.step import state_home
    from pipelines.events.follow import follow as work
    from pipelines.events.follow import open_source
    from pipelines.events.opening import live_folder, open_intake, source_rules, time_rule

    if (file is None) == (topic is None):
        raise KuberecError("give a file to follow, or a Kafka topic by --topic. " + _FORMAT)
    home = state_home()
    times = time_rule(time_unit, timezone)
    rules = source_rules(home, _source(config, overrides), user_ids, tuple(event_types or ()))
    place = rejects or live_folder(home) / "rejects.jsonl"
    histories, intake = open_intake(home, rules, times, max_ahead_s, place)
    with (
        histories,
        open_source(
            file, topic, brokers, group, properties, from_end, state, live_folder(home)
        ) as source,
    ):
        tally = work(source, histories, intake, metrics_port, _say)
    _say(f"ended: {tally}")


def _source(config: Path | None, overrides: list[str] | None) -> Any:
    if config is None:
        if overrides:
            raise KuberecError("--set changes a value of a run's YAML: name it by --config")
        return None
    from pipelines.config import load_config

    return load_config(config, overrides or []).source


def _one_line(user: str | None, item: str | None, at: str | None, types: list[str] | None) -> Any:

    from feature_repo.live.intake import line_of
    from recommender.schema import EVENT_TYPE, ITEM_ID, TIMESTAMP, USER_ID

    if user is None or item is None:
        raise KuberecError("one event needs --user and --item")
    from datetime import UTC, datetime

    fields = {USER_ID: user, ITEM_ID: item}
    fields[TIMESTAMP] = at if at is not None else datetime.now(UTC).isoformat()
    if types:
        fields[EVENT_TYPE] = types[0]
    return line_of(fields, "the event")


def _progress(file: Path) -> Any:
    """A bar by bytes, on a terminal; yields what is told how many more were taken."""
    import contextlib

    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from pipelines.events.push import size_of

    @contextlib.contextmanager
    def shown() -> Any:
        columns = (TextColumn("push"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
            task = bars.add_task("push", total=size_of(file))
            yield lambda size: bars.advance(task, size)

    return shown()


def _show(tally: Any) -> None:
    console.print(str(tally), highlight=False, markup=False)
    for (outcome, reason), count in sorted(tally.reasons.items()):
        console.print(f"  {outcome}: {reason} ({count:,})", highlight=False, markup=False)
    if tally.untimed:
        console.print(
            f"  {tally.untimed:,} histories were written by an older version, without the times of "
            "their events: new events stand behind them; run the pipeline again for exact ones",
            markup=False,
        )


def _say(text: str) -> None:
    """A line of the consumer's log, at once."""
    from datetime import UTC, datetime

    typer.echo(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}")
