"""Opening MLflow's store: SQLite in the state home, or a server.

Only its client is used, which keeps no state of its own; importing it takes seconds, so that is
done when a store is opened. Its telemetry is off, and its log speaks of problems only.
"""

import fcntl
import logging
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recommender.errors import KuberecError
from recommender.files import ensure_writable
from tracking.settings import URI_VARIABLE, TrackingConfig, check_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDER, DATABASE, ARTIFACTS = "mlflow", "mlflow.db", "artifacts"
DEFAULT_NAME = "kuberec"  # where neither the section nor the run has a name
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",  # no word about a machine without git
    # MLflow's own would wait for a dead server for minutes, at every epoch.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
ANSWER_TIMEOUT_S = 20.0
_LOOK_HERE = "is it a home of this version of MLflow, writable, with space left?"
_LOOK_THERE = (
    "does it run, is the address right (tracking.uri), and are MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN) set, if it wants them?"
)


class TrackingError(KuberecError):
    """The tracking store cannot be used, or does not hold what was asked for."""


@dataclass(frozen=True)
class Store:
    """An open store.

    Attributes:
        uri: sqlite:///… or the server's address.
        experiment, model: the names that this run writes under.
        home: the state home.
    """

    client: "MlflowClient"
    uri: str
    experiment: str
    model: str
    home: Path

    @property
    def embedded(self) -> bool:
        return self.uri.startswith("sqlite:")

    @property
    def shown(self) -> str:
        """The store in a message."""
        return str(self.home / FOLDER) if self.embedded else self.uri

    def artifacts(self, run: str, path: str) -> Path | None:
        """Where an embedded store has a run's artifact, also when the home was moved."""
        found = self.home / FOLDER / ARTIFACTS / run / ARTIFACTS / path
        return found if self.embedded and found.exists() else None

    def experiment_id(self) -> str:
        """Of this run's experiment, which is made if there is none."""
        with explained(self):
            found = self.client.get_experiment_by_name(self.experiment)
            if found is None:
                place = (self.home / FOLDER / ARTIFACTS).as_uri() if self.embedded else None
                return str(self.client.create_experiment(self.experiment, place))
            if found.lifecycle_stage != "active":
                raise TrackingError(
                    f"experiment '{self.experiment}' of {self.shown} is deleted; restore it "
                    f"(MLFLOW_TRACKING_URI={self.uri} mlflow experiments restore --experiment-id "
                    f"{found.experiment_id}) or name another: tracking.experiment"
                )
            return str(found.experiment_id)


def tracking_uri(config: TrackingConfig, home: Path) -> str:
    """The section's server, or the environment's, or SQLite in `home`.

    Raises:
        TrackingError: the environment's is no server's.
    """
    said = config.uri or os.environ.get(URI_VARIABLE, "")
    if not said:
        return _own_uri(home)
    try:
        return check_uri(said)
    except ValueError as error:
        raise TrackingError(f"{URI_VARIABLE}={said}: {error}") from error


def _own_uri(home: Path) -> str:
    return f"sqlite:///{home / FOLDER / DATABASE}"


def exists(config: TrackingConfig, home: Path) -> bool:
    """Whether anything can be there: always on a server, here once something was tracked."""
    return not tracking_uri(config, home).startswith("sqlite:") or exists_own(home)


def exists_own(home: Path) -> bool:
    """Whether anything was tracked in the state home itself."""
    return (home / FOLDER / DATABASE).is_file()


def open_store(config: TrackingConfig, home: Path, own: bool = False) -> Store:
    """Open the store that `config` says; SQLite is made if there is none.

    Args:
        own: the state home's, whatever server the section or the environment names.

    Raises:
        TrackingError: the server does not answer, or refuses.
    """
    uri = _own_uri(home) if own else tracking_uri(config, home)
    if not uri.startswith("sqlite:"):
        _require_answer(uri)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if uri.startswith("sqlite:"):
        ensure_writable(home / FOLDER)
        with _one_at_a_time(home / FOLDER / ".making"):
            client = MlflowClient(uri, uri)
            client.search_experiments(max_results=1)  # makes or migrates the tables
    else:
        client = MlflowClient(uri, uri)
    named = config.named(DEFAULT_NAME)
    store = Store(client, uri, named.experiment, named.model, home)
    if not store.embedded:
        with explained(store):
            client.search_experiments(max_results=1)
    return store


def store_of(section: dict[str, Any], home: Path, say: Callable[[str], None]) -> Store | None:
    """A step's store: None where tracking is off, or cannot be had and is not required.

    Args:
        section: the run's `tracking` section.
        say: told what is not tracked, and why.
    """
    config = TrackingConfig.model_validate(section)
    if not config.enabled:
        return None
    try:
        return open_store(config, home)
    except TrackingError as error:
        if config.required:
            raise TrackingError(
                f"{error}\nto run without it: tracking.required=false, or tracking.enabled=false"
            ) from error
        say(f"not tracked: {error}")
        return None


@contextmanager
def explained(store: Store) -> Iterator[None]:
    """MLflow's errors as ours, with the store and what to look at."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        first = str(error).splitlines()[0][:300]
        ways = _LOOK_HERE if store.embedded else _LOOK_THERE
        raise TrackingError(f"MLflow at {store.shown}: {first}\n  {ways}") from error


def _require_answer(uri: str) -> None:
    """Whether anything is there, whatever it says, is known before MLflow is imported and retries.

    Raises:
        TrackingError: nothing listens, or nobody knows the host.
    """
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=ANSWER_TIMEOUT_S):
            return
    except urllib.error.HTTPError:
        return  # it wants a password, or lies behind a path of its own: MLflow's client will see
    except OSError as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):
            return  # its client may be told of another authority
        raise TrackingError(f"MLflow at {uri}: {reason}\n  {_LOOK_THERE}") from error


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Two processes must not make the tables at once."""
    with path.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
